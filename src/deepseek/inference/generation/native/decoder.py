"""A decoder that computes steps of few tokens, on the paged cache of another model's."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.inference.generation.native.packing import EMBEDDING, FILE, FINAL_NORM, HEAD, NORMS, PARTS
from deepseek.inference.generation.paged.blocks import BLOCK, blocks_for
from deepseek.inference.generation.paged.model import Piece
from deepseek.memory import free_memory
from deepseek.native.library import Source, processor_flags

if TYPE_CHECKING:
    import torch

MOST = 32
"""Tokens of a pass, all sequences together."""
SOURCE = Source(
    Path(__file__).with_name("decoder.c"),
    needs=("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "f16c", "fma"),
)
WITHOUT_TILES = 128
"""Tokens of a step, in several passes, that C computes faster than OpenVINO on a processor without AMX (Zen 4,
SmolLM2-135M: 64 streams in 51 ms, OpenVINO 75; a prompt of 256 takes as long in both)."""
_SHARE = 0.25
"""Of the free memory, what a second set of weights may take."""


class _Matrix(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("data", "scale", "bias")] + [
        (name, ctypes.c_int64) for name in ("rows", "columns", "bits")
    ]


class _Layer(ctypes.Structure):
    _fields_ = [(name, _Matrix) for name in PARTS] + [(name, ctypes.c_void_p) for name in NORMS]


_SIZES = ("layers", "hidden", "heads", "kv_heads", "head_size", "inner", "threads")


class _Decoder(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        ("epsilon", ctypes.c_float), ("rotary_scale", ctypes.c_float),
        ("frequencies", ctypes.c_void_p), ("final_norm", ctypes.c_void_p),
        ("embedding", _Matrix), ("head", _Matrix), ("layer", ctypes.POINTER(_Layer)),
    ]  # fmt: skip


class _Step(ctypes.Structure):
    _fields_ = [
        ("tokens", ctypes.c_int64), ("wanted", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("ids", "places", "blocks", "rows", "keys", "values", "logits")),
    ]  # fmt: skip


def fast_up_to() -> int:
    """Tokens of a step up to which passes of :data:`MOST` are the faster way here."""
    return MOST if "amx_int8" in processor_flags() else WITHOUT_TILES


def few_tokens(folder: Path, threads: int) -> FewTokens | None:
    """The decoder in ``folder``; ``None`` where there is none, the C source does not run, or memory is short."""
    file = folder / FILE
    if not file.is_file() or file.stat().st_size > _SHARE * free_memory("cpu"):
        return None
    compiled = SOURCE.library()
    return None if compiled is None else FewTokens(compiled, file, threads)


class FewTokens:
    """Weights that are mapped from ``file``, and the C source's pass over them.

    Attributes:
        weight_bytes: that a step reads.
        block: sizes of a block of a layer's keys, and of its values: heads, tokens, a head's size.
    """

    def __init__(self, compiled: ctypes.CDLL, file: Path, threads: int) -> None:
        from safetensors import safe_open

        with safe_open(file, framework="pt") as stored:
            about: dict[str, Any] = json.loads(stored.metadata()["about"])
            self._tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
        self.weight_bytes = sum(each.nbytes for each in self._tensors.values())
        tied = about.pop("tied")
        self._layers = (_Layer * about["layers"])(*(self._layer(number) for number in range(about["layers"])))
        embedding = self._matrix(EMBEDDING)
        if not tied:
            self.weight_bytes -= self._tensors[f"{EMBEDDING}.data"].nbytes
        self._decoder = _Decoder(
            **about,
            inner=self._layers[0].gate.rows,
            threads=threads,
            frequencies=self._address("frequencies"),
            final_norm=self._address(f"{FINAL_NORM}.weight"),
            embedding=embedding,
            head=embedding if tied else self._matrix(HEAD),
            layer=self._layers,
        )
        self.block = (about["kv_heads"], BLOCK, about["head_size"])
        self._run = compiled.deepseek_decode
        self._run.argtypes, self._run.restype = [ctypes.POINTER(_Decoder), ctypes.POINTER(_Step)], ctypes.c_int

    def attach(self, keys: Sequence[int], values: Sequence[int]) -> None:
        """Take a cache: addresses of each layer's keys and values, bfloat16 (blocks, kv heads, 32, head size)."""
        addresses = ctypes.c_void_p * len(keys)
        self._keys, self._values = addresses(*keys), addresses(*values)

    def forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """As :meth:`PagedModel.forward`, for pieces of at most :data:`MOST` tokens together."""
        import numpy as np
        import torch

        ids: list[int] = []
        places: list[int] = []
        blocks: list[int] = []
        rows: list[int] = []
        held = []  # until the call is over
        for piece in pieces:
            own = np.array(piece.blocks[: blocks_for(piece.start + len(piece.ids))], np.int32)
            held.append(own)
            ids += piece.ids
            places += range(piece.start, piece.start + len(piece.ids))
            blocks += [own.ctypes.data] * len(piece.ids)
            rows += range(len(ids) - piece.rows, len(ids))
        given = [np.array(each, np.int64) for each in (ids, places, blocks, rows)]
        logits = torch.empty(len(rows), self._decoder.head.rows)
        step = _Step(
            len(ids), len(rows), *(each.ctypes.data for each in given),
            ctypes.addressof(self._keys), ctypes.addressof(self._values), logits.data_ptr(),
        )  # fmt: skip
        if self._run(ctypes.byref(self._decoder), ctypes.byref(step)):
            raise MemoryError("no memory for a step of a few tokens")
        return logits

    def _layer(self, number: int) -> _Layer:
        prefix = f"model.layers.{number}."
        matrices = {name: self._matrix(prefix + part) for name, part in PARTS.items()}
        return _Layer(**matrices, **{name: self._address(f"{prefix}{part}.weight") for name, part in NORMS.items()})

    def _matrix(self, name: str) -> _Matrix:
        data = self._tensors[f"{name}.data"]
        blocks, groups, size = data.shape
        return _Matrix(
            data.data_ptr(), self._address(f"{name}.scale"), self._address(f"{name}.bias"),
            16 * blocks, 32 * groups, 4 if size == 320 else 8,
        )  # fmt: skip

    def _address(self, name: str) -> int | None:
        found = self._tensors.get(name)
        return None if found is None else found.data_ptr()

"""A packed encoder with its head, as an executable."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.conversion.feeding import arrays
from deepseek.inference.conversion.keeping import read_about
from deepseek.inference.native.weights import DEEP, EMBEDDINGS, FILE, FORM, NORMS, PAIR, PARTS

if TYPE_CHECKING:
    import torch

    from deepseek.tasks.base import Generated

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_STORED = ("data", "scale", "bias", "smooth")


class _Matrix(ctypes.Structure):
    _fields_ = [(n, ctypes.c_void_p) for n in (*_STORED, "low")] + [(n, ctypes.c_int64) for n in ("rows", "columns")]


class _Layer(ctypes.Structure):
    _fields_ = [(n, _Matrix) for n in PARTS] + [
        (f"{n}_{k}", ctypes.c_void_p) for n in NORMS for k in ("weight", "bias")
    ]


class _Encoder(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_int64) for n in ("layers", "hidden", "heads", "head_size", "inner", "threads", "tiles")),
        ("epsilon", ctypes.c_float),
        *((n, ctypes.c_void_p) for n in (*EMBEDDINGS, "weight", "bias")),
        ("layer", ctypes.POINTER(_Layer)),
    ]


class _Batch(ctypes.Structure):
    _fields_ = [("count", ctypes.c_int64)] + [(n, ctypes.c_void_p) for n in ("starts", "ids", "places", "types", "out")]


class NativeEncoder:
    """Runs batches of any shape; padding is left out of all that is computed. Threads may share it.

    Args:
        compiled: the C source.
        folder: what :func:`deepseek.inference.native.weights.quantized` wrote.
        threads: of one batch.
        tiles: whether AMX multiplies, where the processor has it; AVX-512's lanes do without.

    Raises:
        ConfigError: another version wrote the folder.
    """

    def __init__(self, compiled: ctypes.CDLL, folder: Path, threads: int, *, tiles: bool = True) -> None:
        from safetensors import safe_open

        about = read_about(folder)
        if (form := about.get("form")) != FORM:
            raise ConfigError(
                f"the int8 copy is of the form {form!r}, this version reads {FORM!r}; `deepseek quantize BUNDLE ROWS "
                "--runtime native` makes it again"
            )
        with safe_open(folder / FILE, framework="pt") as stored:
            self._tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
        tiles = tiles and bool(compiled.deepseek_encoder_tiles())
        self.context_length: int | None = about["context_length"]
        self._head, self._hidden, self._first_place = about["head"], about["hidden"], about["first_place"]
        self._vocabulary, self._types = (len(self._tensors[name]) for name in ("words", "types"))
        self._places = len(self._tensors["places"])
        if not tiles:
            self._add_low(compiled)
        self._layers = (_Layer * about["layers"])(*(self._layer(number) for number in range(about["layers"])))
        self._encoder = _Encoder(
            threads=threads,
            tiles=tiles,
            head_size=about["hidden"] // about["heads"],
            layer=self._layers,
            **{name: about[name] for name in ("layers", "hidden", "heads", "inner", "epsilon")},
            **{name: self._address(name) for name in (*EMBEDDINGS, "weight", "bias")},
        )
        self._run = compiled.deepseek_encode
        self._run.argtypes, self._run.restype = [ctypes.POINTER(_Encoder), ctypes.POINTER(_Batch)], ctypes.c_int

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        import torch
        import torch.nn.functional as F

        with torch.inference_mode():
            hidden = self._states(batch)
            if self._head == "token-classification":
                return {"logits": F.linear(hidden, self._tensors["head.out.weight"], self._tensors["head.out.bias"])}
            pool = [self._tensors.get(f"head.pool.{kind}") for kind in ("weight", "bias")]
            pooled = None if pool[0] is None else F.linear(hidden[:, 0], *pool).tanh_()
            if self._head == "none":
                found = {"last_hidden_state": hidden}
                return found if pooled is None else {**found, "pooler_output": pooled}
            return {"logits": F.linear(pooled, self._tensors["head.out.weight"], self._tensors["head.out.bias"])}

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        raise ConfigError("the runtime 'native' does not generate text; use 'torch'")

    def _states(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Last hidden states, (rows, tokens, E); zeros at padding."""
        import numpy as np
        import torch

        given = arrays(batch, INPUTS)
        ids, mask, types = (given[name] for name in INPUTS)
        there = mask.astype(bool)
        if self._first_place is None:
            places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        else:
            real = ids != self._first_place
            places = np.cumsum(real, axis=1) * real + self._first_place
        starts = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int64)
        flat = [np.ascontiguousarray(each[there], np.int64) for each in (ids, places, types)]
        for each, most, name in zip(
            flat, (self._vocabulary, self._places, self._types), ("token", "place", "type"), strict=True
        ):
            if len(each) and not 0 <= int(each.min()) <= int(each.max()) < most:
                raise ConfigError(
                    f"expected {name} numbers from 0 to {most - 1}, received {int(each.min())} to {int(each.max())}"
                )
        out = torch.empty(len(flat[0]), self._hidden)
        step = _Batch(len(ids), starts.ctypes.data, *(each.ctypes.data for each in flat), out.data_ptr())
        if len(out) and self._run(ctypes.byref(self._encoder), ctypes.byref(step)):
            raise MemoryError(f"no memory for a batch of {len(ids)} rows and {len(out)} tokens")
        if there.all():
            return out.view(*ids.shape, self._hidden)
        whole = torch.zeros(*ids.shape, self._hidden)
        whole[torch.from_numpy(there)] = out
        return whole

    def _layer(self, number: int) -> _Layer:
        norms = {f"{n}_{k}": self._address(f"{number}.{n}.{k}") for n in NORMS for k in ("weight", "bias")}
        return _Layer(**{name: self._matrix(f"{number}.{name}") for name in PARTS}, **norms)

    def _matrix(self, name: str) -> _Matrix:
        data = self._tensors[f"{name}.data"]
        pointers = (self._address(f"{name}.{n}") for n in (*_STORED, "low"))
        return _Matrix(*pointers, PAIR * data.shape[0], DEEP * data.shape[1])

    def _add_low(self, compiled: ctypes.CDLL) -> None:
        """What is taken off each matrix's outputs because lanes multiply tokens that are 128 higher, int32 (N)."""
        import torch

        fill = compiled.deepseek_encoder_low
        fill.argtypes, fill.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p], None
        for name, data in [(n, t) for n, t in self._tensors.items() if n.endswith(".data")]:
            rows, columns = PAIR * data.shape[0], DEEP * data.shape[1]
            low = self._tensors[f"{name.removesuffix('.data')}.low"] = torch.empty(rows, dtype=torch.int32)
            fill(data.data_ptr(), rows, columns, low.data_ptr())

    def _address(self, name: str) -> int | None:
        found = self._tensors.get(name)
        return None if found is None else found.data_ptr()

"""One call of the C source: a text's attention to its neighbourhood and to the blocks that were chosen."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from deepseek.models.attention.blocks import BlockLayout
from deepseek.native.library import Source

NEEDS = ("avx512f", "avx512bw", "avx512vl", "avx512dq")
FILE = Path(__file__).with_name("attention.c")
SOURCES = {torch.bfloat16: Source(FILE, NEEDS), torch.float32: Source(FILE, NEEDS, ("WIDE",))}
MULTIPLES = {torch.bfloat16: 32, torch.float32: 16}
"""What the features of queries and keys have to be a multiple of."""
_NUMBERS = ("groups", "heads", "tokens", "blocks", "width", "features", "content", "values", "slots", "choices",
            "distances", "local", "causal", "threads", "tiles")  # fmt: skip


class _Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in "qkv"),
        *((f"{name}_{step}", ctypes.c_int64) for name in "qkv" for step in ("text", "head", "row")),
        ("s", ctypes.c_void_p), ("r", ctypes.c_void_p),
        ("slot", ctypes.c_void_p), ("slots_step", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("choice", "bucket", "hidden", "out")),
        *((f"out_{step}", ctypes.c_int64) for step in ("text", "head", "row")),
        ("mass", ctypes.c_void_p),
    ]  # fmt: skip


def has_tiles() -> bool:
    """Whether AMX's tiles multiply here."""
    library = _library(torch.bfloat16)
    return library is not None and bool(library.deepseek_attention_tiles())


def precision_taken(x: Tensor) -> bool:
    """Whether the C sources compute with such numbers here.

    Not while a graph is traced, operations are counted or tensors are fake: what C does would not be seen, and a fake
    tensor has no numbers. In bfloat16 only with tiles: without them PyTorch spends its time in products, not between.
    """
    if torch.compiler.is_compiling() or is_in_torch_dispatch_mode() or type(x) not in (Tensor, nn.Parameter):
        return False
    if x.device.type != "cpu" or x.dtype not in SOURCES:
        return False
    return has_tiles() if x.dtype == torch.bfloat16 else _library(x.dtype) is not None


def native_takes(q: Tensor, v: Tensor, layout: BlockLayout) -> bool:
    """Whether the C source computes attention of these tensors here."""
    return (
        precision_taken(q)
        and layout.width % 32 == 0
        and q.shape[-1] % MULTIPLES[q.dtype] == 0
        and v.shape[-1] % 16 == 0
    )


def native_attention(
    q_BHTE: Tensor,
    k_BHTE: Tensor,
    v_BHTD: Tensor,
    s_BHNC: Tensor,
    r_HRC: Tensor,
    chosen: Tensor,
    key_mask_BT: Tensor | None,
    layout: BlockLayout,
    *,
    tiles: bool = True,
) -> tuple[Tensor, Tensor]:
    """What :mod:`deepseek.models.attention.sparse` gives, for queries that are scaled.

    Returns:
        (B, H, T, D), and the logarithm of each query's sum of exponentials, (B H, N, W) float32.

    Raises:
        MemoryError: there is no room for the keys and values of one head.
    """
    library = _library(q_BHTE.dtype)
    assert library is not None
    batch, heads, tokens, features = q_BHTE.shape
    blocks, content, values = layout.blocks(tokens), s_BHNC.shape[-1], v_BHTD.shape[-1]
    q, k, v = (with_rows(x) for x in (q_BHTE, k_BHTE, v_BHTD))
    s, r = s_BHNC.to(q.dtype).contiguous(), r_HRC.to(q.dtype).contiguous()
    slots, choices = layout.near_slots(blocks), None
    if chosen.shape[2] == blocks and tokens != blocks:
        slots = torch.cat([slots.expand(batch * heads, -1, -1), chosen.flatten(0, 1)], -1)
    else:
        choices = chosen.contiguous()
    slots = slots.contiguous()
    bucket = layout.bucket(torch.arange(-blocks, blocks + 1)).to(torch.int32)
    hidden = None if key_mask_BT is None else (~key_mask_BT.bool()).to(torch.uint8).contiguous()
    out = torch.empty(batch, tokens, heads, values, dtype=q.dtype).transpose(1, 2)
    mass = torch.empty(batch * heads, blocks, layout.width)
    call = _Call(
        groups=batch * heads, heads=heads, tokens=tokens, blocks=blocks, width=layout.width, features=features,
        content=content, values=values, slots=slots.shape[-1], choices=0 if choices is None else choices.shape[-1],
        distances=r.shape[1], local=layout.local, causal=layout.causal, threads=torch.get_num_threads(),
        tiles=tiles and q.dtype == torch.bfloat16,
        q=q.data_ptr(), k=k.data_ptr(), v=v.data_ptr(), s=s.data_ptr(), r=r.data_ptr(), slot=slots.data_ptr(),
        slots_step=slots.stride(0) if slots.dim() == 3 else 0,
        choice=None if choices is None else choices.data_ptr(), bucket=bucket.data_ptr(),
        hidden=None if hidden is None else hidden.data_ptr(), out=out.data_ptr(), mass=mass.data_ptr(),
        **{f"{name}_{step}": x.stride(at) for name, x in (("q", q), ("k", k), ("v", v), ("out", out))
           for at, step in enumerate(("text", "head", "row"))},
    )  # fmt: skip
    if library.deepseek_attention(ctypes.byref(call)):
        raise MemoryError(f"no memory for attention of {tokens:,} tokens")
    return out, mass


def with_rows(x: Tensor) -> Tensor:
    """The tensor, its last dimension without gaps."""
    return x if x.stride(-1) == 1 else x.contiguous()


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL | None:
    library = SOURCES[dtype].library()
    if library is not None:
        library.deepseek_attention.argtypes, library.deepseek_attention.restype = [ctypes.POINTER(_Call)], ctypes.c_int
    return library

"""One call of the C source: the summaries of a text's blocks, without gradients."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from deepseek.models.attention.native.attention import hidden_tokens, precision_taken, sources, with_rows

SOURCES = sources(Path(__file__).with_name("pooling.c"))
_NUMBERS = ("groups", "heads", "tokens", "blocks", "width", "content", "threads")


class _Pool(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _NUMBERS),
        ("k", ctypes.c_void_p), *((f"k_{step}", ctypes.c_int64) for step in ("text", "head", "row")),
        *((name, ctypes.c_void_p) for name in ("saliency", "sharp", "hidden", "keys", "mass")),
    ]  # fmt: skip


def native_pools(content: Tensor, *learned: Tensor | None) -> bool:
    """Whether the C source pools such keys here: where nothing that is learned asks for a gradient."""
    given = [x for x in (content, *learned) if x is not None]
    wants_gradients = torch.is_grad_enabled() and any(x.requires_grad for x in given)
    return (
        not wants_gradients
        and precision_taken(content)
        and SOURCES[content.dtype].function("deepseek_pooling", _Pool) is not None
    )


def native_pooling(
    content_BHTC: Tensor,
    saliency_HC: Tensor,
    width: int,
    key_mask_BT: Tensor | None,
    *,
    sharpness_H: Tensor | None,
    spare: int,
) -> tuple[Tensor, Tensor]:
    """What :func:`deepseek.models.attention.pooling.pool_blocks` gives: keys and masses."""
    function = SOURCES[content_BHTC.dtype].function("deepseek_pooling", _Pool)
    assert function is not None
    batch, heads, tokens, features = content_BHTC.shape
    blocks = -(-tokens // width) + spare
    content, saliency = with_rows(content_BHTC), saliency_HC.detach().float().contiguous()
    sharp = torch.ones(heads) if sharpness_H is None else sharpness_H.detach().float().exp()
    hidden = hidden_tokens(key_mask_BT)
    keys = torch.empty(batch, heads, blocks, features, dtype=content.dtype)
    mass = torch.empty(batch, heads, blocks)
    pool = _Pool(
        groups=batch * heads, heads=heads, tokens=tokens, blocks=blocks, width=width, content=features,
        threads=torch.get_num_threads(), k=content.data_ptr(), k_text=content.stride(0), k_head=content.stride(1),
        k_row=content.stride(2), saliency=saliency.data_ptr(), sharp=sharp.data_ptr(),
        hidden=None if hidden is None else hidden.data_ptr(), keys=keys.data_ptr(), mass=mass.data_ptr(),
    )  # fmt: skip
    function(ctypes.byref(pool))
    return keys, mass

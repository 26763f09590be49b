"""One call of the C source: which far blocks the tokens of a text choose."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.native.attention import (
    MULTIPLES,
    hidden_tokens,
    places,
    precision_taken,
    sources,
    with_rows,
)
from deepseek.models.attention.pooling import Level

SOURCES = sources(Path(__file__).with_name("search.c"))
_NUMBERS = (
    "groups", "heads", "tokens", "first", "blocks", "width", "features", "content", "distances", "local", "sinks",
    "causal", "roots", "branching", "beam", "levels", "choices", "most", "threads", "tiles",
)  # fmt: skip


class _Search(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _NUMBERS), ("scale", ctypes.c_double),
        ("q", ctypes.c_void_p), *((f"q_{step}", ctypes.c_int64) for step in ("text", "head", "row")),
        *((name, ctypes.c_void_p) for name in ("keys", "mass", "nodes", "r", "bucket", "due", "hidden", "out")),
    ]  # fmt: skip


def native_searches(content: Tensor, layout: BlockLayout, *, by_token: bool) -> bool:
    """Whether the C source searches for these queries here."""
    return (
        precision_taken(content)
        and layout.width % 16 == 0
        and by_token == layout.causal
        and SOURCES[content.dtype].function("deepseek_search", _Search) is not None
    )


def native_search(
    content_BHTC: Tensor,
    levels: Sequence[Level],
    relative_HRC: Tensor,
    layout: BlockLayout,
    *,
    query_mask_BT: Tensor | None,
    first_block: int,
    scale: float = 1.0,
    tiles: bool = True,
) -> Tensor:
    """What :func:`deepseek.models.attention.gate.choose` gives, from all levels of the tree, (B, H, nodes, C) each.

    Raises:
        MemoryError: there is no room for the trees of a few heads.
    """
    function = SOURCES[content_BHTC.dtype].function("deepseek_search", _Search)
    assert function is not None
    batch, heads, tokens, features = content_BHTC.shape
    multiple = MULTIPLES[content_BHTC.dtype]
    blocks, queries = levels[0].mass.shape[-1], layout.blocks(tokens)
    content = with_rows(content_BHTC)
    keys = [level.keys.to(content.dtype).contiguous() for level in levels]
    mass = [level.mass.float().contiguous() for level in levels]
    rows = relative_HRC.to(content.dtype).contiguous()
    whole = first_block + queries if layout.causal else blocks
    due = [layout.chosen(first_block + n + 1 if layout.causal else blocks) for n in range(queries)]
    far = max(1, whole - 1 - layout.local) if layout.causal else blocks
    choices = min(layout.chosen(whole), far, blocks)
    fours = (max(due[-1], layout.beam) + 1) * -(-layout.branching // 4)  # of children, which are read sixteen at a time
    begins = min(layout.top, blocks) if layout.causal else levels[-1].mass.shape[-1]
    most = 16 * -(-max(4 * fours, begins) // 16)
    hidden = hidden_tokens(query_mask_BT)
    _, bucket = places(layout, blocks)
    due_N = torch.tensor(due, dtype=torch.int32)
    nodes = torch.tensor([level.mass.shape[-1] for level in levels])
    units = tokens if layout.causal else queries
    out = torch.empty(batch, heads, units, choices, dtype=torch.int32)
    addresses = ctypes.c_void_p * len(levels)
    key_addresses, mass_addresses = (addresses(*(x.data_ptr() for x in each)) for each in (keys, mass))
    search = _Search(
        groups=batch * heads, heads=heads, tokens=tokens, first=first_block, blocks=blocks, width=layout.width,
        features=-(-features // multiple) * multiple, content=features, distances=rows.shape[1], local=layout.local,
        sinks=layout.sinks, causal=layout.causal, roots=layout.top, branching=layout.branching, beam=layout.beam,
        levels=len(levels), choices=choices, most=most, threads=torch.get_num_threads(),
        tiles=tiles and content.dtype == torch.bfloat16, scale=scale, q=content.data_ptr(),
        q_text=content.stride(0), q_head=content.stride(1), q_row=content.stride(2),
        keys=ctypes.addressof(key_addresses), mass=ctypes.addressof(mass_addresses), nodes=nodes.data_ptr(),
        r=rows.data_ptr(), bucket=bucket.data_ptr(), due=due_N.data_ptr(),
        hidden=None if hidden is None else hidden.data_ptr(), out=out.data_ptr(),
    )  # fmt: skip
    if function(ctypes.byref(search)):
        raise MemoryError(f"no memory to search {blocks:,} blocks")
    return out

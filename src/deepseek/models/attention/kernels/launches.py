"""Forward and backward pass of gated block attention by the Triton kernels; importing this imports Triton.

Tokens that pick blocks by themselves have a buffer of an output for each pair, forward, and of a gradient, backward. So
that these stay small, heads go through the kernels a few at a time. Apart from that memory is that of inputs, outputs
and lists, O(T log T): nothing is padded or gathered.

Outputs and gradients lie in memory by token, [B, T, H, ...], as the layers around attention have them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.kernels import tiling
from deepseek.models.attention.kernels.forward import forward_kernel, picks_kernel
from deepseek.models.attention.kernels.key_gradients import key_gradients_kernel, segments_kernel
from deepseek.models.attention.kernels.lists import Entries, Picks, Segments, Slots, bucket_of
from deepseek.models.attention.kernels.query_gradients import delta_kernel, query_gradients_kernel

PAIR_BYTES = 512 << 20
"""Of a buffer of pairs, unless one head's is larger."""
LEAST_SEGMENT = 128
"""Tiles of a key block's list that one program takes for the keys' gradients, at the least."""
LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Attention:
    """A call of the kernels: its inputs, and who attends to whom.

    Attributes:
        q, k, v: (B, H, T, E), (B, H, T, E) and (B, H, T, D); numbers of a row lie side by side.
        s, r: (B, H, N, C) and (H, R, C), contiguous.
        mask: (B, T) uint8, 0 for padding; ``None`` if there is none.
        slots, picks: by query; ``picks`` are there if tokens choose by themselves.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    s: Tensor
    r: Tensor
    mask: Tensor | None
    layout: BlockLayout
    scale: float
    slots: Slots
    picks: Picks | None

    @classmethod
    def of(
        cls,
        inputs: Sequence[Tensor],
        layout: BlockLayout,
        scale: float,
        chosen: Tensor,
        key_mask_BT: Tensor | None,
    ) -> Attention:
        """See what the call is; ``inputs`` are q, k, v, s and r."""
        q, k, v, s, r = inputs
        batch, heads, tokens, _ = q.shape
        blocks = layout.blocks(tokens)
        by_block = chosen.shape[2] == blocks
        flat = chosen.flatten(0, 1)
        return cls(
            q=_with_rows(q), k=_with_rows(k), v=_with_rows(v), s=s.contiguous(), r=r.contiguous(),
            mask=None if key_mask_BT is None else key_mask_BT.bool().contiguous().view(torch.uint8),
            layout=layout, scale=float(scale),
            slots=Slots.of(layout, blocks, batch * heads, flat if by_block else None, q.device),
            picks=None if by_block else Picks.of(flat, blocks),
        )  # fmt: skip

    @property
    def blocks(self) -> int:
        return int(self.s.shape[2])

    @property
    def groups(self) -> int:
        return int(self.q.shape[0] * self.q.shape[1])

    @property
    def picks_each(self) -> int:
        return 0 if self.picks is None else self.picks.picks.shape[-1]

    @property
    def shape(self) -> tiling.Shape:
        tokens = self.q.shape[2]
        return tiling.Shape(
            width=self.layout.width, features=self.q.shape[3], content=self.s.shape[-1], values=self.v.shape[3],
            distances=self.r.shape[1], causal=self.layout.causal, bound=tokens % self.layout.width > 0,
            masked=self.mask is not None, picks=self.picks is not None, exact=self.q.dtype == torch.float32,
            rocm=torch.version.hip is not None,
        )  # fmt: skip

    @property
    def strides(self) -> tuple[int, ...]:
        return (*self.q.stride()[:3], *self.k.stride()[:3], *self.v.stride()[:3])

    def parts(self) -> Iterator[tuple[int, int]]:
        """(First group, groups) that go through the kernels together."""
        step = self.groups
        if self.picks is not None:
            widest = max(self.q.shape[3], self.v.shape[3]) * self.q.element_size()
            step = max(1, PAIR_BYTES // (self.q.shape[2] * self.picks_each * widest))
        for start in range(0, self.groups, step):
            yield start, min(step, self.groups - start)


def forward(call: Attention) -> tuple[Tensor, Tensor]:
    """(B, H, T, D), and log2 of each query's sum of exponentials, (G, T) float32."""
    batch, heads, tokens, _ = call.q.shape
    device, blocks, slope = call.q.device, call.blocks, call.scale * LOG2_E
    out = torch.empty(batch, tokens, heads, call.v.shape[3], dtype=call.v.dtype, device=device)
    mass = torch.empty(batch * heads, tokens, dtype=torch.float32, device=device)
    buckets = bucket_of(call.layout, blocks, device)
    kernel: Any = forward_kernel  # what a decorator of Triton makes has no types
    picking: Any = picks_kernel
    constants, options = tiling.forward(call.shape)
    with _on(device):
        for start, groups in call.parts():
            picks = pair_out = pair_mass = None
            if call.picks is not None:
                picks = call.picks.picks[start : start + groups]
                pair_out = torch.empty(*picks.shape, call.v.shape[3], dtype=call.v.dtype, device=device)
                pair_mass = torch.empty(picks.shape, dtype=torch.float32, device=device)
                each_constants, each_options = tiling.picks(call.shape)
                queries, longest = each_constants["QUERIES"], each_constants["LONGEST"]
                tiles = _tiles(call.picks.counts()[start : start + groups], queries)
                lists = Segments.of(tiles, longest, groups * (blocks + tokens * call.picks_each // queries))
                picking[(len(lists.owner),)](
                    call.q, call.k, call.v, call.s, call.r, call.mask, buckets,
                    call.picks.order[start:], call.picks.starts[start:], lists.owner, lists.first,
                    pair_out, pair_mass, slope, *call.strides,
                    start, groups * blocks, heads, tokens, blocks, call.r.shape[1], call.picks_each,
                    **each_constants, **each_options,
                )  # fmt: skip
            kernel[(groups * blocks * (call.layout.width // constants["QUERIES"]),)](
                call.q, call.k, call.v, call.s, call.r, call.mask, call.slots.slots, call.slots.counts, buckets,
                picks, pair_out, pair_mass, out, mass, slope, *call.strides,
                start, heads, tokens, blocks, call.slots.slots.shape[-1], call.r.shape[1], call.picks_each,
                **constants, **options,
            )  # fmt: skip
    return out.transpose(1, 2), mass


def backward(call: Attention, out: Tensor, mass: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """The gradients of q, k, v, s and r."""
    batch, heads, tokens, features = call.q.shape
    values, content, distances = call.v.shape[3], call.s.shape[-1], call.r.shape[1]
    device, blocks, slope = call.q.device, call.blocks, call.scale * LOG2_E
    grad = _with_rows(grad.to(call.v.dtype))
    numbers = {"dtype": torch.float32, "device": device}
    delta = torch.empty(batch * heads, tokens, **numbers)
    grad_q, grad_k, grad_v = (
        torch.empty(batch, tokens, heads, x.shape[3], dtype=x.dtype, device=device) for x in (call.q, call.k, call.v)
    )
    grad_s = torch.empty(call.s.shape, **numbers)
    by_distance = torch.empty(batch * heads, tokens, distances, dtype=call.q.dtype, device=device)
    buckets = bucket_of(call.layout, blocks, device)
    entries = Entries.of(call.slots, buckets)
    entry_tiles = (entries.starts[2::2] - entries.starts[:-2:2]).view(batch * heads, blocks)
    shape = call.shape
    for_delta, for_queries, for_keys, for_segments = (
        tiles(shape) for tiles in (tiling.delta, tiling.query_gradients, tiling.key_gradients, tiling.segments)
    )
    by_query: Any = query_gradients_kernel
    by_key: Any = key_gradients_kernel
    adding: Any = segments_kernel
    summing: Any = delta_kernel
    key_tile = for_keys[0]["QUERIES"]
    parts_of_block = call.layout.width // key_tile
    with _on(device):
        summing[(batch * heads * -(-tokens // for_delta[0]["QUERIES"]),)](
            out, grad, delta, *grad.stride()[:3], heads, tokens, **for_delta[0], **for_delta[1]
        )
        for start, groups in call.parts():
            tiles = entry_tiles[start : start + groups] * parts_of_block
            total = groups * blocks * call.slots.slots.shape[-1] * parts_of_block
            picks = order = starts = pair_grad = pair_sum = None
            if call.picks is not None:
                picks, order = call.picks.picks[start : start + groups], call.picks.order[start:]
                starts = call.picks.starts[start:]
                pair_grad = torch.empty(*picks.shape, features, dtype=call.q.dtype, device=device)
                pair_sum = torch.empty(picks.shape, **numbers)
                tiles = tiles + _tiles(call.picks.counts()[start : start + groups], key_tile)
                total += groups * (blocks + tokens * call.picks_each // key_tile)
            lists = Segments.of(tiles, Segments.length(groups * blocks, total, LEAST_SEGMENT), total)
            spilled = torch.empty(lists.rows, call.layout.width * (features + values) + content, **numbers)
            by_key[(len(lists.owner),)](
                call.q, call.k, call.v, call.s, call.r, call.mask, entries.entries,
                entries.starts[2 * start * blocks :], buckets, order, starts, lists.owner, lists.first, lists.spill,
                grad, mass, delta, grad_k, grad_v, grad_s, spilled, pair_grad, pair_sum, slope, call.scale,
                *call.strides, *grad.stride()[:3],
                start, groups * blocks, lists.longest, heads, tokens, blocks, distances, call.picks_each,
                **for_keys[0], **for_keys[1],
            )  # fmt: skip
            adding[(groups * blocks, call.layout.width // for_segments[0]["ROWS"])](
                spilled, lists.number, lists.spill, grad_k, grad_v, grad_s, start, heads, tokens, blocks,
                **for_segments[0], **for_segments[1],
            )  # fmt: skip
            by_query[(groups * blocks * (call.layout.width // for_queries[0]["QUERIES"]),)](
                call.q, call.k, call.v, call.s, call.r, call.mask, call.slots.slots, call.slots.counts, buckets,
                picks, pair_grad, pair_sum, grad, mass, delta, grad_q, by_distance, slope, call.scale,
                *call.strides, *grad.stride()[:3],
                start, heads, tokens, blocks, call.slots.slots.shape[-1], distances, call.picks_each,
                **for_queries[0], **for_queries[1],
            )  # fmt: skip
    content_GTC = call.q[..., :content].flatten(0, 1)
    grad_r = (by_distance.transpose(1, 2) @ content_GTC).unflatten(0, (batch, heads)).sum(0, dtype=torch.float32)
    return (*(x.transpose(1, 2) for x in (grad_q, grad_k, grad_v)), grad_s.to(call.s.dtype), grad_r.to(call.r.dtype))


def _tiles(pairs: Tensor, queries: int) -> Tensor:
    return (pairs + queries - 1) // queries


def _with_rows(tensor: Tensor) -> Tensor:
    """The kernels step by strides, except in the last dimension."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current GPU, wherever the tensors are. Its interpreter's are on the CPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()

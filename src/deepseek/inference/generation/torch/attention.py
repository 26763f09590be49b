# ruff: noqa: N803, N806, N815 - names end in their shape
"""Attention over a paged key-value cache, as an attention implementation of transformers.

A model registered for it runs one flattened row of tokens, (1, T), that may belong to many sequences. Each layer writes
the new keys and values to their places in the cache, and then :func:`attend` answers group by group: sequences with
equally many new tokens are one group. There is no mask in transformers' sense; a :class:`Batch` says what is where.

Shapes: T tokens, N sequences of a group, Q new tokens of each, H heads, K key heads, G = H / K, D numbers a head, E
numbers a value head, M blocks of the longest sequence, B blocks of the cache, L keys of the longest sequence.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deepseek.inference.generation.paged.blocks import BLOCK
from deepseek.inference.kernels.paged_attention import HEAD_DIMS, decode_attention

if TYPE_CHECKING:
    import torch

NAME = "deepseek_paged"


@dataclass
class Group:
    """Sequences with equally many new tokens, whose tokens stand one after another in the batch.

    Attributes:
        start, stop: their tokens in the batch; ``stop - start`` is N x Q.
        new: Q.
        longest: keys of the longest sequence, its new tokens among them.
        tables_NM: blocks of each sequence, int32.
        lengths_N: keys of each sequence, its new tokens among them, int32.
        even: whether all are as long as the longest.
        run: first block, if there is one sequence whose blocks follow one another in the cache; else -1.
    """

    start: int
    stop: int
    new: int
    longest: int
    tables_NM: torch.Tensor
    lengths_N: torch.Tensor
    even: bool
    run: int = -1
    _masks: dict[tuple[int, Any], Any] = field(default_factory=dict)
    _flat: Any = None

    @property
    def flat(self) -> torch.Tensor:
        """The tables as one row of indices."""
        if self._flat is None:
            self._flat = self.tables_NM.flatten().long()
        return self._flat

    def mask(self, repeats: int, dtype: torch.dtype) -> torch.Tensor | None:
        """What is added to scores, (N, 1, ``repeats`` x Q, L); the same for all layers. ``None``: nothing."""
        if self.even and self.new == 1:
            return None
        if (repeats, dtype) not in self._masks:
            import torch

            device = self.lengths_N.device
            keys_L = torch.arange(self.longest, device=device)
            last_NQ = self.lengths_N.unsqueeze(1) - self.new + torch.arange(self.new, device=device)
            hidden = keys_L > last_NQ.unsqueeze(-1)
            mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, -torch.inf)
            self._masks[repeats, dtype] = mask.repeat(1, repeats, 1).unsqueeze(1)
        return self._masks[repeats, dtype]


@dataclass
class Batch:
    """One step's tokens.

    Attributes:
        ids_1T, positions_1T: tokens and their places in their sequences.
        slots_T: where in the cache their keys and values go: block x BLOCK + place in the block.
        groups: which tokens belong together, in order, without gaps.
        rows_R: tokens whose logits are wanted.
        adapters: adapter -> tokens that it is for; one for all tokens has ``None``.
    """

    ids_1T: torch.Tensor
    positions_1T: torch.Tensor
    slots_T: torch.Tensor
    groups: list[Group]
    rows_R: torch.Tensor
    adapters: dict[int, torch.Tensor | None] = field(default_factory=dict)


@dataclass
class Layer:
    """One layer's cache: ``keys`` (B, BLOCK, K, D) and ``values`` (B, BLOCK, K, E), and the same as rows of tokens."""

    keys: torch.Tensor
    values: torch.Tensor

    def __post_init__(self) -> None:
        self.key_rows, self.value_rows = self.keys.flatten(0, 1), self.values.flatten(0, 1)


Recorder = Callable[[Any, "torch.Tensor", "torch.Tensor", "torch.Tensor", dict[str, Any]], None]


class _Current(threading.local):
    """What the forward pass of this thread runs on; models do not all pass on what they do not know."""

    batch: Batch | None = None
    layers: Sequence[Layer] = ()
    recorder: Recorder | None = None


_CURRENT = _Current()


@contextmanager
def running(batch: Batch, layers: Sequence[Layer]) -> Iterator[None]:
    """Within it, this thread's forward pass is of ``batch`` on the cache ``layers``."""
    _CURRENT.batch, _CURRENT.layers = batch, layers
    try:
        yield
    finally:
        _CURRENT.batch, _CURRENT.layers = None, ()


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Within it, each call of attention is told to ``recorder`` and computed without a cache, causally."""
    _CURRENT.recorder = recorder
    try:
        yield
    finally:
        _CURRENT.recorder = None


def current_batch() -> Batch | None:
    """The batch that this thread's forward pass runs on."""
    return _CURRENT.batch


def register() -> str:
    """Make the implementation known to transformers; returns its name. Models make no mask for it."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention_forward)
    return NAME


def attention_forward(
    module: Any,
    query_1HTD: torch.Tensor,
    key_1KTD: torch.Tensor,
    value_1KTE: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers' models call it; returns (1, T, H, E)."""
    import torch

    scale = query_1HTD.shape[-1] ** -0.5 if scaling is None else scaling
    if _CURRENT.recorder is not None:
        _CURRENT.recorder(module, query_1HTD, key_1KTD, value_1KTE, {**kwargs, "attention_mask": attention_mask})
        out = _causal(query_1HTD, key_1KTD, value_1KTE, scale)
        return out.transpose(1, 2), None
    batch = _CURRENT.batch
    assert batch is not None, f"{NAME} attention was called outside a step"
    layer = _CURRENT.layers[module.layer_idx]
    query_THD, key_TKD, value_TKE = (x[0].transpose(0, 1) for x in (query_1HTD, key_1KTD, value_1KTE))
    layer.key_rows.index_copy_(0, batch.slots_T, key_TKD)
    layer.value_rows.index_copy_(0, batch.slots_T, value_TKE)
    outs = []
    for group in batch.groups:
        if len(batch.groups) == 1 and group.new == group.longest == group.stop:  # one prompt from its start
            out = _causal(query_1HTD, key_1KTD, value_1KTE, scale)
            return out.transpose(1, 2), None
        outs.append(attend(query_THD[group.start : group.stop], layer, group, scale))
    return (outs[0] if len(outs) == 1 else torch.cat(outs)).unsqueeze(0), None


def attend(query_THD: torch.Tensor, layer: Layer, group: Group, scale: float) -> torch.Tensor:
    """Attention of a group's new tokens to all that is in the cache of their sequences up to them, (N x Q, H, E).

    For one new token a sequence on a GPU a kernel reads the paged cache as it is, if it has the heads' width
    (:mod:`deepseek.inference.kernels.paged_attention`). Else keys and values are gathered first.
    """
    import torch.nn.functional as F

    heads, key_heads = query_THD.shape[1], layer.keys.shape[2]
    count, repeats = group.tables_NM.shape[0], heads // key_heads
    plain = layer.keys.shape == layer.values.shape and query_THD.shape[2] in HEAD_DIMS
    if group.new == 1 and plain and query_THD.is_cuda:
        queries = query_THD.contiguous()
        return decode_attention(queries, layer.keys, layer.values, group.tables_NM, group.lengths_N, scale)
    key_NKLD = _gathered(layer.keys, layer.key_rows, group)
    value_NKLE = _gathered(layer.values, layer.value_rows, group)
    if group.new > 1 and count == 1 and group.new == group.longest:
        return _causal(query_THD.transpose(0, 1).unsqueeze(0), key_NKLD, value_NKLE, scale)[0].transpose(0, 1)
    # heads that share a key head are rows of one product: keys need not be repeated for them
    if group.new == 1:
        query = query_THD.reshape(count, key_heads, repeats, -1)
        mask = group.mask(1, query.dtype)
        out = F.scaled_dot_product_attention(query, key_NKLD, value_NKLE, attn_mask=mask, scale=scale)
        return out.reshape(count, heads, -1)
    query = query_THD.unflatten(0, (count, group.new)).unflatten(2, (key_heads, repeats)).permute(0, 2, 3, 1, 4)
    out = F.scaled_dot_product_attention(
        query.flatten(2, 3), key_NKLD, value_NKLE, attn_mask=group.mask(repeats, query_THD.dtype), scale=scale
    )
    return out.unflatten(2, (repeats, group.new)).permute(0, 3, 1, 2, 4).flatten(2, 3).flatten(0, 1)


def _gathered(cache: torch.Tensor, rows: torch.Tensor, group: Group) -> torch.Tensor:
    """Keys or values of a group's sequences, (N, K, L, D); a view where the blocks follow one another."""
    if group.run >= 0:
        return rows.narrow(0, group.run * BLOCK, group.longest).transpose(0, 1).unsqueeze(0)
    count, blocks = group.tables_NM.shape
    own = cache.index_select(0, group.flat).view(count, blocks * BLOCK, *cache.shape[2:])
    return own[:, : group.longest].transpose(1, 2)


def _causal(query_1HTD: torch.Tensor, key_1KTD: torch.Tensor, value_1KTE: torch.Tensor, scale: float) -> torch.Tensor:
    import torch.nn.functional as F

    return F.scaled_dot_product_attention(
        query_1HTD,
        key_1KTD,
        value_1KTE,
        is_causal=query_1HTD.shape[2] > 1,
        scale=scale,
        enable_gqa=query_1HTD.shape[1] != key_1KTD.shape[1],
    )

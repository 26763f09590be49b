"""Attention over the paged cache against plain softmax attention, one sequence and one head at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.inference.generation.paged.blocks import BLOCK, blocks_for
from deepseek.inference.generation.torch.attention import Layer, attend
from deepseek.inference.generation.torch.batching import Piece, batch_of, ordered

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40)), min_size=1, max_size=5),
    same=st.sampled_from([0, 1, 3]),
    heads=st.sampled_from([(2, 1), (4, 2), (3, 3)]),
    shuffled=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_group_attends_to_its_own_sequence_up_to_each_token(
    lengths: list[tuple[int, int]], same: int, heads: tuple[int, int], shuffled: bool, seed: int
) -> None:
    """``same``: all sequences have so many new tokens, as when decoding (1) or verifying guesses (3)."""
    generator = torch.Generator().manual_seed(seed)
    count, key_heads = heads
    sizes = [(before, same or new) for before, new in lengths]
    blocks = sum(blocks_for(before + new) for before, new in sizes)
    numbers = torch.randperm(blocks, generator=generator).tolist() if shuffled else list(range(blocks))
    layer = Layer(
        torch.randn(blocks, BLOCK, key_heads, 8, generator=generator),
        torch.randn(blocks, BLOCK, key_heads, 6, generator=generator),
    )
    pieces = []
    for before, new in sizes:
        own, numbers = numbers[: blocks_for(before + new)], numbers[blocks_for(before + new) :]
        pieces.append(Piece([0] * new, before, own, rows=1))
    pieces = [pieces[at] for at in ordered(pieces)]
    batch = batch_of(pieces, CPU)
    query = torch.randn(batch.ids_1T.shape[1], count, 8, generator=generator)
    outs = torch.cat([attend(query[g.start : g.stop], layer, g, 0.3) for g in batch.groups])
    token = 0
    for piece in pieces:
        keys, values = (part[torch.tensor(piece.blocks)].flatten(0, 1) for part in (layer.keys, layer.values))
        for at in range(piece.start, piece.start + len(piece.ids)):
            for head in range(count):
                own = head // (count // key_heads)
                weights = torch.softmax(0.3 * keys[: at + 1, own] @ query[token, head], 0)
                torch.testing.assert_close(outs[token, head], weights @ values[: at + 1, own], atol=1e-5, rtol=1e-4)
            slot = int(batch.slots_T[token])
            assert (slot // BLOCK, slot % BLOCK) == (piece.blocks[at // BLOCK], at % BLOCK)
            assert int(batch.positions_1T[0, token]) == at
            token += 1
    assert batch.groups[-1].stop == token
    assert batch.rows_R.tolist() == [sum(len(p.ids) for p in pieces[: i + 1]) - 1 for i in range(len(pieces))]


def test_short_pieces_are_grouped_and_prompts_are_not() -> None:
    pieces = [Piece([0] * n, 0, list(range(4)), rows=0) for n in (1, 40, 3, 1, 40, 3)]
    batch = batch_of([pieces[at] for at in ordered(pieces)], CPU)
    assert [(g.start, g.stop, g.new) for g in batch.groups] == [(0, 2, 1), (2, 8, 3), (8, 48, 40), (48, 88, 40)]
    assert batch.rows_R.tolist() == []


def test_tokens_are_listed_by_adapter() -> None:
    def listed(*adapters: int) -> dict[int, list[int] | None]:
        pieces = [Piece([0, 0], 0, [at], rows=1, adapter=adapter) for at, adapter in enumerate(adapters)]
        found = batch_of(pieces, CPU).adapters
        return {at: None if rows is None else rows.tolist() for at, rows in found.items()}

    assert listed(-1, -1) == {}
    assert listed(1, 1) == {1: None}
    assert listed(0, -1, 1, 0) == {0: [0, 1, 6, 7], 1: [4, 5]}

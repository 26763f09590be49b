"""Each row exactly once per epoch, over all ranks, and after any interruption."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data.loading import Sampler
from deepseek.data.loading.permutation import Permutation
from deepseek.errors import ConfigError

SHAPES = st.fixed_dictionaries(
    {
        "size": st.integers(0, 300),
        "shuffle": st.booleans(),
        "seed": st.integers(0, 5),
        "block": st.integers(1, 40),
        "world_size": st.integers(1, 5),
        "drop_last": st.booleans(),
    }
)


@given(size=st.integers(1, 5000), key=st.lists(st.integers(-(2**40), 2**40), max_size=3))
def test_a_permutation_is_one_and_can_be_inverted(size, key):
    permutation = Permutation(size, *key)
    places = np.arange(size)
    values = permutation(places)
    assert sorted(values.tolist()) == places.tolist()
    assert permutation.inverse(values).tolist() == places.tolist()
    with pytest.raises(IndexError):
        permutation(np.array([size]))


def test_a_permutation_of_a_trillion_takes_no_memory():
    permutation = Permutation(10**12, 7)
    places = np.array([0, 1, 10**12 - 1])
    assert permutation.inverse(permutation(places)).tolist() == places.tolist()


def test_permutations_look_random():
    """Over many keys each place gets each value equally often (chi-square), and neighbours are torn apart."""
    size, keys = 16, 4000
    counts = np.zeros((size, size))
    for key in range(keys):
        counts[np.arange(size), Permutation(size, key)(np.arange(size))] += 1
    expected = keys / size
    chi = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi - (size - 1) ** 2) < 5 * np.sqrt(2 * (size - 1) ** 2)
    order = Permutation(100_000, 1)(np.arange(100_000))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    assert (np.abs(np.diff(order)) == 1).mean() < 1e-3


@given(shape=SHAPES, epoch=st.integers(0, 3))
@settings(deadline=None)
def test_each_row_comes_exactly_once_over_all_ranks(shape, epoch):
    rows = []
    for rank in range(shape["world_size"]):
        sampler = Sampler(rank=rank, **shape)
        sampler.set_epoch(epoch)
        length = len(sampler)
        share = list(sampler)
        assert len(share) == length
        rows += share
    assert len(set(rows)) == len(rows)
    dropped = shape["size"] % shape["world_size"] if shape["drop_last"] else 0
    assert len(rows) == shape["size"] - dropped
    assert all(0 <= row < shape["size"] for row in rows)


@given(shape=SHAPES, rank=st.integers(0, 4), cuts=st.lists(st.integers(0, 60), min_size=1, max_size=4))
@settings(deadline=None)
def test_resuming_gives_exactly_what_remains(shape, rank, cuts):
    rank %= shape["world_size"]
    whole = Sampler(rank=rank, **shape)
    whole.set_epoch(1)
    expected = list(whole)
    seen = []
    state = None
    for cut in cuts:
        sampler = Sampler(rank=rank, **shape)
        if state is None:
            sampler.set_epoch(1)
        else:
            sampler.load_state_dict(state)
        if len(sampler):
            for _, row in zip(range(cut), sampler, strict=False):
                seen.append(row)
        state = sampler.state_dict()
    last = Sampler(rank=rank, **shape)
    last.load_state_dict(state)
    seen += list(last) if len(last) else []
    assert seen == expected


@given(size=st.integers(0, 200), batch=st.integers(1, 10), before=st.integers(1, 4), after=st.integers(1, 4))
@settings(deadline=None)
def test_the_number_of_ranks_may_change(size, batch, before, after):
    """When all ranks have had equally many rows, others go on with what is left."""
    had, state = [], None
    steps = size // (before * batch) // 2
    for rank in range(before):
        sampler = Sampler(size, rank=rank, world_size=before)
        had += [row for _, row in zip(range(steps * batch), sampler, strict=False)]
        state = sampler.state_dict()
    for rank in range(after):
        sampler = Sampler(size, rank=rank, world_size=after)
        sampler.load_state_dict(state)
        had += list(sampler) if len(sampler) else []
    assert sorted(had) == list(range(size))


def test_epochs_follow_one_another_and_differ():
    sampler = Sampler(100, seed=3)
    first, second = list(sampler), list(sampler)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(100))
    assert sampler.epoch == 1
    again = Sampler(100, seed=3)
    again.set_epoch(1)
    assert list(again) == second
    assert list(Sampler(100, seed=4)) != first
    assert list(Sampler(5, shuffle=False)) == [0, 1, 2, 3, 4]


def test_blocks_stay_together():
    order = np.array(list(Sampler(1000, block=64, seed=1)))
    blocks = order // 64
    assert (np.diff(blocks) != 0).sum() == 15
    assert len(set(blocks.tolist())) == 16
    assert order.tolist() != sorted(order.tolist())
    assert sorted(order[:64].tolist()) != order[:64].tolist()


def test_a_state_of_another_order_is_refused():
    state = Sampler(100, seed=1).state_dict()
    with pytest.raises(ConfigError, match="seed is 1 there and 2 here"):
        Sampler(100, seed=2).load_state_dict(state)
    with pytest.raises(ConfigError, match="size is 100 there and 99"):
        Sampler(99, seed=1).load_state_dict(state)
    with pytest.raises(ConfigError, match="rank 2 of 2"):
        Sampler(10, rank=2, world_size=2)

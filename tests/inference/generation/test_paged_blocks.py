"""The blocks of a paged cache and who computes when, against a cache that is only a list."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.inference.generation import SamplingParameters
from deepseek.inference.generation.paged.blocks import BLOCK, BlockPool, blocks_for, chained
from deepseek.inference.generation.paged.drawing import Draws
from deepseek.inference.generation.paged.scheduling import Running, Scheduler


def names(tokens: list[int]) -> list[bytes]:
    found: list[bytes] = []
    for at in range(0, len(tokens) - BLOCK + 1, BLOCK):
        found.append(chained(found[-1] if found else b"", tokens[at : at + BLOCK]))
    return found


def test_a_full_block_is_found_again_until_its_room_is_needed() -> None:
    pool = BlockPool(3)
    own = names(list(range(2 * BLOCK)))
    taken = pool.take(2)
    assert taken is not None
    for block, name in zip(taken, own, strict=True):
        pool.remember(block, name)
    pool.release(taken)
    assert pool.available == 3
    assert pool.find(own) == taken  # both, and they are held again
    pool.release(taken)
    assert pool.take(2) is not None  # the empty one and the one that builds on the other
    assert pool.find(own) == taken[:1]


def test_more_than_there_is_is_not_taken_and_nothing_changes() -> None:
    pool = BlockPool(2)
    assert pool.take(3) is None
    assert pool.available == 2


def test_without_reuse_nothing_is_remembered() -> None:
    pool = BlockPool(2, reuse=False)
    taken = pool.take(1)
    assert taken is not None
    pool.remember(taken[0], b"name")
    assert pool.find([b"name"]) == []


def test_the_name_of_a_block_has_all_that_comes_before_in_it() -> None:
    one, other = list(range(2 * BLOCK)), [99, *range(1, 2 * BLOCK)]
    assert names(one)[1] != names(other)[1]
    assert names(one)[1] == names([*one, 5])[1]


def test_releasing_twice_is_noticed() -> None:
    pool = BlockPool(1)
    taken = pool.take(1)
    assert taken is not None
    pool.release(taken)
    with pytest.raises(AssertionError, match="more often"):
        pool.release(taken)


class Machine:
    """Runs a scheduler on a cache that holds, in each place, all tokens up to the one there."""

    def __init__(self, blocks: int, sequences: int, step_tokens: int, guesses: int, seed: int, reuse: bool) -> None:
        self.random = random.Random(seed)
        self.pool = BlockPool(blocks, reuse=reuse)
        self.scheduler = Scheduler(self.pool, sequences, step_tokens, lambda sequence: self.random.randint(0, guesses))
        self.cache: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {}
        self.answers: dict[int, int] = {}

    def step(self) -> None:
        chunks = self.scheduler.schedule()
        held = Counter(block for sequence in self.scheduler.running for block in sequence.blocks)
        assert held == Counter({b: n for b, n in enumerate(self.pool._holders) if n})
        assert len(held) + self.pool.available == self.pool.count
        assert sum(c.stop - c.start + c.guesses for c in chunks) <= self.scheduler.max_step_tokens
        assert len(self.scheduler.running) <= self.scheduler.max_sequences
        assert chunks or not (self.scheduler.running or self.scheduler.waiting)
        assert len({id(c.sequence) for c in chunks}) == len(chunks)
        written: set[tuple[int, int]] = set()
        for chunk in chunks:
            sequence = chunk.sequence
            assert len(sequence.blocks) >= blocks_for(chunk.stop + chunk.guesses)
            for at in range(chunk.start):
                place = sequence.blocks[at // BLOCK], at % BLOCK
                assert self.cache[place] == (sequence.adapter, tuple(sequence.tokens[: at + 1]))
            for at in range(chunk.start, chunk.stop + chunk.guesses):
                place = sequence.blocks[at // BLOCK], at % BLOCK
                assert place not in written, "two sequences write to one place"
                written.add(place)
                told = sequence.tokens[: at + 1] if at < chunk.stop else [-1]  # a guess that may be wrong
                self.cache[place] = (sequence.adapter, tuple(told))
        for chunk in chunks:
            self.finish(chunk)

    def finish(self, chunk: object) -> None:
        sequence = chunk.sequence  # type: ignore[attr-defined]
        if not chunk.whole:  # type: ignore[attr-defined]
            self.scheduler.computed(sequence, chunk.stop)  # type: ignore[attr-defined]
            return
        accepted = self.random.randint(0, chunk.guesses)  # type: ignore[attr-defined]
        for _ in range(accepted + 1):
            sequence.tokens.append(self.random.randint(0, 1))
        for at in range(chunk.stop, chunk.stop + accepted):  # type: ignore[attr-defined]
            place = sequence.blocks[at // BLOCK], at % BLOCK
            self.cache[place] = (sequence.adapter, tuple(sequence.tokens[: at + 1]))
        self.scheduler.computed(sequence, chunk.stop + accepted)  # type: ignore[attr-defined]
        assert sequence.left >= 0
        if sequence.left == 0:
            self.answers[sequence.number] = sequence.answered
            self.scheduler.remove(sequence.number)


@settings(max_examples=150, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.integers(1, 4 * BLOCK), st.integers(1, 3 * BLOCK), st.integers(-1, 1), st.booleans()),
        min_size=1,
        max_size=9,
    ),
    blocks=st.integers(8, 24),
    sequences=st.integers(1, 5),
    step_tokens=st.integers(16, 80),
    guesses=st.integers(0, 4),
    reuse=st.booleans(),
    seed=st.integers(0, 9),
)
def test_no_block_is_lost_or_shared_wrongly_and_every_sequence_ends(
    requests: list[tuple[int, int, int, bool]],
    blocks: int,
    sequences: int,
    step_tokens: int,
    guesses: int,
    reuse: bool,
    seed: int,
) -> None:
    machine = Machine(blocks, sequences, step_tokens, guesses, seed, reuse)
    cancelled = set()
    for number, (prompt, new, adapter, cancel) in enumerate(requests):
        tokens = [0] * (prompt // 2) + [machine.random.randint(0, 1) for _ in range(prompt - prompt // 2)]
        sampling = SamplingParameters(max_new_tokens=new)
        machine.scheduler.add(Running(number, tokens, prompt, sampling, Draws(0), adapter))
        machine.step()
        if cancel and machine.random.random() < 0.5:
            machine.scheduler.remove(number)
            cancelled.add(number)
    for _ in range(4000):
        if not (machine.scheduler.running or machine.scheduler.waiting):
            break
        machine.step()
    wanted = {number: new for number, (_, new, _, _) in enumerate(requests)}
    for number, answered in machine.answers.items():
        assert answered == wanted[number]
    assert machine.answers.keys() | cancelled == wanted.keys()
    assert machine.pool.available == blocks


def test_the_youngest_gives_way_and_comes_back_first() -> None:
    machine = Machine(blocks=8, sequences=4, step_tokens=4 * BLOCK, guesses=0, seed=0, reuse=False)
    for number in range(3):
        sampling = SamplingParameters(max_new_tokens=2 * BLOCK + 8)
        machine.scheduler.add(Running(number, [number] * (2 * BLOCK - 2), 2 * BLOCK - 2, sampling, Draws(0)))
    order = []
    while machine.scheduler.running or machine.scheduler.waiting:
        machine.step()
        order += [number for number in machine.answers if number not in order]
    assert machine.scheduler.preempted > 0
    assert order == [0, 1, 2]


def test_running_sequences_are_not_kept_waiting_by_a_long_prompt() -> None:
    machine = Machine(blocks=40, sequences=4, step_tokens=16, guesses=0, seed=0, reuse=True)
    machine.scheduler.add(Running(0, [1] * 8, 8, SamplingParameters(max_new_tokens=20), Draws(0)))
    machine.step()
    machine.scheduler.add(Running(1, [2] * 200, 200, SamplingParameters(max_new_tokens=2), Draws(0)))
    for answered in range(2, 12):
        machine.step()
        assert machine.scheduler.running[0].answered == answered
    assert 0 < machine.scheduler.running[1].computed < 200

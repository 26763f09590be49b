"""A generation core is timed from outside: against one whose clock and work are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deepseek.errors import ConfigError, EngineError
from deepseek.inference.generation.core import GenerationCore, Step
from deepseek.inference.generation.sampling import SamplingParameters
from deepseek.inference.hardware import HardwarePeaks
from deepseek.inference.profiling import Sizes, decode_work, prefill_work, profile_generation, reference
from deepseek.inference.runtime import Availability
from deepseek.models import Checkpoint

CHUNK = 64


class KnownCore(GenerationCore):
    """A second for each prompt token, ten for each decoding step and one for each sequence in it."""

    name = "known"

    def __init__(self, *, room: int = 8, per_step: int = 1, ends_after: int | None = None) -> None:
        self.now = 0.0
        self.room, self.per_step, self.ends_after = room, per_step, ends_after
        self.prompts: list[tuple[int, ...]] = []
        self.left: dict[int, int] = {}
        self.made: dict[int, int] = {}
        self.most: dict[int, int] = {}

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, ("cpu",), "")

    @classmethod
    def load(cls, *_: Any, **__: Any) -> GenerationCore:
        return cls()

    @property
    def context_length(self) -> int:
        return 512

    @property
    def vocabulary(self) -> int:
        return 1000

    @property
    def end_tokens(self) -> frozenset[int]:
        return frozenset({0, 5})

    def check(self, sampling: SamplingParameters) -> None:
        pass

    def add(
        self, sequence: int, prompt: Sequence[int], sampling: SamplingParameters, adapter: str | None = None
    ) -> None:
        assert sampling.ignore_eos
        assert not {0, 5} & set(prompt)
        assert tuple(prompt) not in self.prompts  # or a core could reuse what it has
        self.prompts.append(tuple(prompt))
        self.left[sequence] = len(prompt)
        self.most[sequence] = sampling.max_new_tokens

    def step(self) -> list[Step]:
        running = list(self.left)[: self.room]
        unread = [sequence for sequence in running if self.left[sequence]]
        if unread:
            sequence = unread[0]
            taken = min(CHUNK, self.left[sequence])
            self.left[sequence] -= taken
            self.now += taken
            return [] if self.left[sequence] else [self._token(sequence, 1)]
        self.now += 10 + len(running)
        return [self._token(sequence, self.per_step) for sequence in running]

    def _token(self, sequence: int, count: int) -> Step:
        made = self.made.get(sequence, 0)
        count = min(count, self.most[sequence] - made)
        self.made[sequence] = made + count
        over = made + count >= (self.ends_after or self.most[sequence])
        if over:
            del self.left[sequence]
        return Step(sequence, (7,) * count, finish_reason="length" if over else None)

    def cancel(self, sequence: int) -> None:
        self.left.pop(sequence, None)

    @property
    def busy(self) -> bool:
        return bool(self.left)


def timed(core: KnownCore, *given: Any, **options: Any) -> Any:
    return profile_generation(core, *given, clock=lambda: core.now, **options)


def test_times_are_those_of_the_core() -> None:
    core = KnownCore()
    found = timed(core, 100, (1, 4), new_tokens=20)
    assert [phase.name for phase in found] == [
        "prefill 1 x 100",
        "decode 1 at 110",
        "prefill 4 x 100",
        "decode 4 at 110",
    ]
    assert [phase.seconds for phase in found] == [100, 11, 400, 14]
    assert [phase.tokens_per_second for phase in found] == pytest.approx([1, 1 / 11, 1, 4 / 14])
    assert {len(phase.samples) for phase in found[::2]} == {3}  # a round warms up
    assert all(phase.work is None and phase.limit is None for phase in found)
    assert not core.busy


def test_steps_of_several_tokens_count_them() -> None:
    _, decode = timed(KnownCore(per_step=3), 10, 2, new_tokens=31)
    assert decode.seconds == 12
    assert decode.new_tokens == 6


def test_work_and_limits_are_counted_where_they_can_be(generator: Path, round_peaks: HardwarePeaks) -> None:
    model = reference(Checkpoint(generator, "generator"), "causal-lm")
    sizes = Sizes.of("float32")
    prefill, decode = timed(
        KnownCore(), 40, 2, new_tokens=8, reference=model, sizes=sizes, peaks=round_peaks, precision="float32"
    )
    assert prefill.work == prefill_work(model, 2, 40, sizes)
    assert decode.work == decode_work(model, 2, 44, sizes)
    assert decode.share == pytest.approx(decode.work.bytes / 10e9 / 12)


def test_a_core_that_runs_too_few_or_stops_is_no_measurement() -> None:
    with pytest.raises(EngineError, match=r"never ran 4 sequences at once.*max_sequences=4"):
        timed(KnownCore(room=2), 10, 4)
    core = KnownCore(ends_after=1)
    with pytest.raises(EngineError, match="never ran 2"):
        timed(core, 10, 2)
    core = KnownCore()
    core.step = list  # type: ignore[method-assign]
    core.left = {}
    core.add = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="stopped with 1 of 1 sequences unfinished"):
        timed(core, 10)


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        timed(KnownCore(), 0)
    with pytest.raises(ConfigError, match="room for 512 tokens"):
        timed(KnownCore(), 500, new_tokens=20)
    busy = KnownCore()
    busy.add(9, [1, 2], SamplingParameters(ignore_eos=True))
    with pytest.raises(ConfigError, match="not finished"):
        timed(busy, 10)

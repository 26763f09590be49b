"""What a profile found: phases with their times, work and limits, and where the time went."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from deepseek.inference.profiling.roofline import limit_of, reason

if TYPE_CHECKING:
    from deepseek.inference.hardware import HardwarePeaks
    from deepseek.inference.profiling.roofline import Limit
    from deepseek.inference.profiling.work import Work

Kind = Literal["forward", "prefill", "decode"]


@dataclass(frozen=True)
class Part:
    """A kind of module or operator: its share of a phase's time, and how often it ran in one pass."""

    name: str
    share: float
    calls: float


@dataclass(frozen=True)
class Breakdown:
    """Where the time of a pass went, largest first; looked at in passes of their own, for looking takes time.

    Attributes:
        modules: kinds of modules, each with its own time, without that of modules inside it.
        operators: operators, each with its own time.
        products: share of the time in matrix products, attention and convolutions; ``None``: nothing to tell it by.
    """

    modules: tuple[Part, ...]
    operators: tuple[Part, ...]
    products: float | None = None


@dataclass(frozen=True)
class Phase:
    """One kind of pass.

    Attributes:
        kind: ``"forward"``; ``"prefill"``: prompts are read; ``"decode"``: one token more for each stream.
        rows: rows, prompts or streams.
        tokens: of each row or prompt; of a decode, tokens in the cache, of the middle step.
        samples: seconds of single passes, without those that warmed up.
        new_tokens: tokens that one pass reads (forward, prefill) or makes (decode); 0 where inputs are not tokens.
        work, limit: ``None`` where they are not known; ``note`` then says why.
        breakdown: ``None`` where the runtime does not tell.
    """

    kind: Kind
    rows: int
    tokens: int
    samples: tuple[float, ...]
    new_tokens: float
    work: Work | None = None
    limit: Limit | None = None
    breakdown: Breakdown | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """What was run, e.g. ``"forward 32 x 128"``, ``"decode 8 at 138"``."""
        if not self.tokens:
            return f"{self.kind} {self.rows}"
        return f"{self.kind} {self.rows} {'at' if self.kind == 'decode' else 'x'} {self.tokens}"

    @property
    def seconds(self) -> float:
        """The median of the samples."""
        return statistics.median(self.samples)

    @property
    def tokens_per_second(self) -> float:
        """Tokens read or made in a second."""
        return self.new_tokens / self.seconds

    @property
    def flops_per_second(self) -> float | None:
        """Operations a second that were reached."""
        return None if self.work is None else self.work.flops / self.seconds

    @property
    def share(self) -> float | None:
        """The achieved share of the limit that binds."""
        return None if self.limit is None else self.limit.seconds / self.seconds

    @property
    def reason(self) -> str:
        """Why that limit binds, and what keeps the pass from it; the note where no limit is known."""
        if self.work is None or self.limit is None or self.share is None:
            return self.note
        said = reason(self.work, self.limit, self.share, self.breakdown.products if self.breakdown else None)
        return f"{said}; {self.note}" if self.note else said

    def under(self, peaks: HardwarePeaks, precision: str) -> Phase:
        """The phase with the limit that binds it on that hardware."""
        if self.work is None:
            return self
        limit = limit_of(self.work, peaks, precision)
        if limit is None:
            why = peaks.missing.get(precision, "it was not tried")
            return replace(self, note=f"no peak of {precision} was measured on this device: {why}")
        return replace(self, limit=limit)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        derived = {
            "name": self.name, "seconds": self.seconds, "tokens_per_second": self.tokens_per_second,
            "flops_per_second": self.flops_per_second, "share": self.share, "reason": self.reason,
        }  # fmt: skip
        found = {**asdict(self), **derived}
        if self.work is not None:
            found["work"] |= {"bytes": self.work.bytes, "intensity": self.work.intensity}
        if self.limit is not None:
            found["limit"]["ridge"] = self.limit.ridge
        return found


@dataclass(frozen=True)
class Outside:
    """What is done outside of the model, on the CPU, for the rows of one pass.

    Attributes:
        rows: that were prepared together.
        prepare_seconds: rows to padded tensors: tokenising, or reading pictures.
        padding: share of the tokens of the batches that is padding; ``None``: made-up rows, which are all as long.
    """

    rows: int
    prepare_seconds: float
    padding: float | None


@dataclass(frozen=True)
class Profile:
    """Where time goes in a model, and how near each phase comes to what the hardware can do.

    Attributes:
        device: as the runtime names it.
        dtype: the precision that it computes in; ``"auto"`` where the runtime does not say.
        parameters: number of weights; ``None`` where the model could not be counted on.
        peaks: what the device does at most; ``None`` where that cannot be measured.
    """

    model: str
    task: str
    runtime: str
    device: str
    dtype: str
    parameters: int | None
    peaks: HardwarePeaks | None
    phases: tuple[Phase, ...]
    outside: Outside
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        return {
            "format": 1,
            "model": self.model,
            "task": self.task,
            "runtime": self.runtime,
            "device": self.device,
            "dtype": self.dtype,
            "parameters": self.parameters,
            "peaks": None if self.peaks is None else self.peaks.model_dump(mode="json"),
            "phases": [phase.as_dict() for phase in self.phases],
            "outside": asdict(self.outside),
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """As a file of JSON has it."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    def __str__(self) -> str:
        from deepseek.inference.profiling.words import lines

        return "\n".join(lines(self))


def largest(seconds: Mapping[str, float], calls: Mapping[str, float]) -> tuple[Part, ...]:
    """Parts of a whole, the largest first; nothing where the whole took no time."""
    whole = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Part(name, took / whole, calls.get(name, 0)) for name, took in ordered if whole)

"""What was tried, how fast and how exact it was, and which one was taken."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from deepseek.inference.hardware.hardware_peaks import Hardware


class Trial(BaseModel):
    """One runtime with one precision.

    Attributes:
        seconds: of one forward pass, by batch; empty if it was not measured.
        error: how far outputs are from the first trial's, as the norm of the difference divided by the norm.
        validated: it is a copy that was scored on rows with answers and found as good; ``error`` is only shown then.
        verdict: ``"chosen"``, or why it was not.
    """

    model_config = ConfigDict(frozen=True)

    runtime: str
    device: str
    dtype: str
    seconds: dict[str, float] = Field(default_factory=dict)
    error: float | None = None
    validated: bool = False
    verdict: str = ""

    @property
    def name(self) -> str:
        """Runtime and precision in words."""
        return self.runtime if self.dtype == "auto" else f"{self.runtime} {self.dtype}"


class Choice(BaseModel):
    """A choice and its reasons. Prints as a table; ``model_dump_json`` writes it.

    Attributes:
        key: of the model, the machine, the libraries and the batches that it holds for.
        batches: the batches that were run, as in ``Trial.seconds``.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    model: str
    task: str
    hardware: Hardware
    batches: tuple[str, ...]
    trials: tuple[Trial, ...]
    measured: datetime

    @property
    def chosen(self) -> Trial:
        """The trial that won."""
        return next(trial for trial in self.trials if trial.verdict == "chosen")

    def header(self) -> tuple[str, ...]:
        """Names of the columns of :meth:`rows`."""
        return ("runtime", *self.batches, "off by", "")

    def rows(self) -> list[tuple[str, ...]]:
        """One row a trial, in words: milliseconds by batch, its error, its verdict."""
        return [
            (
                trial.name,
                *(f"{1e3 * trial.seconds[b]:,.1f} ms" if b in trial.seconds else "-" for b in self.batches),
                "-" if trial.error is None else f"{trial.error:.2%}",
                trial.verdict,
            )
            for trial in self.trials
        ]

    def title(self) -> str:
        """What was run where, in one line."""
        threads = f", {self.hardware.threads} threads" if self.hardware.threads else ""
        return f"{self.model}, {self.task}, on {self.hardware.name}{threads}, measured {self.measured:%Y-%m-%d %H:%M}"

    def __str__(self) -> str:
        table = [self.header(), *self.rows()]
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]) - 1)]
        lines = ("  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in table)
        return "\n".join([self.title(), *lines])

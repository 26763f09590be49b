"""What an export was found to be: its files, how far its outputs are from PyTorch's, and how fast it is here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from deepseek.bundles.manifest import FileRecord
from deepseek.inference.hardware.hardware_peaks import Hardware

FILE = "export.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Comparison(_Part):
    """One batch through the exported model and through PyTorch in float32.

    Attributes:
        batch: its shape, e.g. ``"4 x 32"`` (rows, tokens).
        error: the largest over the outputs of norm of difference by norm; padded positions do not count.
        agreement: share of the answers (rows, or tokens of models that answer each) whose highest logit is the same
            one; ``None`` where outputs are no logits of several classes.
        reference_seconds, seconds: of one pass through PyTorch and through the export, medians on the CPU.
    """

    batch: str
    error: float
    agreement: float | None
    reference_seconds: float
    seconds: float


class ExportReport(_Part):
    """An export, as ``export.json`` beside its files has it.

    Attributes:
        model_bytes: size of the exported model's files, without tokenizer and configuration.
        reference_bytes: size of the weights in float32.
        max_error: the error that was allowed.
        task: name and configuration, labels included.
        notes: what a person who uses the files should know.
    """

    format: str
    dtype: str
    model: str
    head: str
    task: dict[str, Any]
    model_bytes: int
    reference_bytes: int
    max_error: float
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    hardware: Hardware
    versions: dict[str, str] = Field(default_factory=dict)
    created: datetime
    files: dict[str, FileRecord] = Field(default_factory=dict)

    @property
    def error(self) -> float:
        """The largest error over the batches."""
        return max(each.error for each in self.comparisons)

    @property
    def agreement(self) -> float | None:
        """The lowest share of equal answers over the batches."""
        found = [each.agreement for each in self.comparisons if each.agreement is not None]
        return min(found) if found else None

    def header(self) -> tuple[str, ...]:
        """Names of the columns of :meth:`rows`."""
        return ("", "size", *(each.batch for each in self.comparisons), "off by", "same answers")

    def rows(self) -> list[tuple[str, ...]]:
        """PyTorch and the export, in words: megabytes, milliseconds by batch, largest error, share of equal answers."""
        agreement = "-" if self.agreement is None else f"{self.agreement:.2%}"
        return [
            (
                "torch float32",
                f"{self.reference_bytes / 1e6:,.1f} MB",
                *(f"{1e3 * each.reference_seconds:,.1f} ms" for each in self.comparisons),
                "-",
                "-",
            ),
            (
                f"{self.format} {self.dtype}",
                f"{self.model_bytes / 1e6:,.1f} MB",
                *(f"{1e3 * each.seconds:,.1f} ms" for each in self.comparisons),
                f"{self.error:.1e}" if self.error < 1e-3 else f"{self.error:.2%}",
                agreement,
            ),
        ]

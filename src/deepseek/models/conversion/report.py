"""What a conversion did, and how near its result is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.models.conversion.closeness import Closeness, LongText

FILE = "conversion.json"
"""Where a converted model's folder keeps it."""


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What a conversion did.

    Attributes:
        source: the checkpoint's name or path, as it was given.
        family: its architecture, as transformers calls it.
        head: the head that was carried over, ``"none"`` for none.
        parameters: weights of the converted model.
        new_parameters: those of them that the checkpoint did not have: positions, and the gate's (still 0).
        left_out: modules of the checkpoint that have no place in the converted model.
        fresh_modules: modules that ``from_pretrained`` will make anew for this head: they have to be trained.
        moved_biases: whether biases were fitted beside the positions. No carried matrix ever is.
        seed: of windows and fitting.
        fitting: how much was spent on it.
        dropped: closeness with positions left out, before any fitting; by length of text.
        fitted: closeness of the result.
        long: the result beyond the checkpoint's longest text.
        seconds: wall time.
    """

    source: str
    family: str
    head: str
    parameters: int
    new_parameters: int
    left_out: tuple[str, ...]
    fresh_modules: tuple[str, ...]
    moved_biases: bool
    seed: int
    fitting: dict[str, Any]
    dropped: tuple[Closeness, ...]
    fitted: tuple[Closeness, ...]
    long: tuple[LongText, ...]
    seconds: float

    def json(self) -> str:
        """The report as JSON, as it lies in the folder."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def header() -> tuple[str, ...]:
        """Columns of :meth:`rows`."""
        return ("tokens", "text: dropped", "text: fitted", "token: dropped", "token: fitted", "same prediction")

    def rows(self) -> Iterator[tuple[str, ...]]:
        """A line for each length of text: cosines of texts and tokens with positions dropped and fitted."""
        for before, after in zip(self.dropped, self.fitted, strict=True):
            same = "" if after.same_prediction is None else f"{after.same_prediction:.1%}"
            yield (
                f"{after.tokens:,}",
                f"{before.text_cosine:.3f}",
                f"{after.text_cosine:.3f}",
                f"{before.token_cosine:.3f}",
                f"{after.token_cosine:.3f}",
                same,
            )

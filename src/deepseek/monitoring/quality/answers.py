"""What is kept of an answer until its label comes, and how it is found again."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class Answer(NamedTuple):
    """What the model said for one row."""

    answer: str | float
    score: float | None
    """Probability of the answer, 0 to 1; ``None`` when the model gives none."""
    at: float
    """Unix time, to about the interval at which the store is tended."""


Kept: TypeAlias = tuple[str | float, float | None, float]
"""An :class:`Answer` as it is stored: a plain tuple of plain values, which the garbage collector does not visit."""


def row_key(request_id: str, row: int = 0) -> str:
    """The key of a request's row; the separator cannot be in a request id."""
    return request_id if row == 0 else f"{request_id}\0{row}"

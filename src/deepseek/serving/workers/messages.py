"""What the server and its workers say to each other.

Two streams join them. On the *work* stream, the server says ``Load`` once and is answered ``Loaded`` or ``LoadFailed``;
then each ``Predict`` is answered by one ``Answer``. The *control* stream is read and written by another thread of the
worker, so that it works while a model runs: ``Cancel`` and ``Stop`` one way, ``Beat`` and ``Record`` the other.
Either stream ends when the process on the other side does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec


class Statistics(msgspec.Struct, array_like=True, frozen=True):
    """What a worker tells of itself, in every answer and every beat."""

    rss_bytes: int = 0
    """Resident memory, as of the last beat."""
    busy_seconds: float = 0.0
    """Time spent in the model since the start, the call that runs included."""
    batches: int = 0
    rows: int = 0


class Fault(msgspec.Struct, array_like=True, frozen=True):
    """An exception: where its class is, its message, and its traceback for the log."""

    module: str
    kind: str
    message: str
    traceback: str = ""


class Load(msgspec.Struct, tag="load", array_like=True, frozen=True):
    """Load a model: call the function with the arguments."""

    function: str
    arguments: dict[str, Any]
    beat_seconds: float
    log_level: int


class Loaded(msgspec.Struct, tag="loaded", array_like=True, frozen=True):
    """The model is loaded and warm."""

    name: str
    version: str
    task: str
    platform: str
    signature: dict[str, Any]
    statistics: Statistics
    reference: dict[str, Any]
    reference_metrics: dict[str, float]
    answer_column: str | None


class LoadFailed(msgspec.Struct, tag="load-failed", array_like=True, frozen=True):
    """The model could not be loaded, or failed on its warm-up row."""

    fault: Fault


class Predict(msgspec.Struct, tag="predict", array_like=True, frozen=True):
    """Run one batch: chunks of ``sizes`` rows each."""

    number: int
    sizes: Sequence[int]
    rows: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]


class Answer(msgspec.Struct, tag="answer", array_like=True, frozen=True):
    """Outputs of each chunk, empty for those in ``faults``."""

    number: int
    outputs: list[list[dict[str, Any]]]
    faults: dict[int, Fault]
    statistics: Statistics


class Cancel(msgspec.Struct, tag="cancel", array_like=True, frozen=True):
    """Nobody waits for this batch."""

    number: int


class Stop(msgspec.Struct, tag="stop", array_like=True, frozen=True):
    """End after the batch that runs."""


class Beat(msgspec.Struct, tag="beat", array_like=True, frozen=True):
    """The worker is alive."""

    statistics: Statistics


class Record(msgspec.Struct, tag="record", array_like=True, frozen=True):
    """One line of the log."""

    logger: str
    level: int
    message: str
    created: float
    traceback: str = ""


Message: TypeAlias = Load | Loaded | LoadFailed | Predict | Answer | Cancel | Stop | Beat | Record

"""The interface behind which batches are run: in a thread of this process, or in processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from deepseek.serving.batching.request import Batch, Outcome

Finished: TypeAlias = Callable[[Batch, list[Outcome]], None]
Changed: TypeAlias = Callable[[], None]


class Executor(Protocol):
    """Runs batches of one model. Everything here is called on one event loop, and calls back on it."""

    @property
    def free(self) -> int:
        """Batches that :meth:`run` would start now."""

    @property
    def width(self) -> int:
        """Batches that run at once when all is well."""

    @property
    def ready(self) -> bool:
        """Whether the model can answer now."""

    @property
    def refusal(self) -> str | None:
        """Why it will not answer until a person, or a call that hangs, does something; ``None``: it will."""

    def attach(self, finished: Finished, changed: Changed, timeout_seconds: float | None) -> None:
        """Say whom to tell when a batch has its outcomes, one for each chunk, and when one of the properties changed.

        A batch that runs for more than ``timeout_seconds`` gets :class:`~deepseek.serving.errors.DeadlineError`.
        """

    def run(self, batch: Batch) -> None:
        """Start a batch; only while :attr:`free` is not 0."""

    def cancel(self, batch: Batch) -> None:
        """Nobody waits for this running batch: tell the model, if it has a ``cancel``. It is finished all the same."""

    async def stop(self) -> None:
        """End what runs models, after the last batch; what does not end within seconds is killed."""

    def close(self) -> None:
        """End what runs models, as far as that goes without waiting."""

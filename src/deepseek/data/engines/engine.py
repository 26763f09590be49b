"""What an engine is: it applies one function to many pieces of work, on this machine or on a cluster.

The data layer cuts its work into pieces (fragments of a table, batches of rows, key ranges) and merges their results in
a fixed order. An engine decides only where the pieces run, so that every engine gives the same result by construction;
for that, pieces must not depend on :attr:`Engine.workers`. Pieces and results travel between processes: keep them
small, and hand over large data as paths in shared storage, or, when every piece reads the same arrays, as ``shared``.

A piece may run more than once (its node died), so it must be safe to repeat: same input, same output, same files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import closing
from types import TracebackType
from typing import Any, Generic, TypeVar

from deepseek import progress
from deepseek.errors import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")
Value = TypeVar("Value")
Self = TypeVar("Self", bound="Engine")


class Shared(Generic[Value]):
    """A value that many pieces read, handed to the engine once; made by :meth:`Engine.broadcast`."""

    def __init__(self, engine: Engine, handle: Any) -> None:
        self.engine = engine
        self.handle = handle


class Nothing:
    """Stands for "no shared value": ``None`` could be one."""


NOTHING = Nothing()


class Engine(ABC):
    """Runs pieces of work; ``name`` is how recipes and the command line call it, ``workers`` how many run at once."""

    name: str

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many pieces run at the same time; on a cluster this may change from one moment to the next."""

    def broadcast(self, value: Value) -> Shared[Value]:
        """Hand a read-only value (arrays, an Arrow table, a dict of them) to the workers, once for many ``map`` calls.

        Embedded engines pass the object itself; a cluster keeps one copy on each node, which NumPy and Arrow read
        without copying it again. Pieces must not write into it: on a cluster the arrays are read-only.
        """
        return Shared(self, value)

    def map(
        self,
        function: Callable[..., Result],
        items: Iterable[Item],
        *,
        shared: Any = NOTHING,
        description: str | None = None,
        total: int | None = None,
        unit: str = "pieces",
    ) -> Iterator[Result]:
        """Apply ``function`` to each item and yield the results in the order of the items.

        ``items`` is read lazily: no more than twice :attr:`workers` pieces are read ahead of the result that was last
        taken, so memory stays bounded whatever the number of items. An error raised by ``function`` is raised here as
        it is; pieces that have not started are then not started. Closing the iterator early cancels what is left.

        Args:
            function: a module-level function of one item, or of an item and the shared value.
            shared: a value, or what :meth:`broadcast` made of one, given to ``function`` as second argument.
            description: shows a progress bar with this text, over ``total`` pieces (``len(items)`` where it has one).

        Raises:
            EngineError: the cluster could not run a piece: its worker or node died more often than is retried.
        """
        if isinstance(shared, Shared):
            if shared.engine is not self:
                raise ConfigError(f"shared: this value was broadcast by another engine ({shared.engine.name})")
            handle = shared.handle
        else:
            handle = shared if isinstance(shared, Nothing) else self.broadcast(shared).handle
        if total is None and isinstance(items, Sized):
            total = len(items)
        return self._watched(self._run(function, items, handle), description, total, unit)

    @staticmethod
    def _watched(results: Iterator[Result], description: str | None, total: int | None, unit: str) -> Iterator[Result]:
        with closing(results) as running:  # type: ignore[type-var]  # both engines' runs are generators
            yield from running if description is None else progress.track(running, description, total, unit)

    @abstractmethod
    def _run(self, function: Callable[..., Result], items: Iterable[Item], handle: Any) -> Iterator[Result]:
        """A generator that does what :meth:`map` promises; ``handle`` is ``NOTHING`` or of :meth:`broadcast`."""

    def close(self) -> None:  # noqa: B027 - an engine without resources has nothing to give back
        """Give back what this engine started. Engines that joined something leave it running."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def call(function: Callable[..., Result], item: Item, handle: Any) -> Result:
    """``function(item)``, or ``function(item, shared)`` where there is a shared value."""
    return function(item) if isinstance(handle, Nothing) else function(item, handle)

"""What an engine is: it applies one function to many pieces of work, on this machine or on a cluster.

The data layer cuts its work into pieces (fragments of a table, batches of rows, key ranges) and merges their results in
a fixed order. An engine decides only where the pieces run, so that every engine gives the same result by construction.
Pieces and results travel between processes: keep them small, and hand over large data as paths in shared storage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(ABC):
    """Runs pieces of work; ``name`` is how recipes and the command line call it, ``workers`` how many run at once."""

    name: str

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many pieces run at the same time."""

    @abstractmethod
    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply ``function`` to each item and yield the results in the order of the items.

        ``items`` is read lazily: no more than twice :attr:`workers` pieces are read ahead of the result that was last
        taken, so memory stays bounded whatever the number of items. An error raised by ``function`` is raised here;
        pieces that have not started are then not started.
        """

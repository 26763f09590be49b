"""A uniform sample of everything that passed, in bounded memory and with almost no work for what is not taken.

Algorithm L (Li, "Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n)))", ACM TOMS 20(4), 1994): the
number of items to pass over until the next one is taken is drawn at once, so an item that is not taken costs a
comparison.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Concatenate, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Reservoir(Generic[T]):
    """Keeps at most ``size`` of the items offered to it, each with the same probability.

    One thread offers. To take the sample from another one, put a new reservoir in the place of this one and read
    :attr:`kept` of the old: an item that is being offered meanwhile is lost or not, and nothing breaks.
    """

    def __init__(self, size: int, *, seed: int | None = None) -> None:
        self._size = size
        self._random = random.Random(seed)  # noqa: S311  statistics, not secrets
        self._kept: list[T] = []
        self._weight = 1.0
        self._seen = 0
        self._next = 0

    @property
    def kept(self) -> list[T]:
        """The sample."""
        return list(self._kept)

    def offer(self, count: int, item: Callable[Concatenate[int, P], T], *given: P.args, **named: P.kwargs) -> None:
        """Offer ``count`` items; ``item(i, *given)`` is called for those that are taken."""
        first = self._seen
        self._seen = end = first + count
        while self._next < end:
            index = self._next
            if index < self._size:
                self._kept.append(item(index - first, *given, **named))
            else:
                self._kept[self._random.randrange(self._size)] = item(index - first, *given, **named)
            self._next = index + 1 if index + 1 < self._size else index + self._gap()

    def _gap(self) -> int:
        """How many items further the next one to take is."""
        self._weight *= math.exp(math.log(1.0 - self._random.random()) / self._size)
        return int(math.log(1.0 - self._random.random()) / math.log1p(-min(self._weight, 1 - 1e-12))) + 1

"""The cluster engine: Ray tasks.

Joins the cluster that ``RAY_ADDRESS`` names or that this process is connected to already; without either it starts Ray
on this machine. Every node needs this package and access to the tables' storage (a shared file system or an object
store). A piece whose worker or node dies is run again by Ray, so pieces must be safe to repeat.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from deepseek.data.engines.engine import Engine, Item, Result
from deepseek.errors import require


class RayEngine(Engine):
    """Tasks on a Ray cluster; ``address`` as in ``ray.init``."""

    name = "ray"

    def __init__(self, address: str | None = None) -> None:
        self._ray: Any = require("ray", "ray")
        if not self._ray.is_initialized():
            self._ray.init(
                address=address or os.environ.get("RAY_ADDRESS"),
                log_to_driver=False,
                logging_level="ERROR",
                include_dashboard=False if address is None and "RAY_ADDRESS" not in os.environ else None,
            )

    @property
    def workers(self) -> int:
        """The cluster's cores, as Ray counts them now."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply ``function`` to each item in a Ray task; see :meth:`Engine.map`."""
        remote = self._ray.remote(max_retries=3)(_call).remote
        shared = self._ray.put(function)
        pending: deque[Any] = deque()
        try:
            for item in items:
                pending.append(remote(shared, item))
                if len(pending) >= 2 * self.workers:
                    yield self._take(pending.popleft())
            while pending:
                yield self._take(pending.popleft())
        finally:
            for reference in pending:
                self._ray.cancel(reference)

    def _take(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None  # the typed error of the piece itself, as the local engine raises it


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)

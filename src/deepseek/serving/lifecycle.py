"""Whether the server takes requests, and how many it is answering: shared by both protocols."""

from __future__ import annotations

import asyncio
from enum import Enum

from deepseek.serving.errors import NotReadyError


class Phase(Enum):
    """The three phases of a server, in order."""

    STARTING = "starting: models are warming up"
    SERVING = "serving"
    DRAINING = "shutting down"


class Lifecycle:
    """Counts requests in flight and tells when the last one has left; used on the event loop only."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.in_flight = 0
        self._idle: asyncio.Event | None = None

    @property
    def ready(self) -> bool:
        """Whether new requests are taken."""
        return self.phase is Phase.SERVING

    def enter(self) -> None:
        """Count a request in; raises :class:`NotReadyError` unless the server is serving."""
        if self.phase is not Phase.SERVING:
            raise NotReadyError(f"the server is {self.phase.value}; retry later or against another replica")
        self.in_flight += 1

    def leave(self) -> None:
        """Count a request out."""
        self.in_flight -= 1
        if self.in_flight == 0 and self._idle is not None:
            self._idle.set()

    async def drained(self) -> None:
        """Refuse new requests and wait until those in flight are answered."""
        self.phase = Phase.DRAINING
        if self.in_flight:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()

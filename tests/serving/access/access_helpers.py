"""What the tests of access control share: a loop for each test, a clock to turn, and the steps of a request."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from deepseek.serving.access import AccessConfig, AccessControl, LimitExceededError, Plan
from deepseek.serving.access.clock import DAY_SECONDS, Clock

PLANS = {
    "three": Plan(requests_per_minute=3),
    "twenty": Plan(requests_per_minute=20),
    "ten-rows": Plan(inferences_per_day=10),
    "hundred-tokens": Plan(tokens_per_day=100),
    "all": Plan(requests_per_minute=3, inferences_per_day=10, tokens_per_day=100),
}
NOON = 20_000 * DAY_SECONDS + DAY_SECONDS / 2
"""2024-10-04 12:00 UTC, in the past: whatever the real clock says, it is another day."""


def in_loop(test: Callable[..., Any]) -> Callable[..., None]:
    """Run an async test in an event loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


class Hands:
    """A clock that is turned by hand."""

    def __init__(self, wall: float = NOON) -> None:
        self.wall, self.monotonic = wall, 1000.0
        self.clock = Clock(wall=lambda: self.wall, monotonic=lambda: self.monotonic)

    def pass_(self, seconds: float) -> None:
        """Time passes on both clocks."""
        self.wall += seconds
        self.monotonic += seconds


@contextlib.asynccontextmanager
async def opened(store: str, clock: Clock | None = None, **settings: Any) -> AsyncIterator[AccessControl]:
    control = await AccessControl.open(AccessConfig(store=store, plans=PLANS, **settings), clock)
    try:
        yield control
    finally:
        await control.close()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def ask(
    control: AccessControl, key: str, model: str = "sentiment", rows: int = 1, tokens: tuple[int, int] = (0, 0)
) -> None:
    """A request from its headers to its answer."""
    principal = control.authenticate(bearer(key))
    waiting = control.admit(principal, model, rows)
    if waiting is not None:
        await waiting
    control.charge(principal, model, rows, *tokens)


async def allowed(control: AccessControl, key: str, times: int, **request: Any) -> int:
    """How many of some requests, one after the other, were let through."""
    count = 0
    for _ in range(times):
        with contextlib.suppress(LimitExceededError):
            await ask(control, key, **request)
            count += 1
    return count


class Process:
    """``access_process.py`` in a process of its own."""

    def __init__(self, store: str, key: str, requests: int, *options: str) -> None:
        here = Path(__file__).parent
        command = [sys.executable, str(here / "access_process.py"), store, key, str(requests), *options]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ready(self) -> None:
        assert self._line() == "ready"

    def begin(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def count(self) -> int:
        """How many requests were let through."""
        return int(self._line())

    def end(self, *, kill: bool = False) -> None:
        if kill:
            self.popen.kill()
        code = self.popen.wait(30)
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()
        assert kill or code == 0

    def _line(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()


def together(processes: list[Process]) -> int:
    """Run them at the same time; how many requests were let through in all."""
    for process in processes:
        process.ready()
    for process in processes:
        process.begin()
    total = sum(process.count() for process in processes)
    for process in processes:
        process.end()
    return total

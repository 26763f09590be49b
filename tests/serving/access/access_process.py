"""A server's process for the tests: opens a store, sends requests with one key, says how many were let through.

Usage: access_process.py STORE KEY REQUESTS [--hold]
With ``--hold`` it stays after the requests until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from access_helpers import PLANS, ask

from deepseek.serving.access import AccessConfig, AccessControl, LimitExceededError


async def main(store: str, key: str, requests: int, hold: bool) -> None:
    control = await AccessControl.open(AccessConfig(store=store, plans=PLANS))
    print("ready", flush=True)
    sys.stdin.readline()  # all begin together
    count = 0

    async def one() -> None:
        nonlocal count
        with contextlib.suppress(LimitExceededError):
            await ask(control, key, rows=2, tokens=(1, 1))
            count += 1

    for start in range(0, requests, 50):
        await asyncio.gather(*(one() for _ in range(min(50, requests - start))))
        await asyncio.sleep(0)
    if hold:
        await asyncio.sleep(1.0)  # what was counted is stored within a second
    print(count, flush=True)
    if hold:
        await asyncio.sleep(3600)
    await control.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), "--hold" in sys.argv))

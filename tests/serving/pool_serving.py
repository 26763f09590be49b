"""Pools of quick workers behind a batcher, for tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import psutil
import uvloop

from deepseek.serving import MicroBatcher
from deepseek.serving.batching import BatchingConfig
from deepseek.serving.workers import LoaderSpec, WorkerPool, WorkersConfig

QUICK = {"beat_seconds": 0.05, "restart_delay_seconds": 0.05, "stop_seconds": 3.0}


def made(
    function: str = "worker_models:obedient", arguments: dict[str, Any] | None = None, **config: Any
) -> WorkerPool:
    return WorkerPool(
        LoaderSpec(function=function, arguments=arguments or {}), WorkersConfig(**{"workers": 1, **QUICK, **config})
    )


@contextlib.asynccontextmanager
async def serving(pool: WorkerPool, **batching: Any) -> AsyncIterator[MicroBatcher]:
    await pool.start()
    batcher = MicroBatcher(pool, BatchingConfig(**batching), name=pool.model.name)
    pids = {worker.pid for worker in pool.statistics}
    try:
        yield batcher
        await asyncio.wait_for(batcher.drain(), 20)
    finally:
        pids |= {worker.pid for worker in pool.statistics}
        batcher.close()
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run(
    test: Callable[[], Coroutine[Any, Any, None]], loop: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> None:
    with asyncio.Runner(loop_factory=loop or uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(test(), 60))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def do(what: str, value: int = 0) -> list[dict[str, Any]]:
    return [{"do": what, "v": value}]

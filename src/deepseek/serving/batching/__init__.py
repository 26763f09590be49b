"""Batches of concurrent requests' rows for one model: gathering them, and running them behind one interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.serving.batching.batcher import MicroBatcher
    from deepseek.serving.batching.config import BatchingConfig
    from deepseek.serving.batching.executor import Executor
    from deepseek.serving.batching.lengths import length_of
    from deepseek.serving.batching.request import LOWEST_PRIORITY, NORMAL_PRIORITY
    from deepseek.serving.batching.thread_executor import ThreadExecutor

__all__ = [
    "LOWEST_PRIORITY",
    "NORMAL_PRIORITY",
    "BatchingConfig",
    "Executor",
    "MicroBatcher",
    "ThreadExecutor",
    "length_of",
]

_HOMES = {
    "LOWEST_PRIORITY": "deepseek.serving.batching.request",
    "NORMAL_PRIORITY": "deepseek.serving.batching.request",
    "BatchingConfig": "deepseek.serving.batching.config",
    "Executor": "deepseek.serving.batching.executor",
    "MicroBatcher": "deepseek.serving.batching.batcher",
    "ThreadExecutor": "deepseek.serving.batching.thread_executor",
    "length_of": "deepseek.serving.batching.lengths",
}

__getattr__ = names_of(__name__, _HOMES)

"""Models in processes of their own: several at once, each restarted when it dies, hangs or grows too large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.serving.workers.config import LoaderSpec, WorkersConfig
    from deepseek.serving.workers.description import ModelDescription
    from deepseek.serving.workers.pool import WorkerPool, WorkerStatus

__all__ = ["LoaderSpec", "ModelDescription", "WorkerPool", "WorkerStatus", "WorkersConfig"]

_HOMES = {
    "LoaderSpec": "deepseek.serving.workers.config",
    "ModelDescription": "deepseek.serving.workers.description",
    "WorkerPool": "deepseek.serving.workers.pool",
    "WorkerStatus": "deepseek.serving.workers.pool",
    "WorkersConfig": "deepseek.serving.workers.config",
}

__getattr__ = names_of(__name__, _HOMES)

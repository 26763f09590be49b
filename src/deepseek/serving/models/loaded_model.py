"""A model with what serving adds to it: a batcher, a codec compiled from its signature, readiness, statistics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from deepseek.serving.batching.batcher import MicroBatcher
from deepseek.serving.batching.executor import Executor
from deepseek.serving.batching.lengths import length_of
from deepseek.serving.batching.output_check import checked
from deepseek.serving.batching.request import NORMAL_PRIORITY
from deepseek.serving.batching.thread_executor import ThreadExecutor
from deepseek.serving.config import ServingConfig
from deepseek.serving.errors import NotReadyError
from deepseek.serving.models.served_model import Batcher, BatchingModel, Outputs, Parameters, Row, ServedModel
from deepseek.serving.models.warming import sample, trying
from deepseek.serving.oip.codec import Codec
from deepseek.serving.workers.description import ModelDescription

if TYPE_CHECKING:
    from deepseek.monitoring.metrics.models import ModelMeter
    from deepseek.monitoring.metrics.requests import RequestMeter
    from deepseek.monitoring.quality.monitor import QualityMonitor
    from deepseek.serving.models.repository import ModelSource


class Statistics:
    """What a model has answered since it was loaded (Triton's statistics extension)."""

    __slots__ = (
        "batches", "failed", "failed_seconds", "last_answer", "rows", "run_seconds", "succeeded", "succeeded_seconds",
        "waited_seconds",
    )  # fmt: skip

    def __init__(self) -> None:
        self.succeeded = self.failed = self.rows = self.batches = 0
        self.succeeded_seconds = self.failed_seconds = self.waited_seconds = self.run_seconds = 0.0
        self.last_answer = 0.0
        """Unix seconds; 0 before the first."""

    def answered(self, seconds: float, rows: int, success: bool) -> None:
        """Count one request of ``rows`` inferences."""
        if success:
            self.succeeded += 1
            self.succeeded_seconds += seconds
            self.rows += rows
            self.last_answer = time.time()
        else:
            self.failed += 1
            self.failed_seconds += seconds

    def ran(self, waited: float, seconds: float) -> None:
        """Count one batch whose oldest row waited for ``waited`` seconds, and that ran for ``seconds``."""
        self.batches += 1
        self.waited_seconds += waited
        self.run_seconds += seconds

    def report(self, loaded: LoadedModel) -> dict[str, Any]:
        """The model's statistics as Triton's extension has them; durations in nanoseconds."""
        return {
            "name": loaded.name,
            "version": loaded.version,
            "last_inference": round(self.last_answer * 1000),
            "inference_count": self.rows,
            "execution_count": self.batches,
            "inference_stats": {
                "success": {"count": self.succeeded, "ns": round(self.succeeded_seconds * 1e9)},
                "fail": {"count": self.failed, "ns": round(self.failed_seconds * 1e9)},
                "queue": {"count": self.batches, "ns": round(self.waited_seconds * 1e9)},
                "compute_infer": {"count": self.batches, "ns": round(self.run_seconds * 1e9)},
            },
        }


class LoadedModel:
    """A served model under its name and version.

    Attributes:
        executor: what runs its batches, when that is not a thread of the server.
        source: what it was loaded from, if it can be loaded again.
        ready: whether it takes requests.
        successor: what answers in its place, once it has been swapped out; requests that reached this one just before
            go there.
    """

    def __init__(
        self,
        model: ServedModel | ModelDescription,
        config: ServingConfig,
        source: ModelSource | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.model = model
        self.executor = executor
        self.source = source
        self.name = model.name
        self.version = model.version
        self.task = model.task
        self.codec = Codec(model.signature)
        self.loaded_at = int(time.time())
        self.ready = False
        self.successor: LoadedModel | None = None
        self.statistics = Statistics()
        self.meters: dict[tuple[str, str], RequestMeter] = {}
        self.meter: ModelMeter | None = None
        self.quality: QualityMonitor | None = None
        self.max_queue = config.max_queue
        self.batcher: Batcher
        if isinstance(model, BatchingModel):
            self.batcher = model.batcher(max_queue=config.max_queue)
        else:
            self.batcher = MicroBatcher(
                executor or self._in_a_thread(),
                config.batching,
                name=model.name,
                length=getattr(model, "length", None) or _texts_length(model),
                cost=getattr(model, "cost", None),
                on_batch=self._ran,
            )

    def _in_a_thread(self) -> Executor:
        model = self.model
        assert not isinstance(model, ModelDescription), "a model of other processes brings its executor"
        return ThreadExecutor(checked(model), name=model.name, cancel=getattr(model, "cancel", None))

    @property
    def answers(self) -> bool:
        """Whether requests can be answered now: it is ready, and what runs it is up."""
        return self.ready and getattr(self.batcher, "ready", True)

    def _ran(self, rows: int, waited: float, seconds: float) -> None:
        self.statistics.ran(waited, seconds)
        if self.meter is not None:
            self.meter.waited(waited)
            self.meter.ran(rows, seconds)

    def require_ready(self) -> None:
        """Raise :class:`NotReadyError` while the model is warming up."""
        if not self.ready:
            raise NotReadyError(f"model {self.name!r} is still loading; retry later")

    def submit(
        self,
        rows: Sequence[Row],
        parameters: Parameters | None = None,
        *,
        priority: int = NORMAL_PRIORITY,
        deadline: float | None = None,
        size_bytes: int = 0,
    ) -> asyncio.Future[Outputs]:
        """Queue the rows of one request at this model, or at its successor; see :meth:`MicroBatcher.submit`."""
        loaded = self
        while loaded.successor is not None:
            loaded = loaded.successor
        return loaded.batcher.submit(rows, parameters, priority=priority, deadline=deadline, size_bytes=size_bytes)

    async def warm_up(self) -> None:
        """Run one tiny row, so that the first client does not pay for lazy initialisation, then become ready.

        Raises what :func:`deepseek.serving.models.warming.trying` raises.
        """
        row, parameters = sample(self.model.signature)
        with trying(self.name):
            await self.batcher.submit([row], parameters or None)
        self.ready = True

    def release(self) -> None:
        """Let the model free what it holds, if it can (``close``)."""
        close = getattr(self.model, "close", None)
        if close is not None:
            close()


def _texts_length(model: ServedModel | ModelDescription) -> Callable[[Row], int] | None:
    """Rows of texts go together by length; those of numbers alone are not measured, which would cost them time."""
    texts = any(field.dtype in ("string", "bytes") for field in model.signature.inputs)
    return length_of(model.signature) if texts else None

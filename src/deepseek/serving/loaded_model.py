"""A model with what serving adds to it: a batcher, a codec compiled from its signature, readiness, statistics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deepseek.errors import DeepSeekError
from deepseek.serving.batching import MicroBatcher
from deepseek.serving.config import ServingConfig
from deepseek.serving.errors import NotReadyError
from deepseek.serving.model import Batcher, BatchingModel, Outputs, Parameters, Row, ServedModel
from deepseek.serving.oip.codec import Codec
from deepseek.tasks.signature import Field

if TYPE_CHECKING:
    from deepseek.monitoring.metrics.models import ModelMeter
    from deepseek.monitoring.metrics.requests import RequestMeter
    from deepseek.monitoring.quality.monitor import QualityMonitor
    from deepseek.serving.repository import ModelSource

logger = logging.getLogger("deepseek.serving")


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
        source: what it was loaded from, if it can be loaded again.
        ready: whether it takes requests.
        successor: what answers in its place, once it has been swapped out; requests that reached this one just before
            go there.
    """

    def __init__(self, model: ServedModel, config: ServingConfig, source: ModelSource | None = None) -> None:
        self.model = model
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
            self.batcher = batcher = MicroBatcher(
                self._predict,
                name=model.name,
                max_batch_size=config.max_batch_size,
                max_batch_delay_ms=config.max_batch_delay_ms,
                max_queue=config.max_queue,
            )
            batcher.on_batch = self._ran

    def _predict(self, rows: Any, parameters: Parameters) -> Outputs:
        return self.model.predict(rows, parameters or None)

    def _ran(self, rows: int, waited: float, seconds: float) -> None:
        self.statistics.ran(waited, seconds)
        if self.meter is not None:
            self.meter.waited(waited)
            self.meter.ran(rows, seconds)

    def require_ready(self) -> None:
        """Raise :class:`NotReadyError` while the model is warming up."""
        if not self.ready:
            raise NotReadyError(f"model {self.name!r} is still loading; retry later")

    def submit(self, rows: Sequence[Row], parameters: Parameters | None = None) -> asyncio.Future[Outputs]:
        """Queue the rows of one request at this model, or at its successor; see :meth:`MicroBatcher.submit`."""
        loaded = self
        while loaded.successor is not None:
            loaded = loaded.successor
        return loaded.batcher.submit(rows, parameters)

    async def warm_up(self) -> None:
        """Run one tiny row, so that the first client does not pay for lazy initialisation, then become ready.

        A model may refuse our made-up row (``ValueError``): it answered, so it is ready. Any other exception is raised
        as :class:`DeepSeekError`, because every real request would meet it too.
        """
        parameters = {"max_new_tokens": 1} if "max_new_tokens" in self.codec.parameters else None
        try:
            await self.batcher.submit([sample_row(self.model.signature.inputs)], parameters)
        except ValueError as error:
            logger.warning("model %r refused the warm-up row: %s", self.name, error)
        except Exception as error:
            raise DeepSeekError(
                f"model {self.name!r} failed on its warm-up row with {type(error).__name__}: {error}"
            ) from error
        self.ready = True

    def release(self) -> None:
        """Let the model free what it holds, if it can (``close``)."""
        close = getattr(self.model, "close", None)
        if close is not None:
            close()


def sample_row(inputs: tuple[Field, ...]) -> dict[str, Any]:
    """A smallest plausible row for a signature: short text, zeros, sizes that vary set to 1."""
    import numpy as np

    samples: dict[str, Any] = {"string": "warm up", "bytes": b"warm up", "bool": False, "float32": 0.0, "float64": 0.0}
    row: dict[str, Any] = {}
    for field in inputs:
        if field.optional:
            continue
        value = samples.get(field.dtype, 0)
        if field.shape:
            shape = tuple(1 if size < 0 else size for size in field.shape)
            array = np.full(shape, value, dtype=object if field.dtype in ("string", "bytes") else field.dtype)
            row[field.name] = array.tolist() if array.dtype == object else array
        else:
            row[field.name] = value
    return row

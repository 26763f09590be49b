"""BentoML: one service with a batchable API and one that is not; workers as its environment gives them."""

import os

import bentoml
import numpy as np

from benchmarks.serving_parts.models import chosen, numpy_rows

WORKERS = int(os.environ["BENCH_WORKERS"])


@bentoml.service(name="contest", workers=WORKERS, logging={"access": {"enabled": False}}, traffic={"timeout": 60})
class Contest:
    """The model."""

    def __init__(self) -> None:
        _, self.model = chosen()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict_batch(self, x: np.ndarray) -> np.ndarray:
        """Rows in, rows out; BentoML joins those of several requests."""
        return self.model(x.astype(np.float32))

    @bentoml.api
    def predict(self, x: list[float]) -> list[float]:
        """One row, in a thread of its own."""
        return self.model(numpy_rows([x]))[0].tolist()

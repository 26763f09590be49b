"""Our side: a bundle with an int8 copy through ``runtime="auto"``, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.inference_parts.encoder_timing import batches_of, timed
from benchmarks.worker import Clock, serve

state: dict[str, Any] = {}


def choose_runtime(clock: Clock, *, bundle: str) -> dict[str, str]:
    """Measure anew what ``auto`` takes: its name, and the whole measurement in words."""
    from deepseek.inference.choice import choose

    with clock:
        choice = choose(bundle, refresh=True)
    return {"name": choice.chosen.name, "table": str(choice)}


def open_model(clock: Clock, *, bundle: str, runtime: str = "auto", dtype: str = "auto") -> str:
    """Load the bundle; the name of the runtime that answers."""
    from deepseek.inference import Predictor

    with clock:
        state["predictor"] = Predictor.load(bundle, runtime=runtime, dtype=dtype)
    return str(state["predictor"].platform)


def logits(clock: Clock, *, file: str) -> list[list[float]]:
    """Logits of all rows of a cell."""
    model = state["predictor"].model
    return [row for batch in _tensors(file) for row in model.forward(batch)["logits"].tolist()]


def answer(clock: Clock, *, file: str, times: int) -> list[float]:
    """Seconds of each of several passes over the batches of a cell."""
    model, batches = state["predictor"].model, _tensors(file)
    return timed(lambda: [model.forward(batch) for batch in batches], times)


def texts(clock: Clock, *, file: str, size: int, times: int) -> list[float]:
    """Seconds of each of several passes from texts to labels, tokenising included."""
    predictor = state["predictor"]
    predictor.batch_size = size
    rows = [{"text": text} for text in json.loads(Path(file).read_text(encoding="utf-8"))]
    return timed(lambda: predictor.predict(rows), times)


def _tensors(file: str) -> list[dict[str, Any]]:
    import torch

    return [{name: torch.from_numpy(value) for name, value in batch.items()} for batch in batches_of(file)]


def labels(clock: Clock, *, file: str) -> list[str]:
    """The label of each row of a file of JSON lines."""
    rows = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    return [answer["label"] for answer in state["predictor"].predict(rows)]


if __name__ == "__main__":
    serve(choose_runtime, open_model, logits, answer, texts, labels)

"""Fast models to serve: the outputs are functions of the text alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepseek.errors import DataError
from deepseek.serving import ServingConfig
from deepseek.tasks.signature import Field, Signature

CONFIG = ServingConfig(http_port=0, grpc_port=0, max_body_bytes=64 * 1024, max_batch_size=8, drain_seconds=5)

TEXT_CLASSIFICATION = Signature(
    inputs=(Field(name="text", dtype="string"),),
    outputs=(
        Field(name="label", dtype="string"),
        Field(name="score", dtype="float32"),
        Field(name="scores", dtype="float32", shape=(2,)),
    ),
    parameters=(
        Field(name="temperature", dtype="float32", optional=True),
        Field(name="top_k", dtype="int64", optional=True),
    ),
)


class FakeClassifier:
    """Scores a text by its length; texts that start with "bad" are refused, "crash" is a fault of ours."""

    def __init__(self, name: str = "sentiment", version: str = "1", seconds: float = 0.0) -> None:
        self.name = name
        self.version = version
        self.task = "text-classification"
        self.signature = TEXT_CLASSIFICATION
        self.platform = "fake"
        self.seconds = seconds
        self.batches: list[int] = []
        self.seen: list[Mapping[str, Any] | None] = []
        self.gate: threading.Event | None = None

    def predict(
        self, rows: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        self.batches.append(len(rows))
        self.seen.append(parameters)
        if self.gate is not None:
            assert self.gate.wait(30)
        if self.seconds:
            time.sleep(self.seconds)
        texts = [row["text"] for row in rows]
        for text in texts:
            if text.startswith("bad"):
                raise DataError(f"expected a good text, received {text!r}")
            if text.startswith("crash"):
                raise RuntimeError("a secret of the implementation")
        return [classify(text, parameters) for text in texts]


def classify(text: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    temperature = float((parameters or {}).get("temperature", 1.0))
    score = (len(text) % 10) / 10 * temperature
    return {"label": text.upper(), "score": score, "scores": [score, 1 - score]}


ARRAYS = Signature(
    inputs=(
        Field(name="x", dtype="float32", shape=(-1, 2)),
        Field(name="n", dtype="int32"),
        Field(name="flag", dtype="bool", optional=True),
        Field(name="tags", dtype="string", shape=(2,), optional=True),
        Field(name="blob", dtype="bytes", optional=True),
    ),
    outputs=(
        Field(name="x", dtype="float64", shape=(-1, 2)),
        Field(name="n", dtype="int64"),
        Field(name="flag", dtype="bool"),
        Field(name="tags", dtype="string", shape=(2,)),
        Field(name="blob", dtype="bytes"),
    ),
)


class FakeArrays:
    """Gives every input back, so that each dtype and shape crosses the wire twice."""

    def __init__(self) -> None:
        self.name, self.version, self.task = "arrays", "2", "echo"
        self.signature, self.platform = ARRAYS, "fake"

    def predict(
        self, rows: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        return [
            {
                "x": np.asarray(row["x"], dtype=np.float64),
                "n": np.int64(row["n"]),
                "flag": row.get("flag", False),
                "tags": row.get("tags", ["", ""]),
                "blob": row.get("blob", b""),
            }
            for row in rows
        ]


def fake_models() -> list[Any]:
    """What the tests' server serves."""
    return [FakeClassifier(), FakeClassifier("sentiment", "10"), FakeClassifier("org/topic"), FakeArrays()]

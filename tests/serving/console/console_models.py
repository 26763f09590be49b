"""Models for the console: each task's answers as functions of the input, quick, and with a reference to drift from."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from generation_fakes import ByteTokenizer, Echo

from deepseek.errors import DataError
from deepseek.inference.generation import GenerationEngine, SamplingParameters, Step
from deepseek.serving.generation.generator import ServedGenerator
from deepseek.serving.generation.host import EngineHost
from deepseek.tasks.signature import Field, Signature
from deepseek.tasks.text_generation import TextGeneration

GOOD = ("wonderful", "moving", "funny", "warm", "brilliant", "charming", "honest", "clever")
BAD = ("dull", "tired", "boring", "loud", "stupid", "painful", "flat", "clumsy")
PLAIN = ("film", "story", "acting", "scene", "music", "ending", "dialogue", "camera", "actors", "plot")
TEXT = Field(name="text", dtype="string", description="the text")


class _Model:
    task = ""
    platform = "torch"
    version = "1"
    signature: Signature
    seconds = 0.002

    def __init__(self, name: str) -> None:
        self.name = name

    def predict(
        self, rows: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        time.sleep(self.seconds * (1 + 0.15 * len(rows)))
        return [self.answer(row, parameters or {}) for row in rows]

    def answer(self, row: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


class Sentiment(_Model):
    """Counts good and bad words; its reference and its scores are those of :func:`sentences`."""

    task = "text-classification"
    labels = ("negative", "neutral", "positive")
    answer_column = "label"
    reference_metrics: Mapping[str, float] = {"accuracy": 0.94}
    signature = Signature(
        inputs=(TEXT,),
        outputs=(
            Field(name="label", dtype="string", description="the most probable label"),
            Field(name="score", dtype="float32", description="its probability"),
            Field(name="scores", dtype="float32", shape=(3,), description="probabilities of " + ", ".join(labels)),
        ),
        parameters=(Field(name="temperature", dtype="float32", description="of the softmax", optional=True),),
    )

    def __init__(self, name: str = "sentiment", reference: Mapping[str, Any] | None = None) -> None:
        super().__init__(name)
        self.reference = reference or {}

    def answer(self, row: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        text = row["text"]
        if text.startswith("refuse"):
            raise DataError("expected a text about a film")
        if text.startswith("crash"):
            raise RuntimeError("a fault of the model")
        words = text.lower().split()
        balance = sum(word in GOOD for word in words) - sum(word in BAD for word in words)
        noise = int(hashlib.md5(text.encode()).hexdigest()[:6], 16) / 0xFFFFFF - 0.5
        logits = np.array([-balance, 0.2, balance]) * 1.4 + np.array([noise, 0, -noise])
        scores = np.exp(logits / parameters.get("temperature", 1.0))
        scores = scores / scores.sum()
        best = int(scores.argmax())
        return {"label": self.labels[best], "score": float(scores[best]), "scores": scores.astype(np.float32)}


class Tagger(_Model):
    """Marks words that begin with a capital letter."""

    task = "token-classification"
    signature = Signature(
        inputs=(TEXT,),
        outputs=tuple(
            Field(name=name, dtype=dtype, shape=(-1,))  # type: ignore[arg-type]
            for name, dtype in (("starts", "int32"), ("ends", "int32"), ("labels", "string"), ("scores", "float32"))
        ),
    )

    def answer(self, row: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        found, at = [], 0
        for word in row["text"].split(" "):
            if word[:1].isupper():
                label = ("PER", "LOC", "ORG")[len(word) % 3]
                found.append((at, at + len(word.rstrip(".,")), label, 0.9))
            at += len(word) + 1
        starts, ends, labels, scores = (list(column) for column in zip(*found, strict=True)) if found else ([],) * 4
        return {"starts": starts, "ends": ends, "labels": labels, "scores": scores}


class Embedder(_Model):
    """A vector of length 1 from the text's words."""

    task = "sentence-embedding"
    signature = Signature(inputs=(TEXT,), outputs=(Field(name="embedding", dtype="float32", shape=(-1,)),))

    def answer(self, row: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        vector = np.zeros(384)
        for word in row["text"].lower().split():
            vector += np.random.default_rng(int(hashlib.md5(word.encode()).hexdigest()[:8], 16)).normal(size=384)
        return {"embedding": (vector / (np.linalg.norm(vector) or 1)).astype(np.float32)}


class Pictures(_Model):
    """Answers a picture's digest as a class, so that a test knows which bytes came."""

    task = "image-classification"
    labels = ("cat", "dog", "owl", "fox")
    signature = Signature(
        inputs=(Field(name="image", dtype="bytes", description="PNG, JPEG or WebP"),),
        outputs=(
            Field(name="label", dtype="string"),
            Field(name="score", dtype="float32"),
            Field(name="scores", dtype="float32", shape=(4,)),
            Field(name="bytes", dtype="int64"),
        ),
    )

    def answer(self, row: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        data = row["image"]
        scores = np.array([1.0, 0.5, 0.3, 0.2])
        scores = np.roll(scores / scores.sum(), len(data) % 4)
        best = int(scores.argmax())
        return {
            "label": self.labels[best],
            "score": float(scores[best]),
            "scores": scores.astype(np.float32),
            "bytes": len(data),
        }


class Churn(_Model):
    """A number from a table's row."""

    task = "tabular-regression"
    signature = Signature(
        inputs=(
            Field(name="age", dtype="int32", description="years"),
            Field(name="balance", dtype="float64", description="in euros"),
            Field(name="active", dtype="bool"),
            Field(name="visits", dtype="float32", shape=(3,), description="of the last three months"),
        ),
        outputs=(Field(name="value", dtype="float32"),),
    )

    def answer(self, row: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        score = row["age"] / 100 - row["balance"] / 1e4 - 0.3 * row["active"] - float(np.sum(row["visits"])) / 30
        return {"value": 1 / (1 + math.exp(-score))}


class Teller(Echo):
    """Answers every chat with the same story, as fast as a small model would."""

    name = "teller"
    story = (
        "Sunlight is a mixture of all colours. Air scatters short waves far more than long ones: the strength goes with "
        "the inverse fourth power of the wavelength, so blue light reaches the eye from every part of the sky, while "
        "red passes almost straight through."
    )

    def add(
        self, sequence: int, prompt: Sequence[int], sampling: SamplingParameters, adapter: str | None = None
    ) -> None:
        super().add(sequence, prompt, sampling, adapter)
        self.left[sequence] = (list(self.story.encode()), sampling)

    def step(self) -> list[Step]:
        time.sleep(0.004)
        return super().step()


def teller(name: str = "teller") -> ServedGenerator:
    """A served model that tells."""
    engine = GenerationEngine(Teller(), ByteTokenizer())  # type: ignore[arg-type]
    return ServedGenerator(EngineHost(engine), TextGeneration(), name=name)


def sentences(count: int, *, seed: int = 0, good: float = 0.5, words: int = 7) -> list[str]:
    """Texts of film reviews; ``good``: the share of praise."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        mood = GOOD if chance.random() < good else BAD
        picked = [chance.choice(mood if chance.random() < 0.35 else PLAIN) for _ in range(chance.randint(2, words))]
        found.append(" ".join(picked))
    return found


def reference(count: int = 4000) -> dict[str, Any]:
    """Statistics of texts and answers as a bundle has them, of balanced reviews."""
    import pyarrow as pa

    from deepseek.data import profile

    texts = sentences(count, seed=1)
    model = Sentiment()
    return profile(pa.table({"text": texts, "label": [model.answer({"text": text}, {})["label"] for text in texts]}))

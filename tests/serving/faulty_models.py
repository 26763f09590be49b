"""A model that breaks what it promises in whatever way its input says; in the server's process or in a worker's."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepseek.errors import DataError
from deepseek.serving.workers import LoaderSpec
from deepseek.tasks.signature import Field, Signature

FAULTY = Signature(
    inputs=(Field(name="how", dtype="string"),),
    outputs=(
        Field(name="label", dtype="string"),
        Field(name="score", dtype="float32"),
        Field(name="scores", dtype="float32", shape=(2,)),
        Field(name="tokens", dtype="string", shape=(-1,)),
    ),
)
GOOD: dict[str, Any] = {"label": "good", "score": 0.5, "scores": [0.5, 0.5], "tokens": ["a", "b", "c"]}
WRONG: dict[str, Any] = {
    "short": GOOD | {"scores": [0.5]},
    "long": GOOD | {"scores": [0.1, 0.2, 0.3]},
    "empty": GOOD | {"scores": []},
    "flat": GOOD | {"scores": 0.5},
    "deep": GOOD | {"scores": [[0.5, 0.5]]},
    "ragged": GOOD | {"scores": [[0.5], 0.5]},
    "array": GOOD | {"scores": np.zeros((2, 2), np.float32)},
    "vector": GOOD | {"score": [0.5, 0.5]},
    "array-scalar": GOOD | {"score": np.zeros(3)},
    "text": GOOD | {"tokens": "abc"},
    "nothing": GOOD | {"scores": None},
    "missing": {name: value for name, value in GOOD.items() if name != "score"},
    "list": list(GOOD.values()),
    "none": None,
}
"""Answers of a wrong shape, by the input that brings them."""
RIGHT: dict[str, Any] = {
    "": GOOD,
    "numpy": {"label": np.str_("good"), "score": np.float32(0.5), "scores": np.full(2, 0.5), "tokens": ["a", "b", "c"]},
    "tuple": GOOD | {"scores": (0.5, 0.5), "tokens": ("a", "b", "c")},
    "none-found": GOOD | {"tokens": []},
}
"""Answers that are right."""


class Faulty:
    """Does what each row's ``how`` says."""

    name, version, task, platform, signature = "faulty", "1", "faults", "fake", FAULTY

    def __init__(self) -> None:
        self.leak: list[bytes] = []

    def predict(
        self, rows: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        answers = [self._answer(row["how"]) for row in rows]
        commands = {row["how"] for row in rows}
        if "fewer" in commands:
            return answers[1:]
        return [*answers, GOOD] if "more" in commands else answers

    def _answer(self, how: str) -> Any:
        match how.split():
            case ["raise"]:
                raise ArithmeticError("a secret of the implementation")
            case ["refuse"]:
                raise DataError("expected another input")
            case ["exhaust"]:
                raise MemoryError
            case ["interrupt"]:
                raise KeyboardInterrupt
            case ["sleep", seconds]:
                time.sleep(float(seconds))
            case ["leak", megabytes]:
                self.leak.append(os.urandom(1024) * 1024 * int(megabytes))
        return WRONG[how] if how in WRONG else RIGHT.get(how, GOOD)


def faulty() -> Faulty:
    return Faulty()


class FaultySource:
    """The same model for worker processes."""

    name = "faulty"

    def spec(self) -> LoaderSpec:
        return LoaderSpec(function="faulty_models:faulty")

    def load(self) -> Any:
        raise AssertionError("it is loaded in worker processes")

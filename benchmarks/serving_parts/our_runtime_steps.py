"""The runtime alone: the bundle that the server has, loaded in the same way, called with batches of sentences."""

from __future__ import annotations

import itertools
import time
from typing import Any

from benchmarks.serving_parts.our_server import loaded
from benchmarks.worker import Clock, serve

state: dict[str, Any] = {}


def open_model(clock: Clock, *, bundle: str, runtime: str) -> str:
    """Load the bundle; the name of the runtime that answers."""
    with clock:
        state["predictor"] = loaded(bundle, runtime)
    return str(state["predictor"].platform)


def labels(clock: Clock, *, texts: list[str]) -> list[str]:
    """The label of each sentence."""
    return [answer["label"] for answer in state["predictor"].predict([{"text": text} for text in texts])]


def answer(clock: Clock, *, texts: list[str], size: float, seconds: float) -> dict[str, float]:
    """Answer sentences in turn for some seconds, ``size`` a call in the mean; how many, and in how many calls.

    A mean that is no whole number is met by calls of the two sizes beside it.
    """
    predictor, source = state["predictor"], itertools.cycle(texts)
    answered = calls = 0
    with clock:
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            calls += 1
            count = max(1, round(calls * size) - answered)
            predictor.predict([{"text": text} for text in itertools.islice(source, count)])
            answered += count
    return {"sequences": answered, "seconds": clock.seconds, "calls": calls}


if __name__ == "__main__":
    serve(open_model, labels, answer)

"""What ours and the peers share: which prompts, what is timed, and how text is scored.

Imported in the peers' environment too, so it needs NumPy alone. A contestant is a function from prompts (token ids) and
a number of new tokens to answers: greedy, never ending before that number.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

THREADS = 2
Generate = Callable[[list[list[int]], int], list[list[int]]]
Logits = Callable[[list[int]], Any]
SHORT = 32


def prompts_of(file: str, *, seed: int, count: int, length: int) -> list[list[int]]:
    """Prompts from places in the text that the seed draws, so that no cache has seen one before."""
    ids = json.loads(Path(file).read_text(encoding="utf-8"))
    drawn = random.Random(seed)  # noqa: S311 - a sample, not a secret
    starts = [drawn.randrange(len(ids) - length) for _ in range(count)]
    return [ids[start : start + length] for start in starts]


def prefill_seconds(generate: Generate, file: str, *, seed: int, length: int) -> float:
    """From a prompt to its first new token."""
    given = prompts_of(file, seed=seed, count=1, length=length)
    started = time.perf_counter()
    _checked(generate(given, 1), 1)
    return time.perf_counter() - started


def decode_seconds(generate: Generate, file: str, *, seed: int, streams: int, new: int) -> float:
    """Of all streams' new tokens after the first: a run to ``new`` tokens less a run to one."""
    seconds = []
    for count, length in ((0, 1), (1, new)):
        given = prompts_of(file, seed=2 * seed + count, count=streams, length=SHORT)
        started = time.perf_counter()
        _checked(generate(given, length), length)
        seconds.append(time.perf_counter() - started)
    return seconds[1] - seconds[0]


def _checked(answers: Sequence[Sequence[int]], new: int) -> None:
    wrong = {len(answer) for answer in answers} - {new}
    if wrong:
        raise RuntimeError(f"expected answers of {new} tokens, received some of {sorted(wrong)}")


def mean_loss(logits: Logits, file: str) -> float:
    """Mean negative log-likelihood a token, over all windows of a file."""
    import numpy as np

    losses, count = 0.0, 0
    for window in json.loads(Path(file).read_text(encoding="utf-8")):
        found = np.asarray(logits(window), dtype=np.float64)[: len(window) - 1]
        shifted = found - found.max(-1, keepdims=True)
        scores = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        losses -= float(scores[np.arange(len(window) - 1), window[1:]].sum())
        count += len(window) - 1
    return losses / count


def waves(trace: Sequence[tuple[float, list[int], int]], generate: Generate) -> tuple[float, list[float]]:
    """A trace of (arrival, prompt, new tokens) for one that answers fixed batches: whoever waits is the next batch.

    Returns:
        Seconds until the last answer, and each request's seconds from arrival to its answer's end.
    """
    started = time.perf_counter()
    left, latencies = list(trace), []
    while left:
        now = time.perf_counter() - started
        batch = [request for request in left if request[0] <= now]
        if not batch:
            time.sleep(left[0][0] - now)
            continue
        left = left[len(batch) :]
        generate([prompt for _, prompt, _ in batch], max(new for _, _, new in batch))
        ended = time.perf_counter() - started
        latencies += [ended - arrival for arrival, _, _ in batch]
    return time.perf_counter() - started, latencies


def continuous(
    trace: Sequence[tuple[float, list[int], int]],
    add: Callable[[list[int], int], Any],
    step: Callable[[], None],
    ended: Callable[[Any], bool],
    full: Callable[[], bool] = lambda: False,
) -> tuple[float, list[float]]:
    """A trace for one that takes requests between its steps.

    Args:
        add: starts a request of a prompt and a number of new tokens; what it returns is given to ``ended``.
        full: whether it takes no other request now.

    Returns:
        As :func:`waves`.
    """
    started, left, running, latencies = time.perf_counter(), list(trace), [], []
    while left or running:
        now = time.perf_counter() - started
        while left and left[0][0] <= now and not full():
            arrival, prompt, new = left.pop(0)
            running.append((arrival, add(prompt, new)))
        if not running:
            time.sleep(max(0.0, left[0][0] - now))
            continue
        step()
        now = time.perf_counter() - started
        latencies += [now - arrival for arrival, request in running if ended(request)]
        running = [each for each in running if not ended(each[1])]
    return time.perf_counter() - started, latencies


def trace_of(file: str, *, seed: int, count: int, every_s: float) -> list[tuple[float, list[int], int]]:
    """Requests that come at random (exponential gaps), with prompts of 16 to 256 tokens and 8 to 96 new ones."""
    drawn = random.Random(seed)  # noqa: S311 - a sample, not a secret
    found, at = [], 0.0
    for number in range(count):
        [prompt] = prompts_of(file, seed=1000 * seed + number, count=1, length=drawn.randint(16, 256))
        found.append((at, prompt, drawn.randint(8, 96)))
        at += drawn.expovariate(1 / every_s)
    return found

"""Cold start: from starting a process to the first answer to a sentence, everything that is kept on disk being there.

Ours starts once before, so that the conversion and the choice are kept, as peers' exports are.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence

from benchmarks.harness import Figure, in_turn, say
from benchmarks.inference_parts.context import Context
from benchmarks.inference_parts.encoder_contest import LIMIT_S, OURS, chosen_peers, opened
from benchmarks.inference_parts.encoder_models import Encoder

ROUNDS = 3
SENTENCE = "A moving and very funny film, if a little long in its last half hour."


def run(context: Context, encoder: Encoder, calibration: str) -> dict[str, Figure]:
    """The figure ``encoder_cold_start_s``: seconds, against the peer that answers first."""
    file = context.workspace("inputs") / "sentence.json"
    file.write_text(json.dumps([SENTENCE]), encoding="utf-8")

    def start(name: str) -> float:
        with opened(context, encoder, name, calibration) as worker:
            worker.run("texts", limit_s=LIMIT_S, file=str(file), size=1, times=1)
            return time.perf_counter()

    what = f"From starting a process to the label of one sentence, {encoder.name}"
    names = [OURS, *chosen_peers(context)]
    return {"encoder_cold_start_s": measured(names, start, quick=context.quick, what=what)}


def measured(names: Sequence[str], start: Callable[[str], float], *, quick: bool, what: str) -> Figure:
    """Seconds until a contestant's first answer; ours is the first of ``names``.

    The contestants take turns; medians.

    Args:
        start: starts a contestant, and returns the clock's reading when its answer was there: ending comes after.
    """
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(1 if quick else ROUNDS):
        for name in in_turn(names, turn):
            started = time.perf_counter()
            seconds[name].append(start(name) - started)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    words = "; ".join(f"{name} {value:.1f} s" for name, value in medians.items())
    say(f"cold start: {words}")
    first = min(names[1:], key=medians.__getitem__)
    note = f"smaller is better; {what}: {words}."
    return Figure(value=medians[names[0]], unit="s", baseline=medians[first], baseline_name=first, note=note)

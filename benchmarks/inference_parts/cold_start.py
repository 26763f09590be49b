"""Cold start: from starting a process to the first answer to a sentence, everything that is kept on disk being there.

Ours starts once before, so that the conversion and the choice are kept, as peers' exports are.
"""

from __future__ import annotations

import json
import statistics
import time

from benchmarks.harness import Figure, say
from benchmarks.inference_parts.context import Context
from benchmarks.inference_parts.encoder_contest import LIMIT_S, OURS, chosen_peers, opened
from benchmarks.inference_parts.encoder_models import Encoder

ROUNDS = 3
SENTENCE = "A moving and very funny film, if a little long in its last half hour."


def run(context: Context, encoder: Encoder, calibration: str) -> dict[str, Figure]:
    """The figure ``encoder_cold_start_s``: seconds, against the peer that answers first."""
    file = context.workspace("inputs") / "sentence.json"
    file.write_text(json.dumps([SENTENCE]), encoding="utf-8")
    names = [OURS, *chosen_peers(context)]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(1 if context.quick else ROUNDS):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            started = time.perf_counter()
            with opened(context, encoder, name, calibration) as worker:
                worker.run("texts", limit_s=LIMIT_S, file=str(file), size=1, times=1)
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    words = "; ".join(f"{name} {medians[name]:.1f} s" for name in names)
    say(f"cold start: {words}")
    first = min(names[1:], key=medians.__getitem__)
    note = f"smaller is better. From starting a process to the label of one sentence, {encoder.name}: {words}."
    figure = Figure(value=medians[OURS], unit="s", baseline=medians[first], baseline_name=first, note=note)
    return {"encoder_cold_start_s": figure}

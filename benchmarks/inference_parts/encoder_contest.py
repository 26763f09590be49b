"""The contest: every contestant loaded in a process of its own, then cell by cell in turn on the same batches.

A contestant that waits uses no processor. A finished cell is kept in the workspace with the commit that it was measured
at, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.harness import StepFailed, Worker, commit, in_turn, passes_in, say
from benchmarks.inference_parts.context import Context
from benchmarks.inference_parts.encoder_inputs import Cell
from benchmarks.inference_parts.encoder_models import Encoder
from deepseek.artifacts.cache import write_text

OURS = "ours"
FP32, BF16, COMPILED = "transformers fp32", "transformers bf16", "torch.compile bf16"
ONNX, ONNX_INT8, OPENVINO, OPENVINO_INT8 = "ONNX Runtime fp32", "ONNX Runtime int8", "OpenVINO bf16", "OpenVINO int8"
PEERS = (FP32, BF16, COMPILED, ONNX, ONNX_INT8, OPENVINO, OPENVINO_INT8)
OUR_STEPS, PEER_STEPS = "benchmarks.inference_parts.our_encoder_steps", "benchmarks.inference_parts.peer_encoder_steps"
LIMIT_S = 1800.0
VISIT_S, MOST_PASSES = 0.3, 20
"""How long a contestant runs a cell when its turn comes, and the most passes in that time."""
SLOW = ((5.0, 2), (1.5, 3))
"""Cells whose slowest contestant takes that many seconds have no more rounds than that."""
CLOSE, MORE_ROUNDS = 1.6, 6
"""Whose fastest pass takes at most so many times the fastest of all runs so many rounds more.

The machine's speed changes by 1.7 within seconds; three rounds do not tell contestants apart that are 10% apart.
"""
UNRELATED = 0.5
"""A contestant whose logits have a smaller cosine to those of float32 answers with another model.

Their distance would not tell: in 8 bits, without any look at accuracy, a single row's two logits are off by a third.
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One contestant in one cell: seconds a pass, by round; peak memory in MB; how far logits are from fp32's.

    ``error`` is the norm of the difference divided by the norm, ``cosine`` the cosine between the two.
    """

    seconds: list[float]
    peak_mb: float
    error: float
    cosine: float
    text_seconds: list[float]

    @property
    def median(self) -> float:
        """Seconds of a pass."""
        return statistics.median(self.seconds)

    @property
    def text_median(self) -> float:
        """Seconds of a pass that begins with texts."""
        return statistics.median(self.text_seconds)


Outcomes = dict[str, dict[str, Outcome]]
"""Cell to contestant to outcome."""


def python() -> Path:
    """The interpreter of the peers' environment."""
    return peers.environment("encoders", peers.ENCODERS)


def chosen_peers(context: Context) -> tuple[str, ...]:
    """The peers of a run; a quick one has one of each way to load, but not the one that compiles."""
    return (FP32, ONNX, OPENVINO) if context.quick else PEERS


def prepared(context: Context, encoder: Encoder, name: str, calibration: str) -> dict[str, str]:
    """What ``open_model`` of a peer is given; exports are made once a workspace."""
    folder = context.folder / "peers" / encoder.folder.parent.name / encoder.folder.name / name.replace(" ", "-")
    given = {"contestant": name, "model": str(encoder.folder), "folder": str(folder)}

    def prepare() -> None:
        config = json.loads((encoder.folder / "config.json").read_text(encoding="utf-8"))
        with Worker(PEER_STEPS, python=python()) as worker:
            heads = config["num_attention_heads"]
            worker.run("prepare", limit_s=LIMIT_S, calibration=calibration, heads=heads, **given)
        say(f"  {name} prepared for {encoder.name}")

    if name not in (FP32, BF16, COMPILED):
        context.once(folder, prepare)
    return given


def opened(context: Context, encoder: Encoder, name: str, calibration: str) -> Worker:
    """A contestant's process with the model loaded."""
    if name == OURS:
        worker, given = Worker(OUR_STEPS), {"bundle": str(encoder.folder)}
    else:
        given = prepared(context, encoder, name, calibration)
        worker = Worker(PEER_STEPS, python=python())
    worker.run("open_model", limit_s=LIMIT_S, **given)
    return worker


def contest(context: Context, encoder: Encoder, cells: Sequence[Cell], calibration: str) -> tuple[Outcomes, str]:
    """All contestants in all cells; also what ``auto`` took, with its reasons, in words."""
    kept = context.folder / "cells.json"
    known: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    keys = {cell.name: json.dumps([commit(), encoder.name, cell.name]) for cell in cells}
    chosen = json.dumps([commit(), encoder.name, "choice"])
    missing = [cell for cell in cells if keys[cell.name] not in known]
    names = [OURS, *chosen_peers(context)]
    if chosen not in known:
        with Worker(OUR_STEPS) as worker:
            known[chosen] = worker.run("choose_runtime", limit_s=LIMIT_S, bundle=str(encoder.folder))["value"]
        say(f"{encoder.name}: auto took {known[chosen]['name']}\n{known[chosen]['table']}")
        write_text(kept, json.dumps(known))
    if missing:
        for name in names[1:]:
            prepared(context, encoder, name, calibration)
        with contextlib.ExitStack() as stack:
            workers = {n: stack.enter_context(opened(context, encoder, n, calibration)) for n in names}
            for cell in missing:
                known[keys[cell.name]] = _cell(workers, cell, context.rounds)
                write_text(kept, json.dumps(known))
                _told(encoder, cell, known[keys[cell.name]])
    outcomes = {cell.name: {name: Outcome(**found) for name, found in known[keys[cell.name]].items()} for cell in cells}
    return outcomes, str(known[chosen]["name"])


def _cell(workers: dict[str, Worker], cell: Cell, rounds: int) -> dict[str, dict[str, Any]]:
    """The outcome of each contestant in one cell, as plain values."""
    found, passes, slowest, peaks = {}, {}, 0.0, dict.fromkeys(workers, 0.0)
    for name, worker in workers.items():
        found[name] = np.array(worker.run("logits", limit_s=LIMIT_S, file=cell.file)["value"])
        (once,) = worker.run("answer", limit_s=LIMIT_S, file=cell.file, times=1)["value"]
        passes[name] = passes_in(VISIT_S, once, MOST_PASSES)
        slowest = max(slowest, once)
        if cell.texts:
            worker.run("texts", limit_s=LIMIT_S, file=cell.texts, size=cell.size, times=1)
    rounds = min([rounds, *(most for above, most in SLOW if slowest > above)])
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    text_seconds: dict[str, list[float]] = {name: [] for name in workers}
    names = list(workers)
    for turn in range(rounds + MORE_ROUNDS):
        if turn == rounds:
            best = min(min(each) for each in seconds.values())
            names = [name for name in names if min(seconds[name]) <= CLOSE * best]
            if len(names) == 1:
                break
        for name in in_turn(names, turn):
            reply = workers[name].run("answer", limit_s=LIMIT_S, file=cell.file, times=passes[name])
            seconds[name].append(statistics.median(reply["value"]))
            peaks[name] = max(peaks[name], reply["peak_mb"])
            if cell.texts:
                reply = workers[name].run("texts", limit_s=LIMIT_S, file=cell.texts, size=cell.size, times=1)
                text_seconds[name] += reply["value"]
    reference = found[FP32]
    made = {}
    for name in workers:
        error, cosine = compared(found[name], reference)
        if not cosine >= UNRELATED:
            raise StepFailed(
                f"{name} answers {cell.name} otherwise than {FP32}: logits are off by {error:.0%}, cosine {cosine:.2f}"
            )
        made[name] = {
            "seconds": seconds[name], "peak_mb": peaks[name], "error": error, "cosine": cosine,
            "text_seconds": text_seconds[name],
        }  # fmt: skip
    return made


def compared(found: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Relative error and cosine of logits, all rows together."""
    norm = float(np.linalg.norm(reference))
    error = float(np.linalg.norm(found - reference)) / norm
    return error, float((found * reference).sum()) / norm / float(np.linalg.norm(found))


def _told(encoder: Encoder, cell: Cell, found: dict[str, dict[str, Any]]) -> None:
    say(f"{encoder.name}, {cell.name}:")
    for name, each in found.items():
        spread = f"{1e3 * min(each['seconds']):.1f} to {1e3 * max(each['seconds']):.1f}"
        middle = 1e3 * statistics.median(each["seconds"])
        say(f"  {name}: {middle:.1f} ms ({spread}), off by {each['error']:.2%}, {each['peak_mb']:,.0f} MB")

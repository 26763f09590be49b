"""The contest of generation: every contestant loaded in a process of its own, then cell by cell in turn.

A finished cell is kept in the workspace with the commit that it was measured at.
"""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.harness import Worker, commit, in_turn, passes_in, say
from benchmarks.inference_parts.context import Context
from benchmarks.inference_parts.generation_inputs import Inputs
from deepseek.artifacts.cache import write_text

OURS = "ours"
FP32, BF16 = "transformers fp32", "transformers bf16"
ONNX, OPENVINO = "ONNX Runtime GenAI int4", "OpenVINO GenAI from GGUF"
LLAMA_CPP = "llama.cpp Q4_1"
PEERS = (FP32, BF16, ONNX, OPENVINO, LLAMA_CPP)
OUR_STEPS, PEER_STEPS = (
    "benchmarks.inference_parts.our_generation_steps",
    "benchmarks.inference_parts.peer_generation_steps",
)
LIMIT_S = 1800.0
STREAMS = (1, 8, 32, 64)
NEW, CONTEXT = 48, 512
TRACE = {"count": 24, "every_s": 0.4}
AGREE = {"count": 6, "length": 48, "new": 16}


VISIT_S, MOST_PASSES = 1.0, 5
"""How long a contestant runs a cell when its turn comes, and the most passes in that time."""


def python(name: str) -> Path:
    """The interpreter of a peer's environment."""
    if name == LLAMA_CPP:
        return peers.environment("llama-cpp", peers.LLAMA_CPP)
    return peers.environment("generation", peers.GENERATION)


def prepared(context: Context, given: Inputs, gguf: Path, name: str) -> dict[str, str]:
    """What ``open_model`` of a peer is given; conversions are made once a workspace."""
    folder = context.folder / "peers" / "generation" / name.replace(" ", "-")
    arguments = {"contestant": name, "model": str(given.model), "folder": str(folder)}

    def prepare() -> None:
        with Worker(PEER_STEPS, python=python(name)) as worker:
            worker.run("prepare", limit_s=LIMIT_S, gguf=str(gguf), **arguments)
        say(f"  {name} prepared")

    if name not in (FP32, BF16):
        context.once(folder, prepare)
    return arguments


def opened(context: Context, given: Inputs, gguf: Path, name: str) -> Worker:
    """A contestant's process with the model loaded."""
    if name == OURS:
        worker, arguments = Worker(OUR_STEPS), {"model": str(given.model)}
    else:
        arguments = prepared(context, given, gguf, name)
        worker = Worker(PEER_STEPS, python=python(name))
    worker.run("open_model", limit_s=LIMIT_S, **arguments)
    return worker


Cells = dict[str, dict[str, Any]]
"""Cell to contestant to what was measured: seconds by round, and for ``quality`` losses and tokens."""


def contest(context: Context, given: Inputs, gguf: Path) -> tuple[Cells, dict[str, float], str]:
    """All cells; peak memory in MB by contestant; and what ``auto`` took, in words."""
    kept = context.folder / "generation-cells.json"
    known: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if known.get("commit") != commit():
        known = {"commit": commit(), "cells": {}, "peaks": {}}

    def keep() -> None:
        write_text(kept, json.dumps(known))

    if "choice" not in known:
        with Worker(OUR_STEPS) as worker:
            known["choice"] = worker.run("choose_core", limit_s=LIMIT_S, model=str(given.model))["value"]
        say(f"auto took {known['choice']['name']}\n{known['choice']['table']}")
        keep()
    streams = STREAMS[:2] if context.quick else STREAMS
    jobs: dict[str, tuple[str, dict[str, Any]]] = {f"prefill {CONTEXT}": ("prefill", {"length": CONTEXT})}
    jobs |= {f"decode {n}": ("decode", {"streams": n, "new": 8 if context.quick else NEW}) for n in streams}
    jobs["trace"] = ("trace", {"count": 3, "every_s": 0.1} if context.quick else dict(TRACE))
    missing = [name for name in ("quality", *jobs) if name not in known["cells"]]
    if missing:
        names = [OURS, *((FP32, OPENVINO) if context.quick else PEERS)]
        for name in names[1:]:
            prepared(context, given, gguf, name)
        with contextlib.ExitStack() as stack:
            workers = {name: stack.enter_context(opened(context, given, gguf, name)) for name in names}
            if "quality" in missing:
                known["cells"]["quality"] = _quality(workers, given)
                keep()
            for cell, (step, arguments) in jobs.items():
                if cell in missing:
                    known["cells"][cell] = _timed(workers, step, arguments, given, context.rounds, known["peaks"])
                    keep()
                    _told(cell, known["cells"][cell])
    return known["cells"], known["peaks"], str(known["choice"]["name"])


def _timed(
    workers: Mapping[str, Worker], step: str, arguments: dict[str, Any], given: Inputs, rounds: int,
    peaks: dict[str, float],
) -> dict[str, Any]:  # fmt: skip
    found: dict[str, list[Any]] = {name: [] for name in workers}
    names = list(workers)
    if step == "trace":
        rounds = min(rounds, 2)
    passes: dict[str, int] = {}
    for turn in range(-1, rounds):  # the first turn warms up
        for name in in_turn(names, turn):
            for number in range(passes.get(name, 1)):
                seed = 1 + turn * MOST_PASSES + number
                reply = workers[name].run(step, limit_s=LIMIT_S, file=given.tokens, seed=max(0, seed), **arguments)
                peaks[name] = max(peaks.get(name, 0.0), reply["peak_mb"])
                if turn >= 0:
                    found[name].append(reply["value"])
                elif step != "trace":
                    passes[name] = passes_in(VISIT_S, reply["value"], MOST_PASSES)
    return found


def _quality(workers: Mapping[str, Worker], given: Inputs) -> dict[str, Any]:
    """Loss over the held-out windows, and the share of greedy tokens that are those of transformers in float32."""
    found: dict[str, Any] = {}
    answers = {
        name: worker.run("generate", limit_s=LIMIT_S, file=given.tokens, seed=99, **AGREE)["value"]
        for name, worker in workers.items()
    }
    for name, worker in workers.items():
        pairs = [
            (one, other)
            for own, theirs in zip(answers[name], answers[FP32], strict=True)
            for one, other in zip(own, theirs, strict=True)
        ]
        same = sum(one == other for one, other in pairs) / len(pairs)
        loss = worker.run("loss", limit_s=LIMIT_S, file=given.windows)["value"]
        found[name] = {"loss": loss, "same": same}
        say(f"  {name}: loss {loss:.4f}, {same:.0%} of greedy tokens are float32's")
    return found


def _told(cell: str, found: Mapping[str, list[Any]]) -> None:
    for name, each in found.items():
        seconds = [value[0] if isinstance(value, list) else value for value in each]
        spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
        say(f"  {cell}, {name}: {statistics.median(seconds):.3f} s ({spread})")

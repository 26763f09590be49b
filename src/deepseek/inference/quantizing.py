"""An int8 copy of a bundle's model, added to the bundle if it scores as well on rows with answers."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepseek import progress
from deepseek.bundles import Bundle, CompiledRecord, add_compiled
from deepseek.bundles.versions import library_versions
from deepseek.errors import AccuracyError, ConfigError, DataError
from deepseek.inference import RUNTIMES
from deepseek.inference.predictor import Predictor
from deepseek.inference.recording import Recorder

CALIBRATION, CALIBRATION_BATCH = 300, 1
"""Rows that activations are calibrated with, and how many at once: one, so that no padding is in the ranges."""
LEAST_ROWS = 40
LIBRARIES = ("openvino", "nncf", "onnxruntime", "torch", "transformers")


@dataclass(frozen=True)
class Quantized:
    """The bundle with its copy, and what is known of it; ``drop`` is how much of the metric it lost."""

    bundle: Bundle
    record: CompiledRecord
    drop: float


def quantize(
    model: str | os.PathLike[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    runtime: str = "openvino",
    max_drop: float = 0.005,
    calibration: int = CALIBRATION,
    seed: int = 0,
) -> Quantized:
    """Quantise a bundle's model to int8 (weights and activations) and add the copy to the bundle.

    Args:
        model: a bundle's path.
        rows: rows with their answers that the model did not learn from, :data:`LEAST_ROWS` at least. A part
            calibrates, at most a quarter; all others are scored, with PyTorch in float32 and with the copy.
        runtime: whose format it is in; ``Predictor.load(bundle, runtime=runtime, dtype="int8")`` takes it.
        max_drop: by how much the task's main metric may be worse, in the metric's own unit (0.005 is half a point of
            accuracy).
        calibration: rows to calibrate with.

    Raises:
        AccuracyError: the copy is worse by more than ``max_drop``; the bundle is unchanged.
        ConfigError: the model is no bundle, or the runtime cannot make a copy of it.
        DataError: too few rows, or a row lacks an input or its answer.
        MissingExtraError: what the runtime needs is not installed.
    """
    path = Path(model).expanduser()
    if not (path.is_dir() and Bundle.is_bundle(path)):
        raise ConfigError(f"{os.fspath(model)!r} is no bundle; `deepseek train RECIPE` makes one, with a task to score")
    if len(rows) < LEAST_ROWS:
        raise DataError(f"expected at least {LEAST_ROWS} rows with answers, received {len(rows)}")
    bundle = Bundle.open(path)
    task = bundle.task
    engine = RUNTIMES.get(runtime)()
    order = random.Random(seed).sample(range(len(rows)), len(rows))  # noqa: S311 - no secret
    count = max(1, min(calibration, len(rows) // 4))
    reference = Predictor.load(path, dtype="float32")
    task.references(rows)  # all answers are looked at before anything is computed
    recorder = Recorder(reference.model)
    calibrating = Predictor(
        name=bundle.name, task=task, tokenizer=reference.tokenizer, model=recorder, batch_size=CALIBRATION_BATCH
    )
    calibrating.predict([rows[i] for i in order[:count]])
    if not recorder.batches:
        raise ConfigError(f"the task {type(task).name!r} generates text; only models of one pass are quantised")
    held_out = [rows[i] for i in order[count:]]
    with tempfile.TemporaryDirectory(prefix=".quantized-", dir=path.parent) as scratch:
        made = Path(scratch)
        with progress.bar(f"quantise {bundle.name}", None, "model"):
            engine.quantize(bundle.checkpoint, type(task).head, recorder.batches, made)
        copy = Predictor(
            name=bundle.name, task=task, tokenizer=reference.tokenizer, model=engine.open_copy(made), platform=runtime
        )
        metric = task.main_metric
        plain, found = (predictor.score(held_out)[metric] for predictor in (reference, copy))
        drop = (found - plain) * (1 if metric in task.lower_is_better else -1)
        if not drop <= max_drop:  # a NaN is no score either
            raise AccuracyError(
                f"int8 brings {metric} from {plain:.4f} to {found:.4f} on {len(held_out):,} rows, worse by {drop:.4f}, "
                f"expected at most {max_drop:g}. The bundle is unchanged. Calibrate with more rows, accept a larger "
                "max_drop, or stay with bfloat16"
            )
        record = CompiledRecord(
            metric=metric, reference=plain, value=found, rows=len(held_out),
            versions=library_versions(LIBRARIES),
        )  # fmt: skip
        return Quantized(add_compiled(bundle, f"{runtime}-int8", made, record), record, drop)

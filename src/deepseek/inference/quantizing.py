"""Quantised copies of a bundle's model, each added to the bundle if it scores as well on rows with answers."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepseek import progress
from deepseek.bundles import Bundle, CompiledRecord, add_compiled
from deepseek.bundles.versions import library_versions
from deepseek.errors import AccuracyError, ConfigError, DataError, DeepSeekError, UnknownNameError
from deepseek.inference import RUNTIMES
from deepseek.inference.conversion.copies import COPIES, INT8
from deepseek.inference.predictor import Predictor
from deepseek.inference.recording import Recorder
from deepseek.inference.runtime import Runtime

CALIBRATION, CALIBRATION_BATCH = 300, 1
"""Rows that activations are calibrated with, and how many at once: one, so that no padding is in the ranges."""
LEAST_ROWS = 40
LIBRARIES = ("openvino", "nncf", "onnxruntime", "torch", "transformers")


@dataclass(frozen=True)
class Copy:
    """What is known of a copy; ``drop`` is how much of the metric it lost."""

    record: CompiledRecord
    drop: float


@dataclass(frozen=True)
class Quantized:
    """The bundle with its copies.

    Attributes:
        copies: what was added, by runtime.
        refused: why a runtime's copy was not made or not added, by runtime.
    """

    bundle: Bundle
    copies: dict[str, Copy] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def quantize(
    model: str | os.PathLike[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    runtime: str = "auto",
    dtype: str = INT8,
    max_drop: float = 0.005,
    calibration: int = CALIBRATION,
    seed: int = 0,
) -> Quantized:
    """Quantise a bundle's model and add the copies to the bundle.

    Args:
        model: a bundle's path.
        rows: rows with their answers that the model did not learn from, :data:`LEAST_ROWS` at least. A part
            calibrates, at most a quarter; all others are scored, with PyTorch in float32 and with each copy.
        runtime: whose format it is in; ``Predictor.load(bundle, runtime=runtime, dtype=dtype)`` takes it. ``"auto"``:
            of each runtime here that makes copies, so that ``runtime="auto"`` has them to choose from; one that cannot
            is told of in ``refused``.
        dtype: ``"int8"``, of weights and activations, or ``"int4"``, of weights alone: half as large and slower.
        max_drop: by how much the task's main metric may be worse, in the metric's own unit (0.005 is half a point of
            accuracy).
        calibration: rows to calibrate with.

    Raises:
        AccuracyError: each copy is worse by more than ``max_drop``; the bundle is unchanged.
        ConfigError: the model is no bundle, or no runtime can make a copy of it.
        DataError: too few rows, or a row lacks an input or its answer.
        MissingExtraError: what the runtime needs is not installed.
    """
    path = Path(model).expanduser()
    if not (path.is_dir() and Bundle.is_bundle(path)):
        raise ConfigError(f"{os.fspath(model)!r} is no bundle; `deepseek train RECIPE` makes one, with a task to score")
    if len(rows) < LEAST_ROWS:
        raise DataError(f"expected at least {LEAST_ROWS} rows with answers, received {len(rows)}")
    if dtype not in COPIES:
        raise UnknownNameError("dtype", dtype, COPIES)
    names = _makers(dtype) if runtime == "auto" else [runtime]
    engines = {name: RUNTIMES.get(name)() for name in names}
    for name, engine in engines.items():
        if dtype not in engine.makes_copies:
            able = [each for each in RUNTIMES.names() if dtype in RUNTIMES.get(each).makes_copies]
            raise ConfigError(f"the runtime {name!r} makes no {dtype} copies; these do: {', '.join(able)}")
    bundle = Bundle.open(path)
    task = bundle.task
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
    scoring = _Scoring(bundle, reference, [rows[i] for i in order[count:]], dtype, max_drop)
    copies: dict[str, Copy] = {}
    failed: dict[str, DeepSeekError] = {}
    for name, engine in engines.items():
        with tempfile.TemporaryDirectory(prefix=".quantized-", dir=path.parent) as scratch:
            made = Path(scratch)
            try:
                with progress.bar(f"quantise {bundle.name} for {name}", None, "model"):
                    engine.quantize(bundle.checkpoint, type(task).head, recorder.batches, made, dtype)
                copies[name] = scoring.copy(engine, made)
            except DeepSeekError as error:
                if runtime != "auto":
                    raise
                failed[name] = error
                continue
            bundle = add_compiled(bundle, f"{name}-{dtype}", made, copies[name].record)
    refused = {name: str(error) for name, error in failed.items()}
    if not copies:
        worse = any(isinstance(error, AccuracyError) for error in failed.values())
        raise (AccuracyError if worse else ConfigError)("\n".join(f"{n}: {why}" for n, why in refused.items()))
    return Quantized(bundle, copies, refused)


def _makers(dtype: str) -> list[str]:
    """Names of the runtimes that make such copies and work here.

    Raises:
        ConfigError: there is none.
    """
    makers = {name: RUNTIMES.get(name) for name in RUNTIMES.names() if dtype in RUNTIMES.get(name).makes_copies}
    here = {name: engine.available() for name, engine in makers.items()}
    found = [name for name, state in here.items() if state.works]
    if not found:
        reasons = "; ".join(f"{name}: {state.detail}" for name, state in here.items())
        raise ConfigError(f"no runtime here makes {dtype} copies: {reasons}")
    return found


class _Scoring:
    """Scores copies beside the plain model, which answers the rows once."""

    def __init__(
        self, bundle: Bundle, reference: Predictor, rows: Sequence[Mapping[str, Any]], dtype: str, max_drop: float
    ) -> None:
        self._dtype = dtype
        self._bundle, self._tokenizer, self._rows, self._max_drop = bundle, reference.tokenizer, rows, max_drop
        self._metric = bundle.task.main_metric
        self._plain = reference.score(rows)[self._metric]

    def copy(self, engine: Runtime, folder: Path) -> Copy:
        """What is known of the copy in a folder.

        Raises:
            AccuracyError: it is too much worse.
        """
        metric, task, plain = self._metric, self._bundle.task, self._plain
        model = engine.open_copy(folder)
        predictor = Predictor(
            name=self._bundle.name, task=task, tokenizer=self._tokenizer, model=model, platform=engine.name
        )
        found = predictor.score(self._rows)[metric]
        drop = (found - plain) * (1 if metric in task.lower_is_better else -1)
        if not drop <= self._max_drop:  # a NaN is no score either
            raise AccuracyError(
                f"{self._dtype} brings {metric} from {plain:.4f} to {found:.4f} on {len(self._rows):,} rows, worse by "
                f"{drop:.4f}, expected at most {self._max_drop:g}. Calibrate with more rows, accept a larger max_drop, "
                "or stay with bfloat16"
            )
        versions = library_versions(LIBRARIES)
        record = CompiledRecord(metric=metric, reference=plain, value=found, rows=len(self._rows), versions=versions)
        return Copy(record, drop)

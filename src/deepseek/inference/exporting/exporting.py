"""Write a model in another tool's format, compare it with PyTorch, and keep it if it is the same model."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from deepseek import progress
from deepseek.artifacts.cache import staged_directory
from deepseek.bundles.recording import files_of, recorded, write_extra_files
from deepseek.bundles.versions import library_versions
from deepseek.errors import AccuracyError, ConfigError, UnknownNameError
from deepseek.inference import RUNTIMES
from deepseek.inference.exporting import EXPORT_FORMATS
from deepseek.inference.exporting.comparing import compared
from deepseek.inference.exporting.format import ExportFormat, Source
from deepseek.inference.exporting.report import FILE, ExportReport
from deepseek.inference.hardware.devices import describe, find_device
from deepseek.inference.opening import opened

MAX_ERRORS = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.05, "q8_0": 0.05, "int8": 0.3}
"""How far outputs may be from PyTorch's in float32, by precision: what rounding to it costs, not what a fault would."""
LIBRARIES = (
    "deepseek", "torch", "transformers", "openvino", "nncf", "onnx", "onnxruntime", "onnxscript", "gguf", "executorch",
)  # fmt: skip
CONFIGURATION = ("config.json", "generation_config.json")


def export(
    model: str | os.PathLike[str],
    to: str,
    *,
    output: str | os.PathLike[str] | None = None,
    dtype: str = "auto",
    task: str | None = None,
    max_error: float | None = None,
    force: bool = False,
) -> tuple[Path, ExportReport]:
    """Export a model into a folder of its own, with its tokenizer, configuration and ``export.json``.

    The files are compared with PyTorch in float32 on batches of several shapes before they take their place: an export
    that fails or is another model leaves nothing behind.

    Args:
        model, task: as :meth:`deepseek.inference.Predictor.load` takes them.
        to: a name of :data:`~deepseek.inference.exporting.EXPORT_FORMATS`.
        output: the folder; ``None``: ``exports/MODEL-FORMAT-DTYPE``.
        dtype: one of the format's precisions; ``"auto"``: its first.
        max_error: how far outputs may be off, norm of difference by norm; ``None``: by :data:`MAX_ERRORS`.
        force: replace an earlier export in ``output``.

    Returns:
        The folder, and what was found.

    Raises:
        UnknownNameError: the model, task, format or precision is not known.
        ConfigError: the format cannot express the model, or ``output`` is there already.
        AccuracyError: outputs are further off than ``max_error``.
        MissingExtraError: what the format needs is not installed.
    """
    kind = EXPORT_FORMATS.get(to)
    chosen = kind.dtypes[0] if dtype == "auto" else dtype
    if chosen not in kind.dtypes:
        raise UnknownNameError(f"dtype of {to}", chosen, kind.dtypes)
    found = opened(model, task)
    _refuse_head(kind, type(found.task).head, found.name)
    target = Path(output or Path("exports") / f"{found.name}-{to}-{chosen}").expanduser().absolute()
    _refuse_target(target, force=force)
    from deepseek.models.loading import processor_for

    source = Source(
        found.name, found.checkpoint, found.task, processor_for(found.checkpoint, type(found.task).processor)
    )
    engine = kind()
    engine.check(source, chosen)
    allowed = MAX_ERRORS.get(chosen, MAX_ERRORS["int8"]) if max_error is None else max_error
    with staged_directory(target, replace=force) as stage:
        with progress.bar(f"export {found.name} to {to}", None, "model") as bar:
            engine.write(source, chosen, stage)
            bar.advance()
        size = sum(file.stat().st_size for file in stage.rglob("*") if file.is_file())
        notes = engine.notes(source, stage)
        reference = RUNTIMES.get("torch")().load(source.checkpoint, source.head, device="cpu", dtype="float32")
        with progress.bar(f"compare {found.name} with torch", None, "model") as bar:
            comparisons = compared(engine.open(stage), reference, source)
            bar.advance()
        report = ExportReport(
            format=to,
            dtype=chosen,
            model=source.checkpoint.name,
            head=source.head,
            task={"name": type(source.task).name, "config": source.task.model_dump(mode="json")},
            model_bytes=size,
            reference_bytes=4 * sum(p.numel() for p in reference.model.parameters()),  # type: ignore[attr-defined]
            max_error=allowed,
            comparisons=comparisons,
            notes=notes,
            hardware=describe(find_device("cpu")),
            versions=library_versions(LIBRARIES),
            created=datetime.now(UTC),
        )
        if not report.error <= allowed:  # a NaN is no error that could be allowed
            raise AccuracyError(
                f"{source.name!r} as {to} in {chosen} is off by {report.error:.2%} from torch in float32 "
                f"(norm of difference by norm), expected at most {allowed:.2%}; nothing was written. Take another "
                "--dtype, or allow more with --max-error"
            )
        report = _finished(report, source, stage, engine.companions, reference)
    return target, report


def _refuse_head(kind: type[ExportFormat], head: str, name: str) -> None:
    if head in kind.heads:
        return
    able = [each for each in EXPORT_FORMATS.names() if head in EXPORT_FORMATS.get(each).heads]
    raise ConfigError(
        f"{kind.name} does not express {name!r}: it takes models with the heads {', '.join(kind.heads)}, received "
        f"{head}. Formats that can: {', '.join(able) or 'none'}"
    )


def _refuse_target(target: Path, *, force: bool) -> None:
    if not target.exists():
        return
    if not force:
        raise ConfigError(f"{target} exists already; choose another --output, or replace it with --force")
    if not (target / FILE).is_file():
        raise ConfigError(f"{target} is no export (it has no {FILE}), so --force does not replace it")


def _finished(report: ExportReport, source: Source, folder: Path, companions: str, reference: object) -> ExportReport:
    """Put configuration, tokenizer and the report beside the model's files."""
    from deepseek.models.loading import quiet_transformers

    beside = folder / companions
    beside.mkdir(exist_ok=True)
    for name in CONFIGURATION:
        if (source.checkpoint.path / name).is_file():
            shutil.copyfile(source.checkpoint.path / name, beside / name)
    with quiet_transformers():
        source.processor.save_pretrained(beside)
    write_extra_files(source.task, reference.model.config, beside)  # type: ignore[attr-defined]
    complete = report.model_copy(update={"files": recorded(files_of(folder), folder)})
    (folder / FILE).write_text(complete.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return complete

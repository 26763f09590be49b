"""Write a bundle: all of it or nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.artifacts.cache import staged_directory
from deepseek.bundles.bundle import Bundle
from deepseek.bundles.manifest import FILE, DataRecord, Manifest, TaskRecord
from deepseek.bundles.recording import files_of, recorded, write_extra_files
from deepseek.bundles.versions import library_versions
from deepseek.errors import BundleError
from deepseek.models.loading import quiet_transformers

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel, PreTrainedTokenizerBase

    from deepseek.tasks.base import Task

RECORDED_LIBRARIES = ("deepseek", "torch", "transformers", "peft", "tokenizers", "pylance")


def write_bundle(
    path: str | os.PathLike[str],
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | BaseImageProcessor,
    task: Task,
    name: str,
    base_model: str,
    license: str,  # noqa: A002 - the manifest's field
    metrics: Mapping[str, float] | None = None,
    data: DataRecord | None = None,
    reference: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a model, its adapters, tokenizer (or image processor), task and history as a bundle.

    ``base_model`` is the checkpoint that it was made from, empty for one trained from scratch.

    A model with adapters is stored twice: merged in the root, so that plain transformers opens it, and each adapter
    alone under ``adapters/``, so that plain PEFT puts it on the base model. Files are written beside the target and
    renamed: an error, a full disk or Ctrl-C in the middle leaves what was there before.

    Raises:
        BundleError: ``path`` exists and ``overwrite`` is false, or it exists and is not a bundle.
        OSError: the disk refuses; nothing is left behind.
    """
    target = Path(path).expanduser().absolute()
    if target.exists():
        if not overwrite:
            raise BundleError(f"{target} exists already; pass overwrite=True or choose another path")
        if not Bundle.is_bundle(target):
            raise BundleError(f"{target} exists and is not a bundle, so it is not overwritten")
    adapters = {name: f"adapters/{name}" for name in getattr(model, "adapter_names", list)()}
    with staged_directory(target, replace=overwrite) as stage:
        for adapter, folder in adapters.items():
            model.save_adapter(stage / folder, adapter)
        plain = model.merge_adapter(model.active_adapters()[0]) if adapters else model
        parameters = sum(p.numel() for p in plain.parameters())
        with quiet_transformers():
            plain.save_pretrained(stage)
        tokenizer.save_pretrained(stage)
        write_extra_files(task, plain.config, stage)
        manifest = Manifest(
            name=name,
            created=datetime.now(UTC),
            task=TaskRecord(name=type(task).name, config=task.model_dump(mode="json")),
            signature=task.signature,
            base_model=base_model,
            license=license,
            parameters=parameters,
            adapters=adapters,
            metrics=dict(metrics or {}),
            data=data,
            reference=dict(reference or {}),
            recipe=dict(recipe or {}),
            versions=library_versions(RECORDED_LIBRARIES),
        )
        (stage / "README.md").write_text(_card(manifest, plain.config.model_type), encoding="utf-8")
        complete = manifest.model_copy(update={"files": recorded(files_of(stage), stage)})
        (stage / FILE).write_text(complete.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return Bundle.open(target)


def _card(manifest: Manifest, architecture: str) -> str:
    metrics = "\n".join(f"| {name} | {value:.4f} |" for name, value in manifest.metrics.items())
    data = manifest.data
    rows = ", ".join(f"{count} {split}" for split, count in data.rows.items()) if data else ""
    trained_on = f"Trained on {data.source} ({rows} rows; licence: {data.license or 'not stated'}).\n\n" if data else ""
    adapters = "".join(
        f"- The adapter `{name}` alone: `peft.PeftModel.from_pretrained(base, '{folder}')` on {manifest.base_model}.\n"
        for name, folder in manifest.adapters.items()
    )
    base = f"base_model: {manifest.base_model}\n" if manifest.base_model else ""
    origin = f"made from {manifest.base_model}" if manifest.base_model else f"a {architecture} trained from scratch"
    needs = ", after `import deepseek.models.deepseek_base`" if architecture == "deepseek-base" else ""
    return (
        f"---\nlicense: {manifest.license.lower()}\n{base}"
        f"pipeline_tag: {manifest.task.name}\nlibrary_name: transformers\n---\n\n# {manifest.name}\n\n"
        f"{manifest.task.name}, {manifest.parameters:,} parameters, {origin}.\n\n{trained_on}"
        f"| metric | value |\n| --- | --- |\n{metrics}\n\n## Use\n\n"
        f"- This folder opens in plain transformers{needs}.\n{adapters}"
        f"- `deepseek predict PATH --text ...` and `deepseek serve PATH` use it as it is.\n"
    )

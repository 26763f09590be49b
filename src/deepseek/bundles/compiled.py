"""Copies of a bundle's model for one runtime, added to the bundle after it was written."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from deepseek.artifacts.cache import sync_file, write_text
from deepseek.bundles.bundle import Bundle
from deepseek.bundles.manifest import FILE, CompiledRecord
from deepseek.bundles.recording import recorded

FOLDER = "compiled"


def add_compiled(bundle: Bundle, name: str, source: Path, record: CompiledRecord) -> Bundle:
    """Copy the files of ``source`` into the bundle under ``name``, in place of an earlier copy of that name.

    The files get a folder that no manifest names yet, then the manifest changes at once: a crash leaves the bundle as
    it was, or with the new copy.

    Args:
        name: runtime and precision, e.g. ``"openvino-int8"``.
        record: what is known of the copy; its ``folder`` is set here.

    Raises:
        BundleError: the bundle changed on the disk and is damaged now.
        OSError: the bundle's folder cannot be written to.
    """
    files = sorted(p for p in source.iterdir() if p.is_file())
    marks = recorded(files, source)
    contents = hashlib.sha256("".join(mark.sha256 for mark in marks.values()).encode()).hexdigest()
    folder = f"{FOLDER}/{name}-{contents[:12]}"
    target = bundle.path / folder
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, target / file.name)
        sync_file(target / file.name)
    sync_file(target)
    now = Bundle.open(bundle.path).manifest
    old = now.compiled.get(name)
    kept = {n: r for n, r in now.files.items() if old is None or not n.startswith(f"{old.folder}/")}
    manifest = now.model_copy(
        update={
            "files": {**kept, **{f"{folder}/{n}": mark for n, mark in marks.items()}},
            "compiled": {**now.compiled, name: record.model_copy(update={"folder": folder})},
        }
    )
    write_text(bundle.path / FILE, manifest.model_dump_json(indent=2) + "\n")
    if old is not None and old.folder != folder:
        shutil.rmtree(bundle.path / old.folder, ignore_errors=True)
    return Bundle.open(bundle.path)

"""Copies for a runtime are added to a bundle whole, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from deepseek.bundles import Bundle, CompiledRecord, add_compiled
from deepseek.errors import BundleError

RECORD = CompiledRecord(metric="accuracy", reference=0.8, value=0.79, rows=100)


@pytest.fixture
def own(bundle: Any, tmp_path: Path) -> Bundle:
    shutil.copytree(bundle.path, tmp_path / "sentiment")
    return Bundle.open(tmp_path / "sentiment")


def copy(folder: Path, content: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.xml").write_text(content)
    return folder


def test_a_copy_is_added_checked_and_replaced(own: Bundle, tmp_path: Path) -> None:
    with_one = add_compiled(own, "openvino-int8", copy(tmp_path / "made", "one"), RECORD)
    record = with_one.manifest.compiled["openvino-int8"]
    assert record.value == 0.79
    assert (own.path / record.folder / "model.xml").read_text() == "one"
    assert {k: v for k, v in with_one.manifest.files.items() if "compiled" not in k} == own.manifest.files
    with_two = add_compiled(own, "openvino-int8", copy(tmp_path / "made", "two"), RECORD)  # ``own`` is out of date
    assert not (own.path / record.folder).exists()
    with_both = add_compiled(with_two, "other-int8", copy(tmp_path / "made", "two"), RECORD)
    assert set(with_both.manifest.compiled) == {"openvino-int8", "other-int8"}
    same = add_compiled(with_both, "other-int8", copy(tmp_path / "made", "two"), RECORD)
    Bundle.open(same.path, verify=True)
    (own.path / same.manifest.compiled["other-int8"].folder / "model.xml").write_text("six")
    with pytest.raises(BundleError, match="SHA-256"):
        Bundle.open(own.path, verify=True)


def test_a_crash_before_the_manifest_leaves_the_bundle_as_it_was(
    own: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = add_compiled(own, "openvino-int8", copy(tmp_path / "made", "one"), RECORD)

    def crash(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("deepseek.bundles.compiled.write_text", crash)
        with pytest.raises(OSError, match="no space"):
            add_compiled(own, "openvino-int8", copy(tmp_path / "made", "two"), RECORD)
    assert Bundle.open(own.path, verify=True).manifest == before.manifest


@pytest.mark.parametrize("folder", ["../elsewhere", "/etc", "compiled/../..", "compiled/..", "weights"])
def test_a_manifest_cannot_point_outside_the_bundle(own: Bundle, folder: str) -> None:
    file = own.path / "deepseek.json"
    document = json.loads(file.read_text())
    document["compiled"] = {"openvino-int8": {**RECORD.model_dump(), "folder": folder}}
    file.write_text(json.dumps(document))
    with pytest.raises(BundleError, match="damaged"):
        Bundle.open(own.path)

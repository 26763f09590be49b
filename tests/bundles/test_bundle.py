"""A bundle opens in transformers and PEFT, says what it is, and is never half there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel

from deepseek.bundles import Bundle, write_bundle
from deepseek.errors import BundleError, UnknownNameError
from deepseek.inference import Predictor

TEXTS = ["a moving film, funny and warm", "dull", "an endless, loud and painfully stupid mess of a film"]


def test_its_model_and_adapter_open_in_the_users_own_tools(bundle: Bundle, minilm: Path) -> None:
    ours = [a["scores"] for a in Predictor.load(bundle.path).predict([{"text": t} for t in TEXTS])]
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(bundle.path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(bundle.path)
    base = transformers.AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2)
    peft = PeftModel.from_pretrained(base, bundle.adapter_path("text_class")).eval()
    batch = tokenizer(TEXTS, return_tensors="pt", padding=True)
    with torch.inference_mode():
        for model in (theirs, peft):
            scores = model(**batch).logits.softmax(-1)
            torch.testing.assert_close(scores, torch.tensor(ours), rtol=1e-3, atol=1e-4)
    assert theirs.config.id2label == {0: "negative", 1: "positive"}
    assert peft.peft_config["default"].base_model_name_or_path == "sentence-transformers/all-MiniLM-L6-v2"


def test_transformers_pipeline_gives_the_same_labels(bundle: Bundle) -> None:
    pipe = transformers.pipeline("text-classification", model=str(bundle.path))
    ours = Predictor.load(bundle.path).predict([{"text": t} for t in TEXTS])
    for mine, yours in zip(ours, pipe(TEXTS), strict=True):
        assert mine["label"] == yours["label"]
        assert mine["score"] == pytest.approx(yours["score"], abs=1e-4)


def test_it_describes_itself(bundle: Bundle) -> None:
    manifest = json.loads((bundle.path / "deepseek.json").read_text())
    assert manifest["task"] == {
        "name": "text-classification",
        "config": {
            "text": "text",
            "text_pair": None,
            "label": "label",
            "labels": ["negative", "positive"],
            "positive": None,
            "max_length": 256,
        },
    }
    assert manifest["metrics"] == {"accuracy": 1.0}
    assert manifest["license"] == "Apache-2.0"
    assert set(manifest["files"]) == {
        p.relative_to(bundle.path).as_posix()
        for p in bundle.path.rglob("*")
        if p.is_file() and p.name != "deepseek.json"
    }
    assert not [name for name in manifest["files"] if name.endswith((".bin", ".pt", ".pkl"))]
    with pytest.raises(UnknownNameError, match="text_class"):
        bundle.adapter_path("text_clas")


def copy_of(bundle: Bundle, folder: Path) -> Path:
    return Path(shutil.copytree(bundle.path, folder / "copy"))


def test_damage_is_found(bundle: Bundle, tmp_path: Path) -> None:
    path = copy_of(bundle, tmp_path)
    Bundle.open(path, verify=True)
    weights = path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.safetensors has other contents"):
        Bundle.open(path, verify=True)
    weights.write_bytes(data[:-5])
    with pytest.raises(BundleError, match="bytes, expected"):
        Bundle.open(path)
    weights.unlink()
    with pytest.raises(BundleError, match="is missing"):
        Bundle.open(path)
    (path / "deepseek.json").write_text('{"format": 99}')
    with pytest.raises(BundleError, match="another format"):
        Bundle.open(path)


def test_what_is_no_bundle(tmp_path: Path, minilm: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        Bundle.open(tmp_path / "absent")
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle.open(minilm)


def write(trained: Any, path: Path, **options: Any) -> Bundle:
    model, tokenizer, task = trained
    return write_bundle(
        path,
        model=model,
        tokenizer=tokenizer,
        task=task,
        name="b",
        base_model=model.base_name,
        license="MIT",
        **options,
    )


def test_an_existing_bundle_is_replaced_only_when_asked(trained: Any, tmp_path: Path) -> None:
    write(trained, tmp_path / "b", metrics={"accuracy": 0.1})
    with pytest.raises(BundleError, match="overwrite"):
        write(trained, tmp_path / "b")
    assert write(trained, tmp_path / "b", metrics={"accuracy": 0.2}, overwrite=True).manifest.metrics["accuracy"] == 0.2
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(BundleError, match="not a bundle"):
        write(trained, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_what_was_there(trained: Any, tmp_path: Path, monkeypatch: Any, error: Any) -> None:
    write(trained, tmp_path / "b", metrics={"accuracy": 0.1})

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(type(trained[1]), "save_pretrained", fail)  # after the weights, before the manifest
    with pytest.raises((KeyboardInterrupt, OSError)):
        write(trained, tmp_path / "b", overwrite=True)
    assert Bundle.open(tmp_path / "b", verify=True).manifest.metrics["accuracy"] == 0.1
    with pytest.raises((KeyboardInterrupt, OSError)):
        write(trained, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from deepseek.bundles import Bundle, write_bundle
bundle = Bundle.open(sys.argv[1])
model, tokenizer = bundle.load_model(), bundle.load_tokenizer()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
write_bundle(sys.argv[2], model=model, tokenizer=tokenizer, task=bundle.task, name="b", base_model="x", license="MIT")
"""


def test_a_disk_that_takes_no_more_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(bundle.path), str(tmp_path / "b")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "too large" in done.stderr or "Errno" in done.stderr or "os error" in done.stderr
    assert not list(tmp_path.iterdir())

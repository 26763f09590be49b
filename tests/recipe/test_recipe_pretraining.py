"""A base reads the training texts before the task is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from deepseek.bundles import Bundle
from deepseek.errors import ConfigError
from deepseek.inference import Predictor
from deepseek.recipe import Recipe, run_recipe
from deepseek.recipe import pretraining as module

WORDS = ["calm", "loud", "red", "blue", "slow", "quick"]
TEXTS = [f"a {a} and {b} film, number {n}" for n, (a, b) in enumerate((a, b) for a in WORDS for b in WORDS)]


def recipe(folder: Path, **changes: Any) -> Recipe:
    source = folder / "rows.jsonl"
    rows = [{"text": text, "label": "yn"[n % 2]} for n, text in enumerate(TEXTS)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Recipe.model_validate(
        {
            "name": "tiny",
            "task": {"name": "text-classification"},
            "data": {"source": str(source), "split": {"test": 0.25, "validation": 0}, "clean": None},
            "model": {"base": "all-minilm-l6-v2"},
            "pretraining": {"max_length": 32, "training": {"max_steps": 2, "batch_size": 8, "precision": "float32"}},
            "adapter": {"r": 2},
            "training": {"max_steps": 1, "batch_size": 8, "precision": "float32"},
            **changes,
        }
    )


def test_the_base_reads_the_training_texts_first(tmp_path: Path, minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(tmp_path)
    result = run_recipe(made, tmp_path / "run")
    assert "pre-train" in [step.name for step in result.steps.steps]
    base, original = load_file(tmp_path / "run/pretrained/model.safetensors"), load_file(minilm / "model.safetensors")
    dense = "encoder.layer.0.intermediate.dense.weight"
    assert not torch.equal(base[dense], original[dense])
    assert torch.equal(base["pooler.dense.weight"], original["pooler.dense.weight"])
    bundle = load_file(tmp_path / "run/bundle/model.safetensors")
    assert torch.equal(bundle[f"bert.{dense}"], base[dense])
    read = json.loads((tmp_path / "run/pretraining/data.json").read_text(encoding="utf-8"))
    assert read["train"]["rows"] == result.rows["train"] < len(TEXTS)
    assert Bundle.open(tmp_path / "run/bundle").manifest.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert Predictor.load(tmp_path / "run/bundle").predict([{"text": "a calm film"}])[0]["label"] in "yn"

    # a run that is resumed takes the finished base
    monkeypatch.setattr(module, "fit", lambda *_, **__: pytest.fail("pre-trained again"))
    run_recipe(made, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": {"name": "text-classification", "text_pair": "other"}}, "reads text, other"),
        ({"task": {"name": "text-generation"}}, "to continue them"),
        ({"task": {"name": "image-classification"}}, "reads image"),
        ({"model": {"base": "all-minilm-l6-v2", "quantization": "nf4"}}, "cannot be quantised"),
    ],
)
def test_what_cannot_be_pretrained_is_refused_before_any_work(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_recipe(recipe(tmp_path, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()

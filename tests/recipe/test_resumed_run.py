"""A run that was interrupted ends as if it had not been."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from interruptions import interrupted_at

from deepseek.recipe import Recipe, run_recipe

PAIRS = list(itertools.product(["calm", "loud", "red", "blue", "slow", "quick"], repeat=2))


@pytest.mark.parametrize("clean", [None, {"near_duplicates": None}])
def test_an_interrupted_run_goes_on_with_the_rows_that_it_prepared(tmp_path: Path, clean: Any) -> None:
    source = tmp_path / "rows.jsonl"
    rows = [{"text": f"a {a} {b} film, number {n}", "label": "yn"[n % 2]} for n, (a, b) in enumerate(PAIRS)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    changes: dict[str, Any] = {
        "name": "tiny",
        "task": {"name": "text-classification"},
        "model": {"base": "all-minilm-l6-v2"},
        "adapter": {"r": 2},
        "data": {"source": str(source), "split": {"test": 0.25, "validation": 0}, "clean": clean},
        "training": {"max_steps": 4, "batch_size": 8, "precision": "float32", "checkpoint": 2},
    }
    made = Recipe.model_validate(changes)
    whole = run_recipe(made, tmp_path / "whole")
    with interrupted_at(3):
        run_recipe(made, tmp_path / "cut")
    source.write_text('{"text": "other rows", "label": "y"}\n', encoding="utf-8")
    resumed = run_recipe(made, tmp_path / "cut", resume=True)
    assert resumed.rows == whole.rows
    assert resumed.cleaning == whole.cleaning
    assert resumed.metrics == whole.metrics
    assert resumed.training.curve == whole.training.curve

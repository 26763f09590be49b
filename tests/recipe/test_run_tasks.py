"""A run of each classifying task from a small local file to a bundle that answers, in a step or two."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from deepseek.bundles import Bundle
from deepseek.data import CleaningConfig, SplitConfig, Table
from deepseek.errors import ConfigError, DataError, UnknownNameError
from deepseek.inference import Predictor, evaluate
from deepseek.recipe import Recipe, run_recipe
from deepseek.recipe.preparation import prepare

NOUNS = ["cat", "dog", "fish", "horse", "bird", "cow", "goat", "mouse"]
PAIRS = [
    {
        "premise": f"a {a} and a {b} sleep in house {n}",
        "hypothesis": f"the {a} of house {n} is awake",
        "label": "yn"[n % 2],
    }
    for n, (a, b) in enumerate((a, b) for a in NOUNS for b in NOUNS[:5])
]
TOKENS = [
    {"tokens": [noun, "went", "to", place, str(n)], "tags": ["B-PER", "O", "O", "B-LOC", "I-LOC"]}
    for n, (noun, place) in enumerate((a, b) for a in NOUNS for b in ("Rome", "Oslo", "Lima", "Bonn"))
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


def recipe(source: str, task: dict[str, Any], **changes: Any) -> Recipe:
    return Recipe(
        name="tiny",
        task=task,
        data={"source": source, "split": {"test": 0.25, "validation": 0}, "clean": changes.pop("clean", {"near_duplicates": None})},
        model={"base": "all-minilm-l6-v2"},
        adapter={"r": 2},
        training={"epochs": 1, "batch_size": 16, "precision": "float32", **changes.pop("training", {})},
        **changes,
    )  # fmt: skip


def test_pairs_from_csv(tmp_path: Path) -> None:
    rows = [*PAIRS, PAIRS[0], {**PAIRS[1], "hypothesis": ""}]
    task = {"name": "text-classification", "text": "premise", "text_pair": "hypothesis"}
    result = run_recipe(
        recipe(write(tmp_path / "p.csv", rows), task, evaluation={"baseline": "tfidf"}), tmp_path / "run"
    )
    assert result.cleaning == {"exact duplicate": 1, "missing text": 1}
    assert sum(result.rows.values()) == len(PAIRS)
    assert result.metrics["accuracy_low"] <= result.metrics["accuracy"] <= result.metrics["accuracy_high"]
    assert result.baseline["accuracy"] <= 1
    table = Table.open(tmp_path / "run" / "clean.lance")
    assert set(table.columns) == {"premise", "hypothesis", "label", "split"}
    assert set(Table.open(tmp_path / "run" / "raw.lance").columns) == {"premise", "hypothesis", "label"}
    predictor = Predictor.load(result.bundle.path)
    assert set(predictor.predict([{"premise": "a", "hypothesis": "b"}])[0]) == {"label", "score", "scores"}
    classify = transformers.pipeline("text-classification", model=str(result.bundle.path), device="cpu")
    row = PAIRS[3]
    theirs = classify({"text": row["premise"], "text_pair": row["hypothesis"]})
    (ours,) = predictor.predict([row])
    assert theirs["label"] == ours["label"]
    assert theirs["score"] == pytest.approx(ours["score"], abs=1e-4)


def test_labels_from_jsonl_and_from_csv(tmp_path: Path) -> None:
    chosen = [[], ["pet"], ["farm", "pet"], ["farm"]]
    rows = [{"text": r["premise"], "labels": chosen[n % 4]} for n, r in enumerate(PAIRS)]
    task: dict[str, Any] = {"name": "multi-label-classification"}
    result = run_recipe(recipe(write(tmp_path / "r.jsonl", rows), task), tmp_path / "run")
    assert {"f1_micro", "f1_macro_low", "subset_accuracy_high", "f1/farm"} <= set(result.metrics)
    assert result.bundle.task.labels == ("farm", "pet")
    assert transformers.AutoConfig.from_pretrained(result.bundle.path).problem_type == "multi_label_classification"
    flat = [{"text": row["text"], "labels": "|".join(row["labels"]) or "pet"} for row in rows]
    source = write(tmp_path / "r.csv", flat)
    with pytest.raises(DataError, match=r"row \d+: expected a list of strings.*separator"):
        run_recipe(recipe(source, task), tmp_path / "refused")
    result = run_recipe(recipe(source, {**task, "separator": "|"}), tmp_path / "flat")
    assert result.bundle.task.labels == ("farm", "pet")


def test_numbers_for_pairs(tmp_path: Path) -> None:
    rows = [{**row, "label": (n % 7) / 2} for n, row in enumerate(PAIRS)]
    task = {"name": "text-regression", "text": "premise", "text_pair": "hypothesis", "minimum": 0, "maximum": 5}
    source = write(tmp_path / "r.csv", rows)
    with pytest.raises(ConfigError, match="tfidf is a baseline of text-classification"):
        run_recipe(recipe(source, task, evaluation={"baseline": "tfidf"}), tmp_path / "run")
    result = run_recipe(recipe(source, task), tmp_path / "run")
    assert {"pearson", "spearman_low", "rmse_high", "mae"} <= set(result.metrics)
    assert any(step.note.startswith("pearson ") for step in result.steps.steps)
    config = transformers.AutoConfig.from_pretrained(result.bundle.path)
    assert (config.num_labels, config.problem_type) == (1, "regression")
    (answer,) = Predictor.load(result.bundle.path).predict(rows[:1])
    assert 0 <= answer["value"] <= 5


def test_tokens(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", [*TOKENS, TOKENS[0]])
    result = run_recipe(recipe(source, {"name": "token-classification"}), tmp_path / "run")
    assert result.cleaning == {"exact duplicate": 1}
    assert {"f1", "precision_low", "accuracy", "f1/LOC"} <= set(result.metrics)
    predictor = Predictor.load(result.bundle.path)
    scored = evaluate(predictor, TOKENS)
    assert scored["f1_low"] <= scored["f1"] <= scored["f1_high"]
    (answer,) = predictor.predict([{"text": "cat went to Rome 0"}])
    tag = transformers.pipeline(
        "token-classification", model=str(result.bundle.path), device="cpu", aggregation_strategy="first"
    )
    theirs = tag("cat went to Rome 0")
    merged = [(e["start"], e["end"], e["entity_group"]) for e in theirs if e["entity_group"] != "O"]
    assert merged == list(zip(answer["starts"], answer["ends"], answer["labels"], strict=True))


def test_a_test_split_without_labels_is_left_alone(tmp_path: Path) -> None:
    splits = ["train"] * 24 + ["validation"] * 8 + ["test"] * 8
    rows = [{**row, "split": split} for row, split in zip(PAIRS, splits, strict=True)]
    for row in rows[-8:]:
        row["label"] = None
    source = write(tmp_path / "r.jsonl", rows)
    task = {"name": "text-classification", "text": "premise", "text_pair": "hypothesis"}
    for clean in (None, {"near_duplicates": None}):
        result = run_recipe(recipe(source, task, clean=clean), tmp_path / f"run{clean is None}")
        assert result.held_out == "validation"
        assert result.rows == {"train": 24, "validation": 8} | ({"test": 8} if clean is None else {})
        assert any(step.note.endswith("on 8 validation rows") for step in result.steps.steps)


def test_a_plain_checkpoint_says_which_of_the_tasks_it_is_for(tmp_path: Path) -> None:
    from deepseek.models import tokenizer_for
    from deepseek.tasks import TASKS

    tokenizer = tokenizer_for("all-minilm-l6-v2")
    small: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    for name, labels in [("text-regression", {}), ("multi-label-classification", {"labels": ("a", "b")}),
                         ("token-classification", {"labels": ("B-X", "O")}), ("text-classification", {"labels": ("n", "y")})]:  # fmt: skip
        task = TASKS.get(name)(**labels)
        kind = "AutoModelForTokenClassification" if name.startswith("token") else "AutoModelForSequenceClassification"
        model = getattr(transformers, kind).from_config(transformers.BertConfig(**small, **task.model_options()))
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        predictor = Predictor.load(tmp_path / name)
        assert predictor.task == name
        assert getattr(predictor.definition, "labels", ()) == labels.get("labels", ())
        assert not Bundle.is_bundle(tmp_path / name)
        assert predictor.predict([{"text": "some text"}])


def test_pairs_are_compared_as_pairs(tmp_path: Path) -> None:
    rows = [
        {"a": f"one question {n // 2}", "b": f"answer {n} of many, {n * 7919}", "label": "xy"[n % 2]} for n in range(40)
    ]
    raw = Table.create(
        tmp_path / "raw.lance", [*rows, {**rows[0], "label": "y"}, {**rows[2], "b": "ANSWER 2 of many 15838"}]
    )
    cleaning = CleaningConfig(near_duplicates=None)
    prepared = prepare(raw, tmp_path, cleaning, SplitConfig(test=0.3, validation=0), text=("a", "b"), label="label")
    assert prepared.reasons == {"conflicting labels": 2, "exact duplicate": 1}
    assert len(prepared.table) == 39
    assert "joined_text" not in prepared.table.columns
    with pytest.raises(UnknownNameError, match="column 'c'"):
        prepare(raw, tmp_path, cleaning, SplitConfig(), text=("a", "c"), label="label")

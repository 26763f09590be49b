"""Labels, scores and metrics of text classification."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from deepseek.errors import DataError
from deepseek.models import tokenizer_for
from deepseek.tasks.text_classification import TextClassification

LABELS = ("negative", "neutral", "positive")


def test_labels_are_learned_sorted(rows: list[dict[str, Any]]) -> None:
    assert TextClassification().fitted(rows).labels == ("negative", "positive")
    assert TextClassification().fitted(rows[::-1]).labels == ("negative", "positive")


def test_one_class_only_is_an_error() -> None:
    with pytest.raises(DataError, match=r"at least two labels.*'positive' \(3 rows\)"):
        TextClassification().fitted([{"text": "x", "label": "positive"}] * 3)


def test_no_rows_is_an_error() -> None:
    with pytest.raises(DataError, match="no rows"):
        TextClassification().fitted([])


def test_labels_that_the_task_does_not_name(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(DataError, match="negative"):
        TextClassification(labels=("positive", "other")).fitted(rows)


def test_a_label_of_another_type() -> None:
    with pytest.raises(DataError, match=r"row 1.*received 1"):
        TextClassification().fitted([{"text": "x", "label": "a"}, {"text": "y", "label": 1}])


@given(st.lists(st.lists(st.floats(-20, 20), min_size=3, max_size=3), min_size=1, max_size=8))
def test_scores_are_probabilities_of_the_labels(logits: list[list[float]]) -> None:
    answers = TextClassification(labels=LABELS).decode({"logits": torch.tensor(logits)}, len(logits))
    for row, answer in zip(logits, answers, strict=True):
        assert sum(answer["scores"]) == pytest.approx(1, abs=1e-5)
        assert answer["score"] == max(answer["scores"]) == answer["scores"][LABELS.index(answer["label"])]
        assert row[LABELS.index(answer["label"])] == pytest.approx(max(row), abs=1e-4)


@example([("negative", "neutral")] * 7)  # its lower bound was -3e-17
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=60))
def test_metrics_agree_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    predicted, true = zip(*pairs, strict=True)
    metrics = TextClassification(labels=LABELS).metrics([{"label": p} for p in predicted], list(true))
    assert metrics["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    expected = f1_score(true, predicted, average="macro", labels=sorted(set(true)), zero_division=0)
    assert metrics["f1_macro"] == pytest.approx(expected)
    assert 0 <= metrics["accuracy_low"] <= metrics["accuracy"] + 1e-9
    assert metrics["accuracy"] - 1e-9 <= metrics["accuracy_high"] <= 1


def test_a_megabyte_of_text_is_cut_not_choked_on() -> None:
    task, tokenizer = TextClassification(max_length=64), tokenizer_for("all-minilm-l6-v2")
    features = task.prepare([{"text": "wonderful film " * 70_000}], tokenizer)
    assert len(features[0]["input_ids"]) == 64
    short = task.prepare([{"text": "wonderful film " * 100}], tokenizer)
    assert features[0]["input_ids"] == short[0]["input_ids"]

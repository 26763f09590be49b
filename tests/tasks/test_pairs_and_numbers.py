"""Pairs of texts, numbers as answers, and several labels a text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from deepseek.errors import DataError
from deepseek.models import tokenizer_for
from deepseek.tasks.multi_label_classification import MultiLabelClassification
from deepseek.tasks.text_classification import TextClassification
from deepseek.tasks.text_regression import TextRegression


@pytest.fixture
def tokenizer() -> Any:
    return tokenizer_for("all-minilm-l6-v2")


@pytest.mark.parametrize("kind", [TextClassification, MultiLabelClassification, TextRegression])
def test_a_pair_is_joined_as_the_tokenizer_joins_two_texts(kind: Any, tokenizer: Any) -> None:
    task = kind(text="premise", text_pair="hypothesis")
    assert [f.name for f in task.signature.inputs] == ["premise", "hypothesis"]
    assert task.input_columns == ("premise", "hypothesis")
    (feature,) = task.prepare([{"premise": "a cat sleeps", "hypothesis": "an animal rests"}], tokenizer)
    expected = tokenizer("a cat sleeps", "an animal rests")
    assert feature == {key: expected[key] for key in feature}
    assert set(feature["token_type_ids"]) == {0, 1}


def test_the_longer_text_of_a_pair_is_cut_first(tokenizer: Any) -> None:
    task = TextClassification(text_pair="other", max_length=16)
    (feature,) = task.prepare([{"text": "film " * 500_000, "other": "a short one"}], tokenizer)
    assert len(feature["input_ids"]) == 16
    assert feature["token_type_ids"].count(1) == 4  # the three words of the short text and the mark behind them


@pytest.mark.parametrize("value", [None, " ", 3])
def test_the_second_text_is_checked_too(value: Any, tokenizer: Any) -> None:
    rows = [{"text": "a", "other": "b"}, {"text": "a", "other": value}]
    with pytest.raises(DataError, match=r"row 1: .*'other'"):
        TextClassification(text_pair="other").prepare(rows, tokenizer)
    with pytest.raises(DataError, match=r"row 0: .*'other', received the columns text"):
        TextClassification(text_pair="other").prepare([{"text": "a"}], tokenizer)


def test_a_pair_of_one_column_with_itself_is_refused() -> None:
    with pytest.raises(ValidationError, match="another column"):
        TextRegression(text_pair="text")


def test_a_positive_label_brings_its_own_scores() -> None:
    task = TextClassification(labels=("no", "yes"), positive="yes")
    answers = task.decode({"logits": torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 1.0]])}, 3)
    found = task.metrics(answers, ["yes", "no", "no"])
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((0.5, 1, 2 / 3))
    assert found["roc_auc"] == 1
    assert "roc_auc" not in task.metrics([{"label": "yes"}], ["yes"])
    with pytest.raises(DataError, match="positive: expected one of the labels 'no', 'yes', received 'maybe'"):
        TextClassification(positive="maybe").fitted([{"text": "a", "label": "no"}, {"text": "b", "label": "yes"}])


def test_standardised_numbers_come_back_in_their_own_unit(tokenizer: Any) -> None:
    rows = [{"text": "x", "label": price} for price in (100_000, 250_000, 430_000)]
    task = TextRegression(standardise=True).fitted(rows)
    targets = task.training_labels(rows)
    assert sum(targets) == pytest.approx(0)
    assert sum(t * t for t in targets) / 3 == pytest.approx(1)
    answers = task.decode({"logits": torch.tensor(targets)[:, None]}, 3)
    assert [a["value"] for a in answers] == pytest.approx([row["label"] for row in rows])
    with pytest.raises(DataError, match=r"different numbers.*received 5.0 in all 2 rows"):
        TextRegression(standardise=True).fitted([{"text": "x", "label": 5}] * 2)


def test_answers_stay_in_the_range() -> None:
    task = TextRegression(minimum=0, maximum=5)
    answers = task.decode({"logits": torch.tensor([[-1.0], [2.5], [7.0]])}, 3)
    assert [a["value"] for a in answers] == [0, 2.5, 5]
    with pytest.raises(ValidationError, match="minimum < maximum"):
        TextRegression(minimum=3, maximum=3)


def test_labels_from_the_threshold_on_most_probable_first() -> None:
    task = MultiLabelClassification(labels=("a", "b", "c"), threshold=0.3)
    answers = task.decode({"logits": torch.tensor([[0.0, 3.0, -3.0], [-9.0, -9.0, -9.0]])}, 2)
    assert [a["labels"] for a in answers] == [["b", "a"], []]
    assert answers[0]["scores"] == pytest.approx([0.5, 0.9526, 0.0474], abs=1e-4)


def test_labels_in_one_string() -> None:
    task = MultiLabelClassification(separator="|")
    rows = [{"text": "x", "labels": "news | sport|news"}, {"text": "y", "labels": ""}]
    assert task.references(rows) == [["news", "sport"], []]
    assert task.fitted(rows).labels == ("news", "sport")
    assert task.fitted(rows).training_labels(rows) == [[1, 1], [0, 0]]
    with pytest.raises(DataError, match="at least one label"):
        task.fitted(rows[1:])


def test_a_label_that_training_never_saw_counts_as_missed() -> None:
    task = MultiLabelClassification(labels=("a", "b"))
    found = task.metrics(
        [{"labels": ["a"]}, {"labels": ["b"]}], task.references([{"labels": ["a", "new"]}, {"labels": ["b"]}])
    )
    assert found["recall_micro"] == pytest.approx(2 / 3)
    assert found["f1/new"] == 0


def test_positive_weights_weigh_the_rows_that_a_label_applies_to() -> None:
    task = MultiLabelClassification(labels=("a", "b"))
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    batch = {"labels": torch.tensor([[1.0, 0.0], [0.0, 0.0]])}
    loss, _ = task.loss(lambda **_: type("O", (), {"logits": logits}), batch, class_weights=torch.tensor([3.0, 1.0]))
    assert loss.item() == pytest.approx((3 + 1 + 1 + 1) * 0.693147 / 4, abs=1e-5)

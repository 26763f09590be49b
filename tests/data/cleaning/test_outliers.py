"""Outliers: what was put in is found, whatever the batches, and values that are missing are not judged."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from deepseek.data import CleaningConfig, clean
from deepseek.data.cleaning import OutlierConfig, find_outliers
from deepseek.errors import DataError, UnknownNameError


def rows_of(found):
    return [outlier.row for outlier in found]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 499), st.sampled_from([1e3, -1e3, float("inf"), float("-inf")]))
def test_a_far_number_is_found_and_only_that(seed, place, far):
    values = np.random.default_rng(seed).uniform(-1, 1, 500)
    values[place] = far
    found = find_outliers(pa.table({"x": values}), OutlierConfig(columns=("x",)))
    assert rows_of(found) == [place]
    assert found[0].reason == "outlier in x"
    assert found[0].score > 6


def test_numbers_that_are_missing_constant_or_whole():
    table = pa.table({"x": [None, float("nan"), 1.0, 1.0, 1.0, 1.0, 50.0], "n": pa.array([7] * 7, pa.int16())})
    assert rows_of(find_outliers(table, OutlierConfig(columns=("n",)))) == []
    assert find_outliers(table, OutlierConfig(columns=("x",), max_z=3))[0].row == 6
    decimals = pa.table({"d": pa.array([1] * 20 + [2] * 20 + [900], pa.decimal128(9, 2))})
    assert rows_of(find_outliers(decimals, OutlierConfig(columns=("d",)))) == [40]
    assert rows_of(find_outliers(pa.table({"x": pa.array([], pa.float64())}), OutlierConfig(columns=("x",)))) == []


def test_combinations_need_the_forest():
    rng = np.random.default_rng(0)
    place = rng.integers(0, 2, 2000) * 10
    table = pa.table({"x": place + rng.uniform(-1, 1, 2000), "y": place + rng.uniform(-1, 1, 2000)})
    odd = pa.table({"x": [0.0], "y": [10.0]})  # each is usual by itself
    both = pa.concat_tables([table, odd])
    assert 2000 not in rows_of(find_outliers(both, OutlierConfig(columns=("x", "y"))))
    assert 2000 in rows_of(
        find_outliers(both, OutlierConfig(columns=("x", "y"), method="isolation-forest", share=0.05))
    )


def test_texts_that_are_like_no_others():
    rng = np.random.default_rng(0)
    words = ["the", "film", "plot", "is", "good", "bad", "actor", "scene", "and", "a"]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(300)]
    texts[123] = "quantum chromodynamics describes the strong interaction between quarks"
    texts[200] = ""
    found = find_outliers(pa.table({"text": texts}), OutlierConfig(text=True))
    assert rows_of(found) == [123]
    assert found[0].reason == "unlike the other texts"


def test_vectors_far_from_all_others():
    rng = np.random.default_rng(0)
    vectors = np.array([1.0, 0, 0, 0]) + 0.05 * rng.normal(size=(400, 4))
    vectors[7] = [0, 1, 0, 0]
    table = pa.table({"v": list(vectors)})
    for sample in (100, 20_000):
        config = OutlierConfig(vector=True, sample=sample)
        assert 7 in rows_of(find_outliers(table, config, text=None, vector="v"))
    by_share = find_outliers(table, OutlierConfig(vector=True, share=0.01), text=None, vector="v")
    assert len(by_share) == 4
    assert 7 in rows_of(by_share)
    again = find_outliers(
        pa.table({"v": table["v"].combine_chunks()}), OutlierConfig(vector=True, share=0.01), text=None, vector="v"
    )
    assert again == by_share


def test_errors():
    table = pa.table({"x": [1.0], "text": ["a"], "v": [[1.0]]})
    with pytest.raises(UnknownNameError, match="'y'"):
        find_outliers(table, OutlierConfig(columns=("y",)))
    with pytest.raises(DataError, match="expected numbers, received string"):
        find_outliers(table, OutlierConfig(columns=("text",)))
    with pytest.raises(DataError, match="vector column"):
        find_outliers(table, OutlierConfig(vector=True))
    with pytest.raises(DataError, match="nothing to look at"):
        find_outliers(table, OutlierConfig())
    with pytest.raises(DataError, match="one length"):
        find_outliers(pa.table({"v": [[1.0], [1.0, 2.0]]}), OutlierConfig(vector=True), text=None, vector="v")
    with pytest.raises(ValidationError):
        OutlierConfig(share=0.9)


@pytest.mark.parametrize("action", ["flag", "reject"])
def test_the_step_flags_or_rejects(action):
    table = pa.table({"text": [f"text {n}" for n in range(50)], "x": [float(n % 5) for n in range(49)] + [1e6]})
    config = CleaningConfig(near_duplicates=None, outliers=OutlierConfig(columns=("x",), action=action))
    result = clean(table, config, label=None)
    if action == "flag":
        assert result.kept["outlier"].to_pylist() == [None] * 49 + ["outlier in x"]
        assert result.report.steps[-1].details["flagged"][0]["text"] == "text 49"
    else:
        assert result.rejected["reason"].to_pylist() == ["outlier in x"]
        assert result.rejected["detail"].to_pylist()[0].startswith("score ")
        assert "outlier" not in result.kept.column_names

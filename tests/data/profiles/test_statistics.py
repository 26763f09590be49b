"""Statistics: exact where they claim to be, the same however the rows are batched, plain JSON."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data import Table, profile
from deepseek.errors import UnknownNameError

NUMBERS = st.lists(st.none() | st.floats(-1e6, 1e6) | st.just(math.nan), max_size=50)


@settings(max_examples=80, deadline=None)
@given(NUMBERS)
def test_numbers_against_numpy(values):
    column = profile(pa.table({"x": pa.array(values, pa.float64(), from_pandas=False)}))["columns"]["x"]
    present = np.array([v for v in values if v is not None and not math.isnan(v)])
    assert column["nulls"] == values.count(None)
    assert column["count"] + column["nulls"] == len(values)
    assert column["nan"] == column["count"] - len(present)
    if len(present):
        assert (column["min"], column["max"]) == (present.min(), present.max())
        assert column["mean"] == pytest.approx(present.mean(), abs=1e-6)
        assert column["std"] == pytest.approx(present.std(), abs=1e-4)
        assert sum(column["counts"]) == len(present)
        assert column["edges"] == sorted(column["edges"])


def test_texts_labels_and_flags():
    data = pa.table(
        {"t": ["a", "bb", None, "很好"], "flag": [True, False, True, None], "blob": [b"x", b"y", None, b"z"]}
    )
    columns = profile(data)["columns"]
    text = columns["t"]
    assert (text["count"], text["nulls"], text["distinct"], text["distinct_is_exact"]) == (3, 1, 3, True)
    assert text["top"] == {"a": 1, "bb": 1, "很好": 1}
    assert (text["length"]["min"], text["length"]["max"], sum(text["length"]["counts"])) == (1, 2, 3)
    assert columns["flag"]["top"] == {"true": 2, "false": 1}
    assert columns["blob"] == {"type": "binary", "kind": "other", "count": 3, "nulls": 1}


def test_many_values(tmp_path):
    count = 150_000
    values = np.random.default_rng(0).normal(size=count)
    table = Table.create(tmp_path / "t.lance", pa.table({"x": values, "id": [f"row {n}" for n in range(count)]}))
    stats = profile(table)
    assert json.loads(json.dumps(stats)) == stats
    assert (stats["format"], stats["rows"]) == ("deepseek.statistics/1", count)
    assert stats["columns"]["id"]["top"] is None
    assert stats["columns"]["id"]["distinct"] == pytest.approx(count, rel=0.1)
    assert np.allclose(stats["columns"]["x"]["counts"], count / 10, rtol=0.1)


def test_batches_leave_no_trace(tmp_path):
    rows = [{"n": n % 7, "t": "x" * (n % 5)} for n in range(100)]
    table = Table.create(tmp_path / "t.lance", rows[:30])
    table.append(rows[30:])
    assert profile(table)["columns"] == profile(pa.Table.from_pylist(rows))["columns"]


def test_columns_and_empty_tables(tmp_path):
    empty = pa.table({"t": pa.array([], pa.string()), "n": pa.array([], pa.int64())})
    assert profile(empty)["rows"] == 0
    assert list(profile(empty, ["n"])["columns"]) == ["n"]
    assert profile(empty, [])["columns"] == {}
    with pytest.raises(UnknownNameError, match="Did you mean 'text'"):
        profile(pa.table({"text": ["a"]}), ["txt"])

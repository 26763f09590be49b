"""Statistics: exact where they claim to be, the same however the rows are cut and whatever runs them, plain JSON."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data import Table, profile
from deepseek.data.engines import LocalEngine
from deepseek.data.profiles import profile_page, render_profile, statistics
from deepseek.data.profiles.hashing import hashed
from deepseek.data.profiles.sketches import Cuts, Distinct, Histogram
from deepseek.errors import UnknownNameError

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.lists(st.none() | st.floats(-1e6, 1e6) | st.just(math.nan), max_size=50)


def everything(count: int, seed: int = 0) -> pa.Table:
    """A column of each kind."""
    r = np.random.default_rng(seed)
    day = dt.datetime(2026, 1, 1)
    vectors = pa.array(r.normal(size=count * 4).astype("float32"))
    return pa.table(
        {
            "number": pa.array(r.normal(size=count), mask=r.random(count) < 0.1),
            "whole": r.integers(0, 5, count),
            "text": [f"word{n} and {m}" for n, m in r.integers(0, 300, (count, 2))],
            "label": pa.array(r.choice(["a", "b", "很好"], count)).dictionary_encode(),
            "flag": r.random(count) < 0.3,
            "seen": [day + dt.timedelta(minutes=int(n)) for n in r.integers(0, 9999, count)],
            "vector": pa.FixedSizeListArray.from_arrays(vectors, 4),
            "bytes": [b"\x89PNG\r\n\x1a\n" + bytes(int(n)) for n in r.integers(0, 50, count)],
            "tags": [[f"t{n}" for n in range(k)] for k in r.integers(0, 4, count)],
            "place": [
                {"lat": float(a), "name": "x" * int(b)}
                for a, b in zip(r.normal(size=count), r.integers(0, 5, count), strict=True)
            ],
            "nothing": pa.nulls(count),
        }
    )


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
        assert column["distinct"] == len(set(present.tolist()))
        for bins in (column, column["fine"]):
            edges = bins["edges"]
            assert edges == sorted(edges)
            inside = [int(((present >= a) & (present < b)).sum()) for a, b in itertools.pairwise(edges[:-1])]
            assert bins["counts"] == [*inside, len(present) - sum(inside)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(FLOATS, max_size=30), max_size=6), st.integers(2, 20), st.randoms())
def test_histograms_depend_on_the_values_alone(parts, limit, random):
    whole = Histogram(limit)
    whole.update(np.array([v for part in parts for v in part], dtype=float))
    sketches = []
    for part in parts:
        sketches.append(Histogram(limit))
        sketches[-1].update(np.array(part, dtype=float))
    random.shuffle(sketches)
    merged = Histogram(limit)
    for sketch in sketches:
        merged.merge(sketch)
    assert (merged.level, merged.keys.tolist(), merged.counts.tolist()) == (
        whole.level,
        whole.keys.tolist(),
        whole.counts.tolist(),
    )
    assert len(whole.keys) <= limit
    assert whole.counts.sum() == sum(map(len, parts))


@settings(max_examples=100, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=200), st.integers(2, 12))
def test_bins_count_exactly_what_lies_between_their_edges(values, number):
    array = np.array(values)
    sketch = Histogram(16)
    sketch.update(array)
    edges, counts = sketch.bins(number, float(array.min()), float(array.max()))
    assert edges == sorted(edges)
    assert len(counts) == len(edges) - 1 <= number
    cuts = Cuts(edges)
    cuts.update(array)
    assert cuts.counts.tolist() == counts
    assert cuts.outside == 0


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_quantiles_are_within_one_percent(offset):
    values = offset + np.random.default_rng(0).gamma(2, 100, 400_000)
    column = profile(pa.table({"x": values}))["columns"]["x"]
    for share, found in column["quantiles"].items():
        wanted = np.quantile(values, float(share)) - offset
        assert found - offset == pytest.approx(wanted, rel=0.01, abs=1)
    assert np.allclose(column["fine"]["counts"], 4000, rtol=0.25)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=60))
def test_hashes_are_the_values(values):
    array = pa.array(values, pa.binary())
    once = hashed(array)
    assert once.tolist() == [int(hashed(pa.array([value], pa.binary()))[0]) for value in values]
    assert len(set(once.tolist())) == len(set(values))
    if len(values) > 2:
        assert hashed(array[1:-1]).tolist() == once[1:-1].tolist()


def test_hashes_never_change():
    words = hashed(pa.array(["", "a", "很好", "x" * 65])).tolist()
    assert [f"{word:016x}" for word in words] == HASHES


HASHES = ["e220a8397b1dcdaf", "0563aed7177c9b4e", "b52e48435f0b8aa3", "c085721fdfc5c936"]


def test_distinct_values_are_estimated_within_a_tenth():
    sketch = Distinct()
    for start in range(0, 200_000, 50_000):
        sketch.update(hashed(pa.array([f"id-{n}" for n in range(start // 2, start // 2 + 50_000)])))
    assert not sketch.exact
    assert sketch.estimate(10**9) == pytest.approx(125_000, rel=0.1)


def test_texts_labels_and_flags():
    data = pa.table(
        {"t": ["a", "bb", None, "很好"], "flag": [True, False, True, None], "blob": [b"x", b"\xff\xd8\xff", None, b""]}
    )
    columns = profile(data)["columns"]
    text = columns["t"]
    assert (text["count"], text["nulls"], text["distinct"], text["distinct_is_exact"]) == (3, 1, 3, True)
    assert text["top"] == {"a": 1, "bb": 1, "很好": 1}
    assert (text["length"]["min"], text["length"]["max"], sum(text["length"]["counts"])) == (1, 2, 3)
    assert columns["flag"]["top"] == {"true": 2, "false": 1}
    blob = columns["blob"]
    assert (blob["kind"], blob["count"], blob["nulls"]) == ("blob", 3, 1)
    assert blob["formats"] == {"empty": 1, "jpeg": 1, "other": 1}
    assert (blob["size"]["min"], blob["size"]["max"]) == (0, 3)


def test_other_kinds():
    data = everything(500)
    columns = profile(data)["columns"]
    assert {name: column["kind"] for name, column in columns.items()} == {
        "number": "number", "whole": "number", "text": "text", "label": "text", "flag": "boolean", "seen": "time",
        "vector": "vector", "bytes": "blob", "tags": "list", "place": "struct", "nothing": "other",
    }  # fmt: skip
    matrix = np.array(data["vector"].to_pylist())
    assert columns["vector"]["mean"] == pytest.approx(matrix.mean(axis=0).tolist())
    assert columns["vector"]["std"] == pytest.approx(matrix.std(axis=0).tolist())
    assert columns["vector"]["norm"]["mean"] == pytest.approx(np.linalg.norm(matrix, axis=1).mean())
    assert columns["seen"]["first"] == min(data["seen"].to_pylist()).isoformat() + "Z"
    assert columns["tags"]["items"]["top"].keys() == {"t0", "t1", "t2"}
    assert columns["place"]["fields"]["lat"]["mean"] == pytest.approx(
        np.mean([p["lat"] for p in data["place"].to_pylist()])
    )
    assert columns["whole"]["counts"] == np.bincount(data["whole"].to_numpy()).tolist()
    assert columns["nothing"]["nulls"] == 500


def test_many_values(tmp_path):
    count = 150_000
    values = np.random.default_rng(0).normal(size=count)
    table = Table.create(tmp_path / "t.lance", pa.table({"x": values, "id": [f"row {n}" for n in range(count)]}))
    stats = profile(table)
    assert json.loads(json.dumps(stats)) == stats
    assert (stats["format"], stats["rows"]) == ("deepseek.statistics/2", count)
    assert stats["columns"]["id"]["top"] is None
    assert stats["columns"]["id"]["distinct"] == pytest.approx(count, rel=0.1)
    assert np.allclose(stats["columns"]["x"]["counts"], count / 10, rtol=0.1)


def test_cuts_leave_no_trace(tmp_path, monkeypatch):
    data = everything(1000)
    table = Table.create(tmp_path / "t.lance", data.slice(0, 300))
    table.append(data.slice(300))
    once = profile(data)["columns"]
    for rows, most in ((64, 1000), (250, 1000), (10, 3), (1 << 20, 1000)):
        monkeypatch.setattr(statistics, "PIECE_ROWS", rows)
        monkeypatch.setattr(statistics, "MOST_PIECES", most)
        assert len(statistics.table_pieces(table, ["flag"])) == min(-(-1000 // rows), most)
        again = profile(table)["columns"]
        assert _rounded(again) == _rounded(once)


def _rounded(stats):
    """Sums of floats in another order differ in their last digits; a table calls a dictionary's type by other names."""
    plain = {name: {**column, "type": ""} for name, column in stats.items()}
    return json.loads(json.dumps(plain), parse_float=lambda text: float(f"{float(text):.9g}"))


def test_engines_agree_exactly(tmp_path, monkeypatch, ray_cluster):
    monkeypatch.setattr(statistics, "PIECE_ROWS", 200)
    data = everything(700)
    table = Table.create(tmp_path / "t.lance", data.slice(0, 300))
    table.append(data.slice(300))
    for source in (table, data):
        wanted = profile(source, engine=LocalEngine(1))
        assert profile(source, engine=LocalEngine(3)) == wanted
        assert profile(source, engine="ray") == wanted


def test_deleted_rows_are_not_counted(tmp_path):
    table = Table.create(tmp_path / "t.lance", pa.table({"x": range(100)}))
    table.delete("x >= 10 AND x < 90")
    column = profile(table)["columns"]["x"]
    assert (column["count"], column["min"], column["max"], column["mean"]) == (20, 0, 99, 49.5)


def test_columns_and_empty_tables():
    empty = pa.table({"t": pa.array([], pa.string()), "n": pa.array([], pa.int64())})
    assert profile(empty)["rows"] == 0
    assert list(profile(empty, ["n"])["columns"]) == ["n"]
    assert profile(empty, [])["columns"] == {}
    with pytest.raises(UnknownNameError, match="Did you mean 'text'"):
        profile(pa.table({"text": ["a"]}), ["txt"])
    for data in (empty, everything(0), everything(1)):
        render_profile(profile(data))
        profile_page(profile(data))


def test_pages_show_every_column_and_escape():
    stats = profile(pa.table({"<b>": ["<script>", "x"], "n": [1.5, 2.5]}))
    page = profile_page(stats, "A & B")
    assert "<title>A &amp; B</title>" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page
    assert page.count('<section class="card">') == 2
    assert "<b>" in render_profile(stats)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=6), min_size=1, max_size=20))
def test_grams_are_runs_of_three_bytes_of_one_text(texts):
    column = profile(pa.table({"t": texts}))["columns"]["t"]
    alone = sum(np.array(profile(pa.table({"t": [text]}))["columns"]["t"]["grams"]) for text in texts)
    assert column["grams"] == alone.tolist()
    assert sum(column["grams"]) == sum(max(len(text.encode()) - 2, 0) for text in texts)

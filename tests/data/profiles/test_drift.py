"""Drift: silent when nothing drifts, loud for shifts of known size, the same in parts, in threads and on a cluster."""

from __future__ import annotations

import json
import pickle
import threading

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data import Table, profile
from deepseek.data.profiles import DriftConfig, DriftMonitor, drift, statistics
from deepseek.errors import ConfigError, DataError, UnknownNameError


def make(count: int, seed: int, shift: float = 0.0) -> pa.Table:
    r = np.random.default_rng(seed)
    vectors = pa.array(r.normal(shift / 2, 1, size=count * 8).astype("float32"))
    return pa.table(
        {
            "x": r.normal(shift, 1, count),
            "skewed": np.exp(r.normal(shift, 1, count)),
            "rating": r.integers(1, 6, count),
            "label": r.choice(["a", "b", "c"], count),
            "city": [f"city {n}" for n in r.zipf(1.5, count) % 500],
            "text": [" ".join(f"w{n}" for n in row) for row in r.integers(0, 400, (count, 5))],
            "flag": r.random(count) < 0.3,
            "vector": pa.FixedSizeListArray.from_arrays(vectors, 8),
        }
    )


def test_no_false_alarms_between_halves_of_one_table():
    """60 comparisons at alpha 0.05: at that rate, more than 9 alarms would have a probability of 0.1%."""
    pool = make(4000, 0)
    strict = DriftConfig(psi=(0, 0.25), distance=(0, 0.2), share=(0, 0.1), deviations=(0, 0.25))
    alarms = 0
    for seed in range(60):
        order = np.random.default_rng(seed).permutation(4000)
        report = drift(pool.take(order[:2000]), pool.take(order[2000:]), config=strict)
        alarms += report.verdict != "stable"
    assert alarms <= 9


@pytest.mark.parametrize(("shift", "verdict"), [(0.1, "stable"), (0.35, "warning"), (0.8, "drift")])
def test_shifts_of_known_size(shift, verdict):
    report = drift(make(20_000, 1), make(5000, 2, shift), ["x", "skewed"])
    assert {column.name: column.verdict for column in report.columns} == {"x": verdict, "skewed": verdict}
    test = next(test for test in report["x"].tests if test.measure == "psi")
    assert test.effect == pytest.approx(shift**2, rel=0.15, abs=0.01)  # of two normal distributions, in many bins


def test_the_rest_of_the_columns_stay_stable_when_one_moves():
    current = make(3000, 4)
    moved = current.set_column(0, "x", pa.array(current["x"].to_numpy() + 1))
    report = drift(make(3000, 3), moved)
    assert report.drifted == ["x"]
    assert {c.verdict for c in report.columns if c.name != "x"} == {"stable"}
    assert "mean" in report["x"].reasons[0]


def test_vectors_whose_mean_or_shape_changes():
    reference = make(5000, 5).select(["vector"])
    assert drift(reference, make(2000, 6, 1.0))["vector"].verdict == "drift"
    wide = pa.FixedSizeListArray.from_arrays(pa.array(np.random.default_rng(7).normal(0, 2, 16_000)), 8)
    report = drift(reference, pa.table({"vector": wide}))
    assert report["vector"].verdict == "drift"
    assert {t.aspect for t in report["vector"].tests if t.verdict == "drift"} >= {"norms"}
    other = pa.table({"vector": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(40)), 4)})
    assert "type changed" in drift(reference, other)["vector"].reasons[0]


def test_nulls_categories_texts_and_schema():
    reference = pa.table(
        {"c": ["a", "b"] * 500, "t": ["good film", "bad film"] * 500, "n": range(1000), "gone": [1] * 1000}
    )
    current = pa.table(
        {
            "c": ["a", "new"] * 300,
            "t": ["请退款给我", "bad film"] * 300,
            "n": pa.array([None] * 200 + [5.0] * 400),
            "more": ["x"] * 600,
        }
    )
    report = drift(reference, current)
    reasons = {column.name: " | ".join(column.reasons) for column in report.columns}
    assert "new 'new', 50.0% of the rows" in reasons["c"]
    assert "missing 'b'" in reasons["c"]
    assert "vocabulary" in reasons["t"]
    assert "nulls 0.0% → 33.3%" in reasons["n"]
    assert reasons["gone"] == "the column is missing"
    assert reasons["more"] == "new column of type string"
    assert report["more"].verdict == "warning"
    assert drift(reference, pa.table({"n": ["x"] * 50}), ["n"])["n"].reasons == (
        "type changed from int64 to string in 50 rows",
    )


def test_columns_that_were_constant():
    vector = pa.FixedSizeListArray.from_arrays
    reference = pa.table({"n": [5] * 50, "f": [0.5] * 50, "v": vector(pa.array([1.0, 2.0] * 50), 2), "t": ["x"] * 50})
    same = drift(reference, reference.slice(0, 30))
    assert same.verdict == "stable"
    current = pa.table({"n": [6] * 50, "f": [0.25] * 50, "v": vector(pa.array([1.0, 3.0] * 50), 2), "t": ["y"] * 50})
    report = drift(reference, current)
    assert report.drifted == ["n", "f", "v", "t"]
    json.dumps(report.to_dict(), allow_nan=False)
    few = drift(pa.table({"n": [1, 2, 4] * 100}), pa.table({"n": [1, 2, 4, 3] * 50}))
    assert "25.0% of them were not among the 3 before" in " ".join(few["n"].reasons)


def test_values_beyond_the_references_range():
    r = np.random.default_rng(0)
    reference, current = r.normal(size=2000), r.normal(size=1000)
    current[:40] = 50
    report = drift(pa.table({"x": reference}), pa.table({"x": current}))
    assert report["x"].verdict == "warning"
    assert "outside [" in report["x"].reasons[0]


def test_many_categories_are_compared_too():
    r = np.random.default_rng(0)
    reference = pa.table({"city": [f"city {n}" for n in r.integers(0, 300, 20_000)]})
    same = pa.table({"city": [f"city {n}" for n in r.integers(0, 300, 5000)]})
    moved = pa.table({"city": [f"city {n}" for n in r.integers(0, 300, 5000) ** 2 // 600]})
    assert profile(reference)["columns"]["city"]["top"] is None
    assert drift(reference, same).verdict == "stable"
    assert "values" in drift(reference, moved)["city"].reasons[0]


def test_times_that_go_on_are_no_drift():
    old = pa.table({"at": pa.array(range(100), pa.timestamp("s"))})
    new = pa.table({"at": pa.array(range(1000, 1100), pa.timestamp("s"))})
    assert drift(old, new).verdict == "stable"


def test_references_of_the_first_format_can_be_read():
    old = {
        "format": "deepseek.statistics/1",
        "rows": 100,
        "columns": {
            "n": {"kind": "number", "type": "int64", "count": 100, "nulls": 0, "nan": 0, "min": 0, "max": 99, "mean": 49.5, "std": 28.8, "edges": [0, 25, 50, 75, 99], "counts": [25] * 4},
            "t": {"kind": "text", "type": "string", "count": 100, "nulls": 0, "length": {"edges": [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000], "counts": [0, 0, 100] + [0] * 14, "min": 2, "max": 4, "mean": 3.0}, "distinct": 2, "distinct_is_exact": True, "top": {"yes": 60, "no": 40}},
            "v": {"kind": "other", "type": "fixed_size_list", "count": 100, "nulls": 0},
        },
    }  # fmt: skip
    same = pa.table(
        {"n": range(100), "t": ["yes", "no"] * 50, "v": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(200)), 2)}
    )
    assert drift(old, same).verdict == "stable"
    far = pa.table({"n": range(90, 190), "t": ["no"] * 100})
    assert drift(old, far).drifted == ["n", "t", "v"]
    DriftMonitor(old).update(far)
    with pytest.raises(DataError, match=r"received 'deepseek\.statistics/9'"):
        drift({"format": "deepseek.statistics/9"}, same)


@pytest.fixture
def strips(tmp_path):
    reference = Table.create(tmp_path / "a.lance", make(900, 1))
    current = Table.create(tmp_path / "b.lance", make(400, 2, 0.5))
    current.append(make(500, 3, 0.5))
    return reference, current


def test_tables_versions_arrow_rows_and_engines_agree(strips, monkeypatch, ray_cluster):
    reference, current = strips
    monkeypatch.setattr(statistics, "PIECE_ROWS", 300)
    names = ["x", "skewed", "rating", "label", "city", "text", "flag"]
    wanted = drift(reference, current, names).to_dict()
    known = profile(reference)
    assert drift(known, current, names).to_dict() == wanted
    assert drift(known, current.to_arrow(), names).to_dict()["verdict"] == wanted["verdict"]
    rows = drift(known, current.rows(names), names).to_dict()
    assert rows["columns"] == wanted["columns"]
    assert drift(known, current, names, engine="ray").to_dict() == wanted
    old = Table.open(current.path, version=1)
    assert drift(current, old, names).verdict == "stable"
    assert json.loads(json.dumps(wanted)) is not None


def test_a_monitor_equals_one_comparison(strips):
    reference, current = strips
    known = profile(reference)
    names = ["x", "label", "text", "flag"]
    monitor = DriftMonitor(known, names)
    assert monitor.report().verdict == "stable"
    rows = list(current.rows(names))
    threads = [
        threading.Thread(target=lambda part: [monitor.update([row]) for row in part], args=(rows[k::4],))
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = drift(known, current, names).to_dict()
    assert monitor.rows == 900
    assert _without_means(monitor.report().to_dict()) == _without_means(wanted)
    other = pickle.loads(pickle.dumps(monitor))
    other.merge(monitor)
    assert other.rows == 1800
    assert monitor.reset().current_rows == 900
    assert (monitor.rows, monitor.report().verdict) == (0, "stable")


def _without_means(report):
    return {
        name: [(t["aspect"], t["effect"], t["p_value"], t["verdict"]) for t in column["tests"]]
        for name, column in report["columns"].items()
    }


def test_a_batch_that_cannot_be_read_counts_for_nothing():
    monitor = DriftMonitor(profile(pa.table({"n": [1, 2, 3]})))
    with pytest.raises(DataError, match="column 'n'"):
        monitor.update([{"n": 1}, {"n": "two"}])
    with pytest.raises(DataError, match="expected a table"):
        monitor.update({"n": 1})
    assert monitor.rows == 0
    monitor.update([{"n": 1}, {"other": {1, 2}}])
    assert monitor.rows == 2


def test_memory_of_a_monitor_does_not_grow():
    monitor = DriftMonitor(profile(make(2000, 0)))
    sizes = []
    for seed in range(6):
        monitor.update(make(3000, seed))
        sizes.append(len(pickle.dumps(monitor)))
    assert max(sizes[1:]) - sizes[1] < 5000


def test_arguments():
    reference = profile(pa.table({"text": ["a"]}))
    with pytest.raises(UnknownNameError, match="Did you mean 'text'"):
        drift(reference, pa.table({"text": ["a"]}), ["txt"])
    with pytest.raises(ConfigError, match="alpha"):
        DriftConfig(alpha=0)
    with pytest.raises(ConfigError, match="psi"):
        DriftConfig(psi=(0.3, 0.1))


def test_reports():
    report = drift(make(500, 0), make(500, 1, 1.0))
    text = report.render()
    assert text.startswith("drift: ")
    assert all(column.name in text for column in report.columns)
    page = report.to_html("Drift of <orders>")
    assert "Drift of &lt;orders&gt;" in page
    assert page.count('<section class="card">') == len(report.columns)
    assert "<script" not in page
    assert "http" not in page
    empty = drift(make(500, 0), make(0, 1))
    assert empty.verdict == "stable"
    empty.render(), empty.to_html()

"""Point-in-time search against the rule written out row by row, and what no change of the data may do."""

import datetime as dt
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data.engines import LocalEngine
from deepseek.data.features import FeatureView
from deepseek.data.features import fragments as fragments_module
from deepseek.data.features import point_in_time as fast
from deepseek.data.features import point_in_time_plain as plain
from deepseek.data.table import Table

ENGINE = LocalEngine(2)
UNITS = ["s", "ms", "us", "ns"]
PER = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
HOUR = 3600 * 10**9
LIMIT = 2**63


def to_count(nanos: int, unit: str) -> int:
    return max(-LIMIT, min(LIMIT - 1, nanos // PER[unit]))


def timestamps(nanos: list[int | None], unit: str, zone: str | None) -> pa.Array:
    counts = [None if each is None else to_count(each, unit) for each in nanos]
    return pa.array(counts, pa.int64()).cast(pa.timestamp(unit, tz=zone))


# times that meet: few values, small steps around them in every unit, and the ends of what the units can count
times = st.one_of(
    st.none(),
    st.builds(
        lambda hour, step, size: hour * HOUR + step * size,
        st.integers(-2, 3),
        st.integers(-2, 2),
        st.sampled_from([1, 1000, 10**6, 10**9]),
    ),
    st.sampled_from([LIMIT - 1, -LIMIT, LIMIT * 10**3, -LIMIT * 10**3, LIMIT * 10**9 - 1, -LIMIT * 10**9]),
)
integers = st.one_of(st.none(), st.integers(0, 3), st.sampled_from([2**62, -(2**62)]))
texts = st.one_of(st.none(), st.sampled_from(["", "a", "b", "雪"]))
ttls = st.one_of(
    st.none(),
    st.sampled_from(
        [dt.timedelta(microseconds=1), dt.timedelta(milliseconds=1), dt.timedelta(hours=1), dt.timedelta.max]
    ),
    st.timedeltas(min_value=dt.timedelta(microseconds=1), max_value=dt.timedelta(hours=4)),
)


@st.composite
def cases(draw):
    """A view, its rows and entity rows."""
    two_keys, late = draw(st.booleans()), draw(st.booleans())
    units = [draw(st.sampled_from(UNITS)) for _ in range(3)]
    zones = [draw(st.sampled_from([None, "UTC", "Asia/Shanghai"])) for _ in range(3)]
    row = st.tuples(integers, texts, times, times)
    rows = draw(st.lists(row, min_size=1, max_size=25))
    asked = draw(st.lists(st.tuples(integers, texts, times), max_size=15))
    kind = draw(st.sampled_from([pa.int64(), pa.uint64(), pa.int32()]))
    fits = {pa.int64(): lambda v: True, pa.uint64(): lambda v: v >= 0, pa.int32(): lambda v: abs(v) < 2**31}[kind]
    features = pa.table(
        {
            "id": pa.array([r[0] if r[0] is not None and fits(r[0]) else None for r in rows], kind),
            "name": pa.array([r[1] for r in rows], pa.string()),
            "event": timestamps([r[2] for r in rows], units[0], zones[0]),
            "created": timestamps([r[3] for r in rows], units[1], zones[1]),
            "value": pa.array(range(len(rows))),
        }
    )
    keys = [pa.array([a[0] for a in asked], pa.int64())]
    if two_keys:
        keys.append(pa.array([a[1] for a in asked], pa.string()))
    at = timestamps([a[2] for a in asked], units[2], zones[2])
    view = FeatureView(
        name="v",
        source="unused",
        entities=("id", "name") if two_keys else ("id",),
        event_time="event",
        created_time="created" if late else None,
        ttl=draw(ttls),
        features=("value",),
    )
    return view, features, keys, at


def table_of(rows: pa.Table, folder: str, parts: int = 1) -> Table:
    """The rows as a table of several fragments, with rows in between that were deleted."""
    ghost = rows.slice(0, 1)
    bounds = np.linspace(0, rows.num_rows, parts + 1).astype(int)
    marked = [
        rows.slice(a, b - a).append_column("ghost", pa.array([False] * (b - a), pa.bool_()))
        for a, b in itertools.pairwise(bounds)
    ]
    table = Table.create(
        Path(folder) / "f.lance", pa.concat_tables([ghost.append_column("ghost", [[True]]), marked[0]])
    )
    for part in marked[1:]:
        table.append(pa.concat_tables([ghost.append_column("ghost", [[True]]), part]))
    table.delete("ghost")
    return table


@settings(max_examples=150, deadline=None)
@given(case=cases(), parts=st.integers(1, 3), piece_rows=st.sampled_from([1, 5, 1000]))
def test_the_fast_search_follows_the_rule(case, parts, piece_rows):
    view, rows, keys, at = case
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fragments_module, "PIECE_ROWS", piece_rows)
        patch.setattr(fast, "_BLOCK", 4)
        table = table_of(rows, folder, parts)
        assert table.to_arrow(["value"])["value"].to_pylist() == list(range(rows.num_rows))
        found = fast.find_rows(view, table, keys, at, ENGINE)
        assert found.tolist() == plain.find_rows(view, table, keys, at).tolist()


@settings(max_examples=80, deadline=None)
@given(case=cases(), data=st.data())
def test_rows_that_are_not_visible_have_no_influence(case, data):
    """Change, remove and add rows that entity row 0 cannot see: its answer stays the same, whatever they hold."""
    view, rows, keys, at = case
    if not len(at):
        return
    keys, at = [key.slice(0, 1) for key in keys], at.slice(0, 1)
    with tempfile.TemporaryDirectory() as folder:
        before = fast.find_rows(view, table_of(rows, folder), keys, at, ENGINE)[0]
    answer = rows["value"][int(before)].as_py() if before >= 0 else None
    hidden = sorted(set(range(rows.num_rows)) - set(plain.visible_rows(view, rows, keys, at)[0]))
    kept = rows.take(
        pa.array(
            [i for i in range(rows.num_rows) if i not in set(data.draw(st.sets(st.sampled_from(hidden or [-1]))))],
            pa.int64(),
        )
    )
    copies = data.draw(st.lists(st.sampled_from(hidden), max_size=4)) if hidden else []
    noise = rows.take(pa.array(copies, pa.int64())).set_column(4, "value", pa.array([-9] * len(copies), pa.int64()))
    changed = pa.concat_tables([noise, kept, noise])
    if not changed.num_rows:
        assert answer is None
        return
    with tempfile.TemporaryDirectory() as folder:
        after = fast.find_rows(view, table_of(changed, folder), keys, at, ENGINE)[0]
    assert (changed["value"][int(after)].as_py() if after >= 0 else None) == answer


@settings(max_examples=40, deadline=None)
@given(case=cases(), data=st.data())
def test_entity_rows_do_not_influence_one_another(case, data):
    view, rows, keys, at = case
    with tempfile.TemporaryDirectory() as folder:
        table = table_of(rows, folder)
        whole = fast.find_rows(view, table, keys, at, ENGINE)
        order = data.draw(st.permutations(range(len(at)))) * 2
        picked = pa.array(order, pa.int64())
        again = fast.find_rows(view, table, [key.take(picked) for key in keys], at.take(picked), ENGINE)
    assert again.tolist() == whole[np.array(order, np.int64)].tolist()


@pytest.mark.parametrize("unit", UNITS)
def test_a_row_of_exactly_the_age_of_the_ttl_is_valid(tmp_path, unit):
    table = Table.create(
        tmp_path / "f.lance", pa.table({"id": [1], "event": timestamps([0], unit, None), "value": [7]})
    )
    view = FeatureView(name="v", source=table.path, entities=["id"], event_time="event", ttl=dt.timedelta(hours=1))
    at = pa.array([HOUR, HOUR + 1, 0, -1], pa.timestamp("ns"))
    found = fast.find_rows(view, table, [pa.array([1, 1, 1, 1])], at, ENGINE)
    assert found.tolist() == [0, -1, 0, -1]


def test_ties_go_to_the_later_created_then_to_the_later_in_the_table(tmp_path):
    rows = pa.table(
        {
            "id": [1, 1, 1, 1],
            "event": timestamps([0, 0, 0, 0], "us", None),
            "created": timestamps([2000, 5000, 5000, 9000], "us", None),
        }
    )
    table = Table.create(tmp_path / "f.lance", rows.append_column("value", [[1, 2, 3, 4]]))
    view = FeatureView(name="v", source=table.path, entities=["id"], event_time="event", created_time="created")
    at = pa.array([1, 2, 5, 8, 9], pa.timestamp("us"))
    assert fast.find_rows(view, table, [pa.array([1] * 5)], at, ENGINE).tolist() == [-1, 0, 2, 2, 3]


def test_a_late_row_is_not_seen_before_it_was_known(tmp_path):
    """A correction of Monday's value that arrives on Wednesday, and a row whose arrival nobody recorded."""
    day = 24 * HOUR
    rows = pa.table(
        {
            "id": [1, 1, 1],
            "event": timestamps([0, 0, day], "us", "UTC"),
            "created": timestamps([0, 2 * day, None], "us", "UTC"),
            "value": [10, 11, 12],
        }
    )
    table = Table.create(tmp_path / "f.lance", rows)
    view = FeatureView(name="v", source=table.path, entities=["id"], event_time="event", created_time="created")
    at = timestamps([day, 2 * day - 1000, 2 * day], "ns", None)
    assert fast.find_rows(view, table, [pa.array([1] * 3)], at, ENGINE).tolist() == [0, 0, 1]


@pytest.mark.parametrize("kind", ["dense", "sparse", "text"])
def test_many_rows_agree_with_pandas(tmp_path, kind):
    """A size at which every block, bucket and piece boundary is crossed."""
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    count, asked, spread = 200_000, 20_000, {"dense": 1, "sparse": 2**40 + 1, "text": 1}[kind]
    frame = pandas.DataFrame(
        {
            "id": random.integers(-2000, 2000, count) * spread,
            "event": pandas.to_datetime(random.permutation(count), unit="s"),
            "value": np.arange(count),
        }
    )
    entity = pandas.DataFrame(
        {
            "id": random.integers(-2100, 2100, asked) * spread,
            "event": pandas.to_datetime(random.integers(0, count, asked), unit="s"),
        }
    )
    if kind == "text":
        frame["id"], entity["id"] = frame["id"].astype(str), entity["id"].astype(str)
    entity = entity.sort_values("event", kind="stable")
    merged = pandas.merge_asof(entity, frame.sort_values("event"), on="event", by="id")
    table = Table.create(tmp_path / "f.lance", pa.Table.from_pandas(frame, preserve_index=False))
    view = FeatureView(name="v", source=table.path, entities=["id"], event_time="event")
    entities = pa.Table.from_pandas(entity, preserve_index=False)
    found = fast.find_rows(view, table, [entities["id"].combine_chunks()], entities["event"].combine_chunks(), ENGINE)
    assert found.tolist() == merged["value"].fillna(-1).astype(int).tolist()

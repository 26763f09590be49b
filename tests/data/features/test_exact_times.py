"""Times at the ends of what their units can count, and keys at the ends of their types."""

import datetime as dt
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.features.keys import KeyNumbers, as_key
from deepseek.data.features.times import EARLIEST, LATEST, PER_SECOND, expired, floor_to
from deepseek.errors import DataError

UNITS = list(PER_SECOND)
ENDS = [EARLIEST, EARLIEST + 1, -(10**9), -1000, -999, -1, 0, 1, 999, 1000, 10**9, LATEST - 1, LATEST]
EDGES = sorted(
    {
        x
        for end in ENDS
        for r in (1, 10**3, 10**6, 10**9)
        for x in (end, end // r - 1, end // r, end // r + 1)
        if EARLIEST <= x <= LATEST
    }
)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("other", UNITS)
def test_rounding_down_changes_no_comparison(unit, other):
    times = np.array(EDGES, np.int64)
    floors, possible = floor_to(times, unit, other)
    for index, time in enumerate(EDGES):
        for count in EDGES:
            before = Fraction(count, PER_SECOND[other]) <= Fraction(time, PER_SECOND[unit])
            assert before == ((possible is None or bool(possible[index])) and count <= floors[index])


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("other", UNITS)
@pytest.mark.parametrize(
    "ttl",
    [
        dt.timedelta(microseconds=1),
        dt.timedelta(milliseconds=1),
        dt.timedelta(days=365, microseconds=7),
        dt.timedelta.max,
    ],
)
def test_ages_are_compared_exactly(unit, other, ttl):
    events, times = (grid.ravel() for grid in np.meshgrid(np.array(EDGES, np.int64), np.array(EDGES, np.int64)))
    age = Fraction(ttl // dt.timedelta(microseconds=1), 10**6)
    scale, limit = 10**9, age * 10**9
    due = [
        event * (scale // PER_SECOND[unit]) + limit < time * (scale // PER_SECOND[other])
        for event, time in zip(events.tolist(), times.tolist(), strict=True)
    ]
    assert expired(events, unit, times, other, ttl).tolist() == due


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        (pa.array([2**32 + 1, 2**62, -1, 7, None]), pa.int32(), [None, None, -1, 7, None]),
        (pa.array([-1, 2**63 - 1]), pa.uint64(), [None, 2**63 - 1]),
        (pa.array([2**64 - 1, 5], pa.uint64()), pa.int64(), [None, 5]),
        (
            pa.array([1.0, float("nan"), None, float("inf"), 1e30, -(2.0**63)]),
            pa.int64(),
            [1, None, None, None, None, -(2**63)],
        ),
        (pa.array(["a", None, "a"]).dictionary_encode(), pa.large_string(), ["a", None, "a"]),
        (pa.array([b"ab", b"abc"]), pa.large_binary(), [b"ab", b"abc"]),
        (pa.array([None, None]), pa.string(), [None, None]),
    ],
)
def test_keys_in_the_type_of_the_view(given, kind, expected):
    keys = as_key(given, kind, "key")
    assert keys.type == kind
    assert keys.to_pylist() == expected


def test_keys_of_another_kind():
    with pytest.raises(DataError, match="expected string as in the view's table, received int64"):
        as_key(pa.array([1]), pa.string(), "key")
    with pytest.raises(DataError, match="with fractions"):
        as_key(pa.array([1.5]), pa.int64(), "key")


@pytest.mark.parametrize("spread", [1, 3**35])  # the odd factor wraps around: keys all over int64
def test_numbers_of_integer_keys(spread):
    random = np.random.default_rng(0)
    keys = [*(random.integers(-5000, 5000, 3000) * spread).tolist(), 2**63 - 1, -(2**63), None]
    numbers = KeyNumbers([pa.array(keys, pa.int64())])
    known = dict(zip(keys, numbers.codes.tolist(), strict=True))
    asked = [*(np.arange(-6000, 6000) * spread).tolist(), 2**63 - 1, -(2**63), 2**63 - 2, None]
    found = numbers.find([pa.array(asked, pa.int64())])
    assert found.tolist() == [known.get(key, -1) for key in asked]
    assert sorted(set(known.values())) == [-1, *range(numbers.size)]

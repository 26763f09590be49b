"""Every engine applies a function to pieces in order, lazily, and lets errors through."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from deepseek.data.engines import ENGINES, Engine, LocalEngine, get_engine
from deepseek.errors import ConfigError, DataError, UnknownNameError


@pytest.fixture(params=["local", "local-1"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return LocalEngine(1) if request.param == "local-1" else LocalEngine(3)


def _square(number: int) -> int:
    if number == 13:
        raise DataError("thirteen")
    return number * number


def test_results_come_in_the_order_of_the_items(engine: Engine) -> None:
    assert list(engine.map(_square, range(10))) == [n * n for n in range(10)]
    assert list(engine.map(_square, [])) == []


def test_items_are_read_lazily(engine: Engine) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count(20):
            taken += 1
            yield number

    results = engine.map(_square, items())
    assert next(results) == 400
    assert taken <= 2 * engine.workers
    results.close()  # type: ignore[attr-defined]


def test_an_error_comes_out_as_it_is(engine: Engine) -> None:
    with pytest.raises(DataError, match="thirteen"):
        list(engine.map(_square, range(20)))


def test_names() -> None:
    assert list(ENGINES) == ["local", "ray"]
    assert get_engine("local").workers >= 1
    with pytest.raises(UnknownNameError, match="local"):
        get_engine("locl")
    with pytest.raises(ConfigError, match="at least 1"):
        LocalEngine(0)

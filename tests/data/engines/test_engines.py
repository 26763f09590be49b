"""The contract of all engines: order, laziness, shared values, typed errors, early ends."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deepseek import progress
from deepseek.data.engines import ENGINES, Engine, LocalEngine, get_engine
from deepseek.errors import ConfigError, DataError, EngineError, UnknownNameError


@pytest.fixture(params=["local-1", "local-3", *(name for name in ENGINES if name != "local")])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    name, _, workers = request.param.partition("-")
    return LocalEngine(int(workers)) if workers else get_engine(name)


def _square(number: int) -> int:
    if number == 13:
        raise DataError("thirteen")
    return number * number


def _fail(name: str) -> None:
    raise UnknownNameError("column", name, ["text", "label"])


class StubbornError(ValueError):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def _raise_stubborn(number: int) -> None:
    raise StubbornError(number, 2)


def _slow_square(number: int) -> int:
    time.sleep(0.3 if number == 0 else 0)
    return number * number


def _pick(index: int, shared: dict[str, np.ndarray]) -> float:
    return float(shared["values"][index])


def _kind(item: object, shared: object) -> str:
    return f"{item}:{shared}"


def _touch(path: str) -> str:
    time.sleep(0.05)
    Path(path).touch(exist_ok=False)
    return path


def test_results_come_in_the_order_of_the_items(engine: Engine) -> None:
    assert list(engine.map(_slow_square, range(10))) == [n * n for n in range(10)]
    assert list(engine.map(_square, [])) == []


def test_items_are_read_lazily(engine: Engine) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count(20):
            taken += 1
            yield number

    results = engine.map(_square, items())
    assert taken == 0
    for done in range(1, 20):
        assert next(results) == (19 + done) ** 2
        assert taken <= 2 * engine.workers + done
    results.close()  # type: ignore[attr-defined]


def test_an_error_comes_out_as_it_is(engine: Engine) -> None:
    with pytest.raises(DataError, match="thirteen"):
        list(engine.map(_square, range(20)))
    with pytest.raises(UnknownNameError, match="Did you mean 'text'") as caught:
        list(engine.map(_fail, ["texd"]))
    assert caught.value.nearest == ["text"]


def test_an_error_that_cannot_travel_is_still_told(engine: Engine) -> None:
    with pytest.raises((StubbornError, EngineError), match="1 and 2"):
        list(engine.map(_raise_stubborn, [1]))


def test_an_error_of_the_items_comes_out_too(engine: Engine) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise DataError("the source ended")

    with pytest.raises(DataError, match="the source ended"):
        list(engine.map(_square, items()))


def test_shared_values(engine: Engine) -> None:
    arrays = {"values": np.arange(100_000, dtype=np.float64)}
    assert list(engine.map(_pick, [3, 99_999], shared=arrays)) == [3, 99_999]
    handle = engine.broadcast(arrays)
    for _ in range(2):
        assert list(engine.map(_pick, range(5), shared=handle)) == [0, 1, 2, 3, 4]
    assert list(engine.map(_kind, ["a"], shared=None)) == ["a:None"]
    with pytest.raises(ConfigError, match="another engine"):
        engine.map(_pick, [1], shared=LocalEngine(2).broadcast(arrays))


def test_closing_early_leaves_the_rest_undone(engine: Engine, tmp_path) -> None:
    results = engine.map(_touch, (str(tmp_path / str(n)) for n in range(1000)))
    next(results)
    results.close()  # type: ignore[attr-defined]
    time.sleep(0.3)
    assert 1 <= len(list(tmp_path.iterdir())) <= 2 * engine.workers + 1


def test_several_threads_may_use_one_engine(engine: Engine) -> None:
    found: dict[int, list[int]] = {}

    def work(start: int) -> None:
        found[start] = list(engine.map(_square, range(start, start + 20)))

    threads = [threading.Thread(target=work, args=(start,)) for start in (20, 40, 60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {start: [n * n for n in range(start, start + 20)] for start in (20, 40, 60)}


def test_progress_counts_pieces(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(progress, "bar", _recorder(seen))
    assert list(engine.map(_square, range(5), description="square")) == [0, 1, 4, 9, 16]
    assert seen == [("square", 5, "pieces"), 1, 1, 1, 1, 1]


def _recorder(seen: list[object]):
    class Bar:
        def __init__(self, *arguments: object) -> None:
            seen.append(arguments)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *error: object) -> None: ...

        def advance(self) -> None:
            seen.append(1)

    return Bar


def test_names() -> None:
    assert list(ENGINES) == ["local", "ray"]
    with get_engine("local") as engine:
        assert engine.workers >= 1
        assert get_engine(engine) is engine
    with pytest.raises(UnknownNameError, match="local"):
        get_engine("locl")
    with pytest.raises(ConfigError, match="at least 1"):
        LocalEngine(0)

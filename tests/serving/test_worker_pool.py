"""What a pool of worker processes does when all is well, or the model itself is to blame."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import uvloop
from pool_serving import do, made, run, serving, until

from deepseek.errors import ConfigError, DataError, DeepSeekError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix sockets and signals")


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_model_in_processes_is_described_and_runs_several_batches_at_once(loop: Any) -> None:
    async def test() -> None:
        pool = made(workers=2)
        async with serving(pool, max_batch_size=1) as batcher:
            assert (pool.model.name, pool.model.version, pool.model.task) == ("obedient", "1", "test")
            assert [field.name for field in pool.model.signature.inputs] == ["do", "v"]
            answers = [batcher.submit(do("sleep 0.2", value)) for value in range(2)]
            await until(lambda: pool.free == 0)
            got = [(await answer)[0] for answer in answers]
            assert [row["v"] for row in got] == [0, 1]
            assert {row["pid"] for row in got} == {worker.pid for worker in pool.statistics}
            assert os.getpid() not in {row["pid"] for row in got}

    run(test, loop)


def test_arrays_cross_both_ways_as_what_they_are() -> None:
    async def test() -> None:
        async with serving(made("worker_models:echo")) as batcher:
            image = np.random.default_rng(0).normal(size=(75_264, 2)).astype(np.float32)
            row = {"x": image, "n": np.int32(3), "flag": True, "tags": ["a", "ü"], "blob": bytes(range(256)) * 1000}
            (got,) = await batcher.submit([row])
            assert got["x"].dtype == np.float32
            assert np.array_equal(got["x"], image)
            assert type(got["n"]) is np.int32
            assert (got["flag"], got["tags"], got["blob"]) == (True, ["a", "ü"], row["blob"])
            assert got["writable"]

    run(test)


@pytest.mark.parametrize(
    ("what", "kind"), [("refuse", DataError), ("fail", ArithmeticError), ("drop", RuntimeError), ("object", TypeError)]
)
def test_a_model_that_breaks_a_promise_fails_only_the_request_concerned(what: str, kind: type[Exception]) -> None:
    async def test() -> None:
        pool = made()
        async with serving(pool) as batcher:
            first = batcher.submit(do("sleep 0.1"))
            answers = [batcher.submit(do(what if value == 1 else "", value)) for value in range(3)]
            got = await asyncio.gather(*answers, return_exceptions=True)
            assert type(got[1]) is kind
            assert (got[0][0]["v"], got[2][0]["v"]) == (0, 2)
            await first
            assert pool.restarts == 0

    run(test)


def test_a_value_that_cannot_reach_a_worker_fails_its_request_only() -> None:
    async def test() -> None:
        async with serving(made()) as batcher:
            first = batcher.submit(do("sleep 0.1"))
            good, bad = batcher.submit(do("", 1)), batcher.submit([{"do": "", "v": {1, 2, 3}.pop, "x": 2**70}])
            with pytest.raises((TypeError, OverflowError)):
                await bad
            assert (await good)[0]["v"] == 1
            await first
            assert (await batcher.submit(do("", 2)))[0]["v"] == 2

    run(test)


def test_a_batch_that_nobody_waits_for_is_cancelled_in_the_model(tmp_path: Path) -> None:
    async def test() -> None:
        pool = made()
        async with serving(pool) as batcher:
            answer = batcher.submit(do(f"until-cancelled {tmp_path / 'runs'}"))
            await until((tmp_path / "runs").exists)
            answer.cancel()
            assert (await batcher.submit(do("", 3)))[0]["v"] == 3
            for _ in range(3):  # and those that are cancelled before they can have begun
                answer = batcher.submit(do(f"until-cancelled {tmp_path / 'perhaps'}"))
                while pool.free:
                    await asyncio.sleep(0)
                answer.cancel()
                assert (await batcher.submit(do("", 4)))[0]["v"] == 4
            assert pool.restarts == 0

    run(test)


def test_a_bundle_answers_from_a_worker_as_it_does_here(bundle: Any) -> None:
    from deepseek.inference import Predictor

    rows = [{"text": text} for text in ("a moving film", "boring from start to finish")]
    wanted = Predictor.load(bundle.path, device="cpu").predict(rows)

    async def test() -> None:
        pool = made("deepseek.inference.predictor:Predictor.load", {"model": str(bundle.path), "device": "cpu"})
        async with serving(pool) as batcher:
            assert pool.model.task == "text-classification"
            got = await batcher.submit(rows)
            assert [row["label"] for row in got] == [row["label"] for row in wanted]
            assert np.allclose([row["scores"] for row in got], [row["scores"] for row in wanted], atol=1e-5)
            with pytest.raises(DataError, match="'text' is empty"):
                await batcher.submit([{"text": ""}])

    run(test)


@pytest.mark.parametrize(
    ("function", "how", "kind", "message"),
    [
        ("worker_models:broken", "raise", DataError, "the weights are not there"),
        ("worker_models:broken", "die", DeepSeekError, "was ended by SIGKILL"),
        ("worker_models:broken", "hang", DeepSeekError, "has not loaded its model within 2 seconds"),
        ("worker_models:broken", "return", ConfigError, "received object, which lacks name, version"),
        ("worker_models:absent", "", ConfigError, "expected an importable loader"),
    ],
)
def test_what_cannot_be_loaded_says_why_and_leaves_nothing(
    function: str, how: str, kind: type[Exception], message: str
) -> None:
    async def test() -> None:
        pool = made(function, {"how": how}, workers=2, load_timeout_seconds=2)
        before = set(psutil.Process().children())
        with pytest.raises(kind, match=message):
            await pool.start()
        assert set(psutil.Process().children()) <= before
        assert not pool.ready

    run(test)


def test_logs_statistics_and_threads_are_the_servers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    async def test() -> None:
        pool = made(workers=2, threads_per_worker=3)
        async with serving(pool, max_batch_size=1) as batcher:
            (got,) = await batcher.submit(do("threads"))
            assert got["v"] == 3
            await batcher.submit(do("log a row"))
            busy = [batcher.submit(do("sleep 0.5")) for _ in range(2)]
            await until(lambda: all(worker.busy_share > 0.5 for worker in pool.statistics))
            await asyncio.gather(*busy)
            assert sum(worker.requests for worker in pool.statistics) == 4
            assert sum(worker.rows for worker in pool.statistics) == 4
            assert all(worker.rss_bytes > 1 << 20 for worker in pool.statistics)

    with caplog.at_level(logging.WARNING):
        run(test)
    assert any(record.name == "worker_models" and "heard a row" in record.getMessage() for record in caplog.records)

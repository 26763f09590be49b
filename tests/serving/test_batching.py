"""The batcher's promises, checked on random traffic and one by one."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.errors import DataError
from deepseek.serving import MicroBatcher
from deepseek.serving.batching import BatchingConfig
from deepseek.serving.errors import NotReadyError, QueueFullError, RequestError


class Recorder:
    """Answers each row with its value; refuses negative ones with ValueError, 666 with a fault."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[int], dict[str, Any]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, rows: Any, parameters: Any) -> list[dict[str, Any]]:
        self.gate.wait(10)
        values = [row["v"] for row in rows]
        self.batches.append((values, dict(parameters)))
        if any(value < 0 for value in values):
            raise ValueError(f"negative: {[value for value in values if value < 0]}")
        if 666 in values:
            raise RuntimeError("fault")
        return [{"v": value, "p": parameters.get("p")} for value in values]


def rows(*values: int) -> list[dict[str, int]]:
    return [{"v": value} for value in values]


request_strategy = st.tuples(
    st.lists(st.integers(-3, 50), min_size=1, max_size=12), st.sampled_from([None, {"p": 1}, {"p": 1.0}, {"p": True}])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(request_strategy, min_size=1, max_size=20), st.integers(1, 5), st.sampled_from([0.0, 1.0]))
def test_order_limit_parameters_and_errors_hold_for_any_traffic(requests: Any, limit: int, delay: float) -> None:
    recorder = Recorder()

    async def run() -> list[Any]:
        batcher = MicroBatcher(recorder, BatchingConfig(max_batch_size=limit, max_batch_delay_ms=delay))
        futures = []
        for at, (values, parameters) in enumerate(requests):
            futures.append(batcher.submit(rows(*values), parameters))
            if at % 3 == 0:
                await asyncio.sleep(0)
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert batcher.queued_rows == 0
        assert not batcher.busy
        await batcher.drain()
        return answers

    answers = asyncio.run(run())
    for (values, parameters), answer in zip(requests, answers, strict=True):
        if any(value < 0 for value in values):
            assert isinstance(answer, ValueError)
        else:
            wanted = (parameters or {}).get("p")
            assert [row["v"] for row in answer] == values
            assert all(type(row["p"]) is type(wanted) and row["p"] == wanted for row in answer)
    assert all(1 <= len(values) <= limit for values, _ in recorder.batches)


def test_a_batch_size_of_one_works_and_a_large_request_is_split_and_rejoined() -> None:
    async def run() -> None:
        recorder = Recorder()
        batcher = MicroBatcher(recorder, BatchingConfig(max_batch_size=1))
        assert [row["v"] for row in await batcher.submit(rows(3, 1, 2))] == [3, 1, 2]
        assert [values for values, _ in recorder.batches] == [[3], [1], [2]]
        await batcher.drain()

    asyncio.run(run())


class Kept(dict[str, int]):
    """A row that tells whether anybody still has it."""


def test_an_idle_batcher_keeps_neither_rows_nor_answers() -> None:
    async def run() -> None:
        watched: list[weakref.ref[Kept]] = []

        def predict(rows: Any, parameters: Any) -> list[Kept]:
            answers = [Kept(row) for row in rows]
            watched.extend(map(weakref.ref, answers))
            return answers

        batcher = MicroBatcher(predict)
        sent = Kept(v=1)
        watched.append(weakref.ref(sent))
        answers = await batcher.submit([sent])
        assert answers == [{"v": 1}]
        del sent, answers
        for _ in range(100):
            if not any(each() for each in watched):
                break
            await asyncio.sleep(0.02)
        gc.collect()
        assert [each() for each in watched] == [None, None]
        await batcher.drain()

    asyncio.run(run())


def test_rows_that_arrive_while_a_batch_runs_go_together() -> None:
    async def run() -> None:
        recorder = Recorder()
        batcher = MicroBatcher(recorder, BatchingConfig(max_batch_size=8))
        recorder.gate.clear()
        first = batcher.submit(rows(0))
        await asyncio.sleep(0.01)
        others = [batcher.submit(rows(value)) for value in range(1, 6)]
        assert batcher.queued_rows == 5
        recorder.gate.set()
        await asyncio.gather(first, *others)
        assert [values for values, _ in recorder.batches] == [[0], [1, 2, 3, 4, 5]]
        await batcher.drain()

    asyncio.run(run())


@pytest.mark.parametrize(("wrong", "kind"), [(-1, ValueError), (666, RuntimeError)])
def test_only_the_guilty_request_gets_its_error(wrong: int, kind: type[Exception]) -> None:
    async def run() -> None:
        batcher = MicroBatcher(Recorder(), BatchingConfig(max_batch_size=8))
        good, guilty, late = (batcher.submit(rows(value)) for value in (1, wrong, 2))
        answers = await asyncio.gather(good, guilty, late, return_exceptions=True)
        assert isinstance(answers[1], kind)
        assert answers[0] == [{"v": 1, "p": None}]
        assert answers[2] == [{"v": 2, "p": None}]
        await batcher.drain()

    asyncio.run(run())


def test_a_full_queue_refuses_at_once_and_has_room_again_after_a_cancellation() -> None:
    async def run() -> None:
        recorder = Recorder()
        batcher = MicroBatcher(recorder, BatchingConfig(max_batch_size=2, max_queue=4), name="m")
        recorder.gate.clear()
        running = batcher.submit(rows(0))
        await asyncio.sleep(0.01)
        waiting = batcher.submit(rows(1, 2, 3))
        with pytest.raises(QueueFullError, match=r"'m' has 3 rows waiting of at most 4, no room for 2") as caught:
            batcher.submit(rows(4, 5))
        assert caught.value.retry_after >= 0
        waiting.cancel()
        await asyncio.sleep(0)
        assert batcher.queued_rows == 0
        last = batcher.submit(rows(6, 7))
        recorder.gate.set()
        assert [row["v"] for row in await last] == [6, 7]
        await running
        assert [values for values, _ in recorder.batches] == [[0], [6, 7]]
        await batcher.drain()

    asyncio.run(run())


def test_an_early_failure_drops_the_rest_of_a_split_request() -> None:
    async def run() -> None:
        recorder = Recorder()
        batcher = MicroBatcher(recorder, BatchingConfig(max_batch_size=1))
        with pytest.raises(ValueError, match="negative"):
            await batcher.submit(rows(-1, 1, 2, 3))
        await batcher.drain()
        assert len(recorder.batches) == 1

    asyncio.run(run())


def test_no_rows_and_more_rows_than_the_queue_are_the_callers_mistake() -> None:
    async def run() -> None:
        batcher = MicroBatcher(Recorder(), BatchingConfig(max_queue=4))
        with pytest.raises(RequestError, match="at least one row"):
            batcher.submit([])
        with pytest.raises(RequestError, match="at most 4 rows in a request, received 5"):
            batcher.submit(rows(*range(5)))
        batcher.close()

    asyncio.run(run())


def test_drain_answers_what_waits_and_refuses_what_comes() -> None:
    async def run() -> None:
        recorder = Recorder()
        batcher = MicroBatcher(recorder, BatchingConfig(max_batch_size=2))
        recorder.gate.clear()
        futures = [batcher.submit(rows(value)) for value in range(5)]
        draining = asyncio.ensure_future(batcher.drain())
        await asyncio.sleep(0.01)
        with pytest.raises(NotReadyError):
            batcher.submit(rows(9))
        recorder.gate.set()
        await draining
        assert [(await future)[0]["v"] for future in futures] == [0, 1, 2, 3, 4]

    asyncio.run(run())


def test_close_fails_what_waits() -> None:
    async def run() -> None:
        recorder = Recorder()
        batcher = MicroBatcher(recorder, BatchingConfig(max_batch_size=1))
        recorder.gate.clear()
        running, waiting = batcher.submit(rows(1)), batcher.submit(rows(2))
        await asyncio.sleep(0.01)
        batcher.close()
        recorder.gate.set()
        with pytest.raises(NotReadyError):
            await waiting
        assert (await running)[0]["v"] == 1

    asyncio.run(run())


@pytest.mark.parametrize("bad", [lambda rows, parameters: [], lambda rows, parameters: next(iter([]))])
def test_a_model_that_breaks_its_contract_is_a_fault_not_a_hang(bad: Any) -> None:
    async def run() -> None:
        batcher = MicroBatcher(bad)
        with pytest.raises(RuntimeError):
            await batcher.submit(rows(1))
        await batcher.drain()

    asyncio.run(run())


def test_an_error_names_the_row_of_the_request_not_of_the_batch() -> None:
    def predict(rows: Any, parameters: Any) -> Any:
        for number, row in enumerate(rows):
            if row["text"].startswith("bad"):
                raise DataError(f"row {number}: expected a good text")
        return [dict(row) for row in rows]

    async def test() -> None:
        batcher = MicroBatcher(predict, BatchingConfig(max_batch_size=4), length=lambda row: len(row["text"]))
        texts = ["a", "b" * 100, "c", "d" * 100, "bad" + "x" * 97]
        with pytest.raises(DataError, match=r"^row 4: expected a good text$"):
            await batcher.submit([{"text": text} for text in texts])
        with pytest.raises(DataError, match=r"^row 6: "):
            await batcher.submit([{"text": text} for text in [*"abcdef", "bad"]])
        await batcher.drain()

    asyncio.run(test())

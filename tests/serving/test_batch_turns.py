"""Which rows go when: by limits, lengths, priorities and deadlines, and what happens to those that nobody waits for."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.serving import MicroBatcher
from deepseek.serving.batching import BatchingConfig, ThreadExecutor, length_of
from deepseek.serving.errors import DeadlineError, NotReadyError, QueueFullError, RequestError
from deepseek.tasks.signature import Field, Signature


class Sizes:
    """Answers after the gate opens, and notes what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.gate = threading.Event()

    def __call__(self, rows: Any, parameters: Any) -> list[dict[str, Any]]:
        assert self.gate.wait(10)
        self.batches.append([row["v"] for row in rows])
        return [{"v": row["v"]} for row in rows]


async def behind_a_batch(batcher: MicroBatcher) -> Any:
    """A row that runs, so that what is submitted next waits and is put in order."""
    first = batcher.submit([{"v": "first"}])
    while batcher.queued_rows:
        await asyncio.sleep(0)
    return first


texts = st.text(alphabet="x", min_size=0, max_size=300)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.lists(texts, min_size=1, max_size=8), st.integers(0, 8)), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(300, 900),
)
def test_any_batch_keeps_its_limits_and_its_bucket_and_any_request_its_order(
    requests: Any, most_rows: int, most_cost: int
) -> None:
    model = Sizes()
    model.gate.set()
    told: list[tuple[int, float, float]] = []

    async def run() -> Any:
        batcher = MicroBatcher(
            model,
            BatchingConfig(max_batch_size=most_rows, max_batch_cost=most_cost),
            length=lambda row: len(row["v"]),
            cost=lambda row: len(row["v"]),
            on_batch=lambda *batch: told.append(batch),
        )
        futures = [
            batcher.submit([{"v": text} for text in request], priority=priority, size_bytes=sum(map(len, request)))
            for request, priority in requests
        ]
        assert batcher.queued_bytes == sum(len(text) for request, _ in requests for text in request)
        answers = await asyncio.gather(*futures)
        assert (batcher.queued_rows, batcher.queued_bytes) == (0, 0)
        await batcher.drain()
        return answers

    answers = asyncio.run(run())
    assert [[row["v"] for row in answer] for answer in answers] == [request for request, _ in requests]
    for batch in model.batches:
        lengths = [len(text) for text in batch]
        assert 1 <= len(batch) <= most_rows
        assert sum(lengths) <= most_cost
        assert max(lengths) <= 32 or max(lengths) < 2 * min(lengths)
    assert [rows for rows, _, _ in told] == [len(batch) for batch in model.batches]
    assert all(waited >= 0 and ran >= 0 for _, waited, ran in told)


def test_a_row_that_no_batch_has_room_for_is_refused() -> None:
    async def run() -> None:
        model = Sizes()
        model.gate.set()
        batcher = MicroBatcher(model, BatchingConfig(max_batch_cost=10), cost=lambda row: row["v"])
        with pytest.raises(RequestError, match=r"cost at most 10 each .* one that costs 11"):
            batcher.submit([{"v": 3}, {"v": 11}])
        assert batcher.queued_rows == 0
        assert (await batcher.submit([{"v": 5}, {"v": 10}]))[1]["v"] == 10
        await batcher.drain()

    asyncio.run(run())


def test_higher_priorities_go_first_and_the_order_within_one_is_kept() -> None:
    async def run() -> None:
        model = Sizes()
        batcher = MicroBatcher(model, BatchingConfig(max_batch_size=1, ageing_seconds=60))
        first = await behind_a_batch(batcher)
        waiting = [
            batcher.submit([{"v": name}], priority=priority)
            for name, priority in [("low", 8), ("a", 4), ("urgent", 0), ("b", 4), ("soon", 1)]
        ]
        model.gate.set()
        await asyncio.gather(first, *waiting)
        assert [batch[0] for batch in model.batches] == ["first", "urgent", "soon", "a", "b", "low"]
        for priority in (-1, 9):
            with pytest.raises(RequestError, match="a priority from 0"):
                batcher.submit([{"v": 1}], priority=priority)
        await batcher.drain()

    asyncio.run(run())


def test_waiting_makes_up_for_priority_so_that_nothing_starves() -> None:
    async def run() -> None:
        model = Sizes()
        model.gate.set()
        batcher = MicroBatcher(model, BatchingConfig(max_batch_size=1, ageing_seconds=0.01))
        low = batcher.submit([{"v": "low"}], priority=8)
        stop = False

        async def flood() -> None:
            while not stop:
                await batcher.submit([{"v": "urgent"}], priority=0)

        floods = [asyncio.ensure_future(flood()) for _ in range(4)]
        await low
        stop = True
        await asyncio.gather(*floods)
        assert ["urgent"] in model.batches
        await batcher.drain()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_no_bucket_of_lengths_starves_either() -> None:
    async def run() -> None:
        model = Sizes()
        model.gate.set()
        batcher = MicroBatcher(model, BatchingConfig(max_batch_size=2), length=lambda row: len(row["v"]))
        stop = False

        async def flood() -> None:
            while not stop:
                await batcher.submit([{"v": "short"}])

        floods = [asyncio.ensure_future(flood()) for _ in range(8)]
        await asyncio.sleep(0.01)
        long = [batcher.submit([{"v": "x" * length}]) for length in (5000, 70, 600)]
        await asyncio.gather(*long)
        stop = True
        await asyncio.gather(*floods)
        await batcher.drain()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_rows_whose_deadline_comes_while_they_wait_never_run() -> None:
    async def run() -> None:
        model = Sizes()
        batcher = MicroBatcher(model, name="m")
        first = await behind_a_batch(batcher)
        now = asyncio.get_running_loop().time()
        late = batcher.submit([{"v": "late"}], deadline=now + 0.02)
        patient = batcher.submit([{"v": "patient"}], deadline=now + 30)
        with pytest.raises(DeadlineError, match="'m' did not answer before the request's deadline"):
            await late
        assert batcher.queued_rows == 1
        with pytest.raises(DeadlineError, match="had passed when the request reached"):
            batcher.submit([{"v": "never"}], deadline=now)
        model.gate.set()
        assert (await patient)[0]["v"] == "patient"
        await first
        assert model.batches == [["first"], ["patient"]]
        await batcher.drain()

    asyncio.run(run())


def test_a_deadline_that_has_passed_when_the_batch_is_put_together_counts_too() -> None:
    async def run() -> None:
        model = Sizes()
        model.gate.set()
        batcher = MicroBatcher(model)
        late = batcher.submit([{"v": "late"}], deadline=asyncio.get_running_loop().time() + 0.1)
        good = batcher.submit([{"v": "good"}])
        time.sleep(0.15)  # the loop is held up, so its timers are late as well
        with pytest.raises(DeadlineError):
            await late
        await good
        assert model.batches == [["good"]]
        await batcher.drain()

    asyncio.run(run())


class Patient:
    """Runs until it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.calls = 0

    def predict(self, rows: Any, parameters: Any) -> Any:
        self.calls += 1
        if rows[0]["v"] == "wait":
            assert self.cancelled.wait(10)
        return [{"v": row["v"]} for row in rows]


def test_a_batch_is_cancelled_in_the_model_when_its_last_client_leaves() -> None:
    async def run() -> None:
        model = Patient()
        batcher = MicroBatcher(ThreadExecutor(model.predict, cancel=model.cancelled.set))
        first = batcher.submit([{"v": "wait"}])
        other = batcher.submit([{"v": 1}])
        while not model.calls:
            await asyncio.sleep(0.001)
        first.cancel()
        assert not model.cancelled.is_set()
        other.cancel()
        assert model.cancelled.is_set()
        assert (await batcher.submit([{"v": 2}]))[0]["v"] == 2
        await batcher.drain()

    asyncio.run(run())


def test_a_running_request_whose_deadline_comes_is_answered_and_cancelled() -> None:
    async def run() -> None:
        model = Patient()
        batcher = MicroBatcher(ThreadExecutor(model.predict, cancel=model.cancelled.set))
        with pytest.raises(DeadlineError):
            await batcher.submit([{"v": "wait"}], deadline=asyncio.get_running_loop().time() + 0.5)
        assert model.cancelled.is_set()
        await batcher.drain()

    asyncio.run(run())


def test_a_call_that_hangs_makes_the_model_unready_until_it_returns() -> None:
    async def run() -> None:
        model = Sizes()
        batcher = MicroBatcher(model, BatchingConfig(timeout_seconds=0.1, max_batch_size=1), name="m")
        hanging = batcher.submit([{"v": 1}])
        waiting = batcher.submit([{"v": 2}])
        with pytest.raises(DeadlineError, match=r"'m' took more than 0\.1 seconds"):
            await hanging
        with pytest.raises(NotReadyError, match=r"worked for more than 0\.1 seconds"):
            await waiting
        assert not batcher.ready
        with pytest.raises(NotReadyError):
            batcher.submit([{"v": 3}])
        model.gate.set()
        while not batcher.ready:
            await asyncio.sleep(0.01)
        assert (await batcher.submit([{"v": 4}]))[0]["v"] == 4
        assert model.batches == [[1], [4]]
        await batcher.drain()

    asyncio.run(run())


def test_bytes_that_wait_are_limited_as_well() -> None:
    async def run() -> None:
        model = Sizes()
        batcher = MicroBatcher(model, BatchingConfig(max_batch_size=2, max_queue_bytes=3000), name="m")
        first = await behind_a_batch(batcher)
        waiting = batcher.submit([{"v": value} for value in range(3)], size_bytes=2000)
        assert batcher.queued_bytes == 2000
        with pytest.raises(QueueFullError, match="'m' has 2000 bytes waiting of at most 3000, no room for 1001"):
            batcher.submit([{"v": 9}], size_bytes=1001)
        with pytest.raises(RequestError, match="at most 3000 bytes in a request, received 3001"):
            batcher.submit([{"v": 9}], size_bytes=3001)
        fits = batcher.submit([{"v": 9}], size_bytes=1000)
        model.gate.set()
        await asyncio.gather(first, waiting, fits)
        assert batcher.queued_bytes == 0
        await batcher.drain()

    asyncio.run(run())


async def turns() -> None:
    """Let the event loop run all that is ready, and what that makes ready."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_what_waits_is_shared_out_among_those_that_are_idle() -> None:
    class Three:
        """An executor of three places, by hand."""

        width = free = 3
        ready, refusal = True, None

        def __init__(self) -> None:
            self.running: list[Any] = []

        def attach(self, finished: Any, changed: Any, timeout_seconds: float | None) -> None:
            self.finished = finished

        def run(self, batch: Any) -> None:
            self.free -= 1
            self.running.append(batch)

        def cancel(self, batch: Any) -> None: ...

        async def stop(self) -> None: ...

        def close(self) -> None: ...

        def finish(self) -> None:
            batch = self.running.pop(0)
            self.free += 1
            self.finished(batch, [list(chunk.rows) for chunk in batch.chunks])

    async def run() -> None:
        executor = Three()
        batcher = MicroBatcher(executor, BatchingConfig(max_batch_size=8, max_batch_delay_ms=0))
        answers = [batcher.submit([{"v": value}]) for value in range(9)]
        await turns()
        assert [batch.rows for batch in executor.running] == [3, 3, 3]
        more = [batcher.submit([{"v": value}]) for value in range(9)]
        executor.finish()
        await turns()
        assert [batch.rows for batch in executor.running] == [3, 3, 8]
        while executor.running:
            executor.finish()
            await turns()
        assert [row[0]["v"] for row in await asyncio.gather(*answers, *more)] == [*range(9), *range(9)]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("field", "rows", "lengths"),
    [
        (Field(name="t", dtype="string"), [{"t": "abc"}, {"t": ""}, {}], [3, 0, 0]),
        (
            Field(name="t", dtype="float32", shape=(2, -1)),
            [{"t": np.zeros((2, 7))}, {"t": [[1, 2], [3, 4]]}, {}],
            [7, 2, 0],
        ),
        (Field(name="t", dtype="string", shape=(-1,)), [{"t": ["a", "b"]}], [2]),
        (Field(name="t", dtype="float32", shape=(3,)), [], None),
    ],
)
def test_a_rows_length_by_its_signature(field: Field, rows: Any, lengths: list[int] | None) -> None:
    length = length_of(Signature(inputs=(Field(name="n", dtype="int64"), field), outputs=()))
    assert (length and [length(row) for row in rows]) == lengths

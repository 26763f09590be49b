"""The Redis store among replicas."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis
from access_helpers import Process, allowed, ask, in_loop, opened, together

from deepseek.serving.access import LimitExceededError
from deepseek.serving.access.clock import DAY_SECONDS
from deepseek.serving.access.redis_store import PREFIX


@in_loop
async def test_replicas_together_take_exactly_the_limit(redis_url: str) -> None:
    async with opened(redis_url) as one, opened(redis_url) as two, opened(redis_url) as three:
        minute = (await one.admin.create("m", plan="three")).key
        rows = (await one.admin.create("r", plan="ten-rows")).key
        controls = (one, two, three)
        for control in controls:
            await control.sync()

        async def admitted(key: str) -> int:
            answers = await asyncio.gather(
                *(ask(control, key) for _ in range(100) for control in controls), return_exceptions=True
            )
            refused = sum(isinstance(answer, LimitExceededError) for answer in answers)
            assert refused + answers.count(None) == 300
            return answers.count(None)

        assert await asyncio.gather(admitted(minute), admitted(rows)) == [3, 10]
        for control in controls:
            await control.sync()
        assert sum(u.refused for u in await one.admin.usage()) == 297 + 290


def test_processes_together_take_exactly_the_limit(redis_url: str) -> None:
    async def make() -> str:
        async with opened(redis_url) as control:
            return (await control.admin.create("k", plan="ten-rows")).key

    key = asyncio.run(make())
    assert together([Process(redis_url, key, 300) for _ in range(3)]) == 5  # of two rows each

    async def usage() -> list[tuple[int, int, int, int]]:
        async with opened(redis_url) as control:
            return [(u.requests, u.inferences, u.input_tokens, u.refused) for u in await control.admin.usage()]

    assert asyncio.run(usage()) == [(5, 10, 5, 895)]


@in_loop
async def test_a_replicas_own_tokens_count_before_its_next_request(redis_url: str) -> None:
    async with opened(redis_url) as one, opened(redis_url) as two:
        key = (await one.admin.create("k", plan="hundred-tokens")).key
        await two.sync()
        await ask(one, key, tokens=(100, 0))
        assert await allowed(one, key, 1) == 0
        assert await allowed(two, key, 1) == 0


@in_loop
async def test_a_request_whose_client_left_takes_nothing(redis_url: str) -> None:
    async with opened(redis_url) as control:
        key = (await control.admin.create("k", plan="three")).key
        tasks = [asyncio.create_task(ask(control, key)) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await allowed(control, key, 9) == 3


@in_loop
async def test_many_requests_need_few_calls(redis_url: str) -> None:
    async with opened(redis_url) as control:
        key = (await control.admin.create("k", plan="three")).key
        with redis.Redis.from_url(redis_url) as client:
            before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
            await asyncio.gather(*(ask(control, key) for _ in range(1000)), return_exceptions=True)
            assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before < 20


@in_loop
async def test_a_clock_of_redis_that_is_set_back_gives_nothing_anew(redis_url: str) -> None:
    async with opened(redis_url) as control:
        issued = await control.admin.create("k", plan="three")
        with redis.Redis.from_url(redis_url) as client:
            future = int(time.time() * 10) + 36_000  # an hour ahead, as if the clock had been there
            client.rpush(f"{PREFIX}:w:{issued.record.id}", f"{future - 5} 1")
            client.set(f"{PREFIX}:n:{issued.record.id}", f"2 {future - 5} {future} 1")
            assert await allowed(control, issued.key, 5) == 1
            with pytest.raises(LimitExceededError) as raised:
                await ask(control, issued.key)
            assert raised.value.retry_after <= 60.2  # and is over in a minute


@in_loop
async def test_the_minute_slides_in_redis(redis_url: str) -> None:
    async with opened(redis_url) as control:
        issued = await control.admin.create("k", plan="three")
        with redis.Redis.from_url(redis_url) as client:
            now = int(time.time() * 10)
            client.rpush(f"{PREFIX}:w:{issued.record.id}", f"{now - 605} 1", f"{now - 604} 1")
            client.set(f"{PREFIX}:n:{issued.record.id}", f"3 {now - 605} {now - 300} 1")
        assert await allowed(control, issued.key, 5) == 2
        with pytest.raises(LimitExceededError) as raised:
            await ask(control, issued.key)
        assert 28 < raised.value.retry_after < 31


@in_loop
async def test_the_minute_in_redis_adds_up_over_its_slots(redis_url: str) -> None:
    async with opened(redis_url) as control:
        issued = await control.admin.create("k", plan="twenty")
        with redis.Redis.from_url(redis_url) as client:
            for pause in (0.0, 0.05, 0.11, 0.0, 0.25, 0.02, 0.31):
                await asyncio.sleep(pause)
                await asyncio.gather(*(ask(control, issued.key) for _ in range(2)))
                total, oldest, newest, count = map(int, client.get(f"{PREFIX}:n:{issued.record.id}").split())
                slots = [tuple(map(int, e.split())) for e in client.lrange(f"{PREFIX}:w:{issued.record.id}", 0, -1)]
                slots.append((newest, count))
                assert slots == sorted(slots)
                assert slots[0][0] == oldest
                assert sum(each for _, each in slots) == total
            assert (total, len(slots)) == (14, len({slot for slot, _ in slots}))
        assert await allowed(control, issued.key, 10) == 6


@in_loop
async def test_counts_in_redis_do_not_stay_for_ever(redis_url: str) -> None:
    async with opened(redis_url, keep_usage_days=30) as control:
        key = (await control.admin.create("k", plan="all")).key
        await ask(control, key, tokens=(1, 1))
        await control.sync()
        with redis.Redis.from_url(redis_url) as client:
            kept = {name.decode().split(":")[2]: client.ttl(name) for name in client.keys(f"{PREFIX}:*")}
    assert {name for name, ttl in kept.items() if ttl < 0} == {"keys", "changed", "seq", "epoch"}
    assert 0 < kept["n"] <= 61
    assert 29 * DAY_SECONDS < kept["u"] <= 30 * DAY_SECONDS

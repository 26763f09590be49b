"""The sliding minute, and days, as invariants."""

from __future__ import annotations

import contextlib

import pytest
from access_helpers import NOON, Hands, allowed, ask, in_loop, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.serving.access import LimitExceededError, Plan
from deepseek.serving.access.clock import DAY_SECONDS
from deepseek.serving.access.limiter import LocalLimiter
from deepseek.serving.access.window import WINDOW_SECONDS, SlidingWindow

PAUSES = st.one_of(st.just(0.0), st.floats(0, 0.3), st.floats(0, 30), st.floats(59, 61), st.sampled_from([0.1, 60.0]))


@given(limit=st.integers(1, 12), start=st.floats(0, 1e6), pauses=st.lists(PAUSES, max_size=120))
@settings(max_examples=300, deadline=None)
def test_never_more_than_the_limit_within_any_minute(limit: int, start: float, pauses: list[float]) -> None:
    window, now, taken = SlidingWindow(limit), start, []
    for pause in pauses:
        now += pause
        if not window.take(now):
            taken.append(now)
            assert sum(then > now - WINDOW_SECONDS for then in taken) <= limit


@given(limit=st.integers(1, 50), start=st.floats(0, 1e6), pauses=st.lists(PAUSES, max_size=60))
@settings(max_examples=200, deadline=None)
def test_what_is_promised_is_kept(limit: int, start: float, pauses: list[float]) -> None:
    window, now = SlidingWindow(limit), start
    for pause in pauses:
        now += pause
        wait = window.take(now)
        assert 0 <= wait <= WINDOW_SECONDS + 0.1001
        if wait:
            now += wait + 1e-6
            assert window.take(now) == 0.0
    now += WINDOW_SECONDS + 0.2  # after a rest, exactly the limit
    assert [bool(window.take(now)) for _ in range(limit + 3)] == [False] * limit + [True] * 3


def test_a_burst_at_the_minutes_edge_is_one_burst() -> None:
    window = SlidingWindow(60)
    assert sum(not window.take(59.9) for _ in range(100)) == 60
    assert sum(not window.take(60.1) for _ in range(100)) == 0
    assert sum(not window.take(119.8) for _ in range(100)) == 0
    assert sum(not window.take(120.0) for _ in range(100)) == 60


def test_memory_does_not_grow_with_the_limit() -> None:
    window = SlidingWindow(10**9)
    for tick in range(200_000):
        window.take(tick / 1000)
    assert len(window._slots) <= 602
    assert window.used == pytest.approx(60_000, abs=100)


@given(
    rows=st.lists(st.integers(1, 8), min_size=1, max_size=60),
    jumps=st.lists(st.sampled_from([0, 0, 0, 3600, DAY_SECONDS, -3600, -DAY_SECONDS, -2 * DAY_SECONDS]), min_size=60),
)
@settings(max_examples=200, deadline=None)
def test_a_wall_clock_that_jumps_gives_no_day_twice(rows: list[int], jumps: list[int]) -> None:
    hands = Hands()
    limiter = LocalLimiter(hands.clock)
    account = limiter.account("k")
    account.follow("ten", Plan(inferences_per_day=10))
    used: dict[int, int] = {}
    for wanted, jump in zip(rows, jumps, strict=False):
        hands.wall += jump
        day = int(hands.wall // DAY_SECONDS)
        if abs(day - int(NOON // DAY_SECONDS)) > 1:  # further back than the days that are kept without a store
            hands.wall -= jump
            continue
        with contextlib.suppress(LimitExceededError):
            limiter.admit(account, wanted)
            used[day] = used.get(day, 0) + wanted
        assert used.get(day, 0) <= 10


@in_loop
async def test_the_minute_slides(sqlite_url: str) -> None:
    hands = Hands()
    async with opened(sqlite_url, hands.clock) as control:
        key = (await control.admin.create("k", plan="three")).key
        await ask(control, key)
        hands.pass_(30)
        assert await allowed(control, key, 5) == 2
        with pytest.raises(LimitExceededError) as raised:
            await ask(control, key)
        assert raised.value.retry_after == pytest.approx(30.1, abs=0.01)
        hands.pass_(raised.value.retry_after)
        assert await allowed(control, key, 5) == 1
        hands.wall -= 10 * DAY_SECONDS  # the minute does not follow the wall clock
        assert await allowed(control, key, 5) == 0


@in_loop
async def test_a_new_day_begins_at_midnight_utc_and_only_once(sqlite_url: str) -> None:
    hands = Hands(NOON + DAY_SECONDS / 2 - 1)
    async with opened(sqlite_url, hands.clock) as control:
        key = (await control.admin.create("k", plan="ten-rows")).key
        assert await allowed(control, key, 15) == 10
        with pytest.raises(LimitExceededError) as raised:
            await ask(control, key)
        assert raised.value.retry_after == pytest.approx(1)
        hands.pass_(1)
        assert await allowed(control, key, 6) == 6
        hands.wall -= 3600  # the day before again
        assert await allowed(control, key, 6) == 0
        hands.wall += 3600
        assert await allowed(control, key, 15) == 4
        await control.sync()
    hands.wall -= 3600
    async with opened(sqlite_url, hands.clock) as control:  # nor after a restart
        assert await allowed(control, key, 6) == 0


@in_loop
async def test_a_clock_far_ahead_for_a_moment_deletes_no_usage(sqlite_url: str) -> None:
    hands = Hands()
    async with opened(sqlite_url, hands.clock, keep_usage_days=30) as control:
        key = (await control.admin.create("k", plan="unlimited")).key
        await ask(control, key)
        await control.sync()
        hands.wall += 3650 * DAY_SECONDS
        await ask(control, key)
        await control.sync()
        hands.wall -= 3650 * DAY_SECONDS
        assert [u.requests for u in await control.admin.usage()] == [1]
        for _ in range(40):
            hands.pass_(DAY_SECONDS)
            await ask(control, key)
            await control.sync()
        kept = await control.admin.usage(None, None)
        assert 28 <= len(kept) <= 31

"""Limits decided in Redis: everything that waits in one call, one call at a time.

Requests that arrive in one turn of the event loop, and those that arrive while a call is on its way, wait together
and are decided together, in the order in which they came. So the number of calls follows the round trip time, not the
number of requests, and a replica's own charges are always known before its next decision.

Redis gone: a call that fails ends the waiting of its requests, and until the store answers again (it is asked twice a
second), none waits. ``fail_open`` decides whether they are refused with ``NotReadyError`` or let through uncounted;
usage is kept in memory in both cases.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from deepseek.serving.access.account import Account
from deepseek.serving.access.ledger import Ledger, UsageRow
from deepseek.serving.access.redis_script import MOST_REQUESTS, MOST_USAGE
from deepseek.serving.access.refusals import (
    LimitExceededError,
    too_many_inferences,
    too_many_requests,
    too_many_tokens,
)
from deepseek.serving.access.store import AccessStoreError, Outage
from deepseek.serving.errors import NotReadyError

_MOST_WAITING = 65_536
_ADMITTED, _MINUTE, _ROWS = 0, 1, 2


class _Asked(NamedTuple):
    account: Account
    rows: int
    answer: asyncio.Future[None]


class _Decision(msgspec.Struct, array_like=True):
    """Redis' answer for the requests of one key."""

    outcomes: list[int]
    wait_ms: float
    requests: int
    rows: int
    tokens: int


class _Answer(msgspec.Struct, array_like=True):
    day_ends_ms: float
    decisions: list[_Decision]


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(_Answer)


def _read(answer: bytes) -> _Answer:
    try:
        return _decoder.decode(answer)
    except msgspec.MsgspecError as error:
        raise AccessStoreError(f"Redis gave an answer that makes no sense: {error}") from error


class RedisLimiter:
    """Decides over ``call``, which runs the script on its argument and raises :class:`AccessStoreError`."""

    def __init__(
        self,
        call: Callable[[bytes], Awaitable[bytes]],
        ledger: Ledger,
        outage: Outage,
        *,
        fail_open: bool,
        keep_usage_seconds: int,
    ) -> None:
        self._call, self._ledger, self._outage = call, ledger, outage
        self._fail_open, self._keep = fail_open, keep_usage_seconds
        self._replica = secrets.token_hex(8)
        self._accounts: dict[str, Account] = {}
        self._waiting: list[_Asked] = []
        self._running: asyncio.Task[None] | None = None
        self._one_call = asyncio.Lock()
        self._tokens_wait = False
        self._number = 0
        self._unconfirmed: list[UsageRow] = []
        """Usage that was sent, or is to be sent, under ``_number``."""

    def account(self, key_id: str) -> Account:
        """The account of a key; the same one each time."""
        found = self._accounts.get(key_id)
        if found is None:
            found = self._accounts[key_id] = Account(key_id)
        return found

    def admit(self, account: Account, rows: int) -> Awaitable[None] | None:
        """See :meth:`AccessStore.admit`."""
        if self._outage.lasting:
            if self._fail_open:
                return None
            raise _unavailable()
        if len(self._waiting) >= _MOST_WAITING:
            raise _unavailable()
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self._waiting.append(_Asked(account, rows, answer))
        if self._running is None:
            self._running = loop.create_task(self._decide())
        return answer

    def spend(self, account: Account, tokens: int) -> None:
        """See :meth:`AccessStore.spend`; the tokens travel with the next decision."""
        if account.plan.tokens_per_day is not None:
            self._tokens_wait = True

    async def store(self) -> None:
        """Store all usage that waits; raises :class:`AccessStoreError`."""
        while True:
            async with self._one_call:
                self._collect()
                if not self._unconfirmed:
                    return
                await self._send([])

    async def settle(self) -> None:
        """Wait for the decisions under way."""
        if self._running is not None:
            await self._running

    async def _decide(self) -> None:
        try:
            while self._waiting:
                asked = [each for each in self._waiting[:MOST_REQUESTS] if not each.answer.done()]
                del self._waiting[:MOST_REQUESTS]
                try:
                    async with self._one_call:
                        if self._tokens_wait:
                            self._collect()
                        await self._send(asked)
                finally:
                    self._abandon(asked)
        except AccessStoreError as error:
            self._outage.fails(error)
        finally:
            self._running = None
            self._abandon(self._waiting)
            self._waiting.clear()

    def _collect(self) -> None:
        """Number the usage that waits, unless the call before is still unconfirmed."""
        if not self._unconfirmed:
            rows = self._ledger.take()
            self._ledger.put_back(rows[MOST_USAGE:])
            self._unconfirmed = rows[:MOST_USAGE]
            self._number += 1
            self._tokens_wait = len(rows) > MOST_USAGE

    async def _send(self, asked: list[_Asked]) -> None:
        groups: dict[str, list[_Asked]] = {}
        for each in asked:
            groups.setdefault(each.account.key_id, []).append(each)
        message = [self._replica, self._number, self._unconfirmed, self._keep, list(map(_group, groups.values()))]
        answer = _read(await self._call(_encode(message)))
        self._unconfirmed = []
        for group, decision in zip(groups.values(), answer.decisions, strict=True):
            for each, outcome in zip(group, decision.outcomes, strict=True):
                if each.answer.done():  # its client left meanwhile
                    continue
                if outcome == _ADMITTED:
                    each.answer.set_result(None)
                else:
                    each.answer.set_exception(_refusal(each, outcome, decision, answer.day_ends_ms / 1000))

    def _abandon(self, asked: list[_Asked]) -> None:
        """End the waiting of whoever got no decision."""
        for each in asked:
            if not each.answer.done():
                if self._fail_open:
                    each.answer.set_result(None)
                else:
                    each.answer.set_exception(_unavailable())


def _group(asked: list[_Asked]) -> list[Any]:
    account = asked[0].account
    plan = account.plan
    limits = (plan.requests_per_minute, plan.inferences_per_day, plan.tokens_per_day)
    return [account.key_id, *(-1 if most is None else most for most in limits), [each.rows for each in asked]]


def _refusal(asked: _Asked, outcome: int, decision: _Decision, day_ends: float) -> LimitExceededError:
    name, plan = asked.account.plan_name, asked.account.plan
    if outcome == _MINUTE:
        return too_many_requests(name, plan, decision.requests, decision.wait_ms / 1000)
    if outcome == _ROWS:
        return too_many_inferences(name, plan, decision.rows, asked.rows, day_ends)
    return too_many_tokens(name, plan, decision.tokens, day_ends)


def _unavailable() -> NotReadyError:
    return NotReadyError("the limits of this key cannot be checked at the moment, as their store does not answer")

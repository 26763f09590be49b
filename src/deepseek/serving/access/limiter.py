"""Limits decided in this process, in well under a microsecond, without waiting.

Each key has an account: a sliding minute, and totals by UTC day. A day's totals are what the store knew last plus what
was taken here since; :mod:`deepseek.serving.access.sqlite_store` brings the two together twice a second. Totals are
kept by day, so a wall clock that is set back finds the old day's totals as they were.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from deepseek.serving.access.account import Account
from deepseek.serving.access.clock import DAY_SECONDS, Clock, day_number
from deepseek.serving.access.refusals import too_many_inferences, too_many_requests, too_many_tokens


class Taken(NamedTuple):
    """What a key took of its limits since the last time that this was stored."""

    key_id: str
    requests: int
    """Requests within the minute."""
    days: list[tuple[int, int, int]]
    """(day, rows, tokens)."""


class LocalLimiter:
    """The accounts of all keys; used on the event loop only."""

    def __init__(self, clock: Clock) -> None:
        self._wall, self._monotonic = clock.wall, clock.monotonic
        self._accounts: dict[str, Account] = {}
        self._marked: list[Account] = []
        self._day, self._from, self._to = -1, math.inf, -math.inf

    def account(self, key_id: str) -> Account:
        """The account of a key; the same one each time."""
        found = self._accounts.get(key_id)
        if found is None:
            found = self._accounts[key_id] = Account(key_id)
        return found

    def admit(self, account: Account, rows: int) -> None:
        """Take a request of ``rows`` inferences, or nothing; raises :class:`LimitExceededError`."""
        wall = self._wall()
        if not self._from <= wall < self._to:
            self._turn(wall)
        if account.day != self._day:
            account.turn(self._day)
        today, plan = account.today, account.plan
        most = plan.inferences_per_day
        if most is not None and today.rows + rows > most:
            raise too_many_inferences(account.plan_name, plan, today.rows, rows, self._to - wall)
        most = plan.tokens_per_day
        if most is not None and today.tokens >= most:
            raise too_many_tokens(account.plan_name, plan, today.tokens, self._to - wall)
        if plan.requests_per_minute is not None:
            wait = account.window.take(self._monotonic())
            if wait:
                raise too_many_requests(account.plan_name, plan, account.window.used, wait)
            account.new_requests += 1
        today.rows += rows
        today.new_rows += rows
        if not account.marked:
            self._mark(account)

    def spend(self, account: Account, tokens: int) -> None:
        """Count the tokens of an answer on the account's day."""
        today = account.today
        today.tokens += tokens
        today.new_tokens += tokens
        if not account.marked:
            self._mark(account)

    def _mark(self, account: Account) -> None:
        account.marked = True
        self._marked.append(account)

    def _turn(self, wall: float) -> None:
        self._day = day_number(wall)
        self._from = float(self._day * DAY_SECONDS)
        self._to = self._from + DAY_SECONDS

    def take(self) -> list[Taken]:
        """What was taken since the last time, to be stored."""
        found = []
        for account in self._marked:
            days = [(day, t.new_rows, t.new_tokens) for day, t in account.days.items() if t.new_rows or t.new_tokens]
            for day, _, _ in days:
                totals = account.days[day]
                totals.new_rows = totals.new_tokens = 0
            found.append(Taken(account.key_id, account.new_requests, days))
            account.new_requests = 0
            account.marked = False
        self._marked.clear()
        return found

    def put_back(self, taken: Iterable[Taken]) -> None:
        """Keep what could not be stored, for the next time."""
        for key_id, requests, days in taken:
            account = self.account(key_id)
            account.new_requests += requests
            for day, rows, tokens in days:
                totals = account.on(day)
                totals.new_rows += rows
                totals.new_tokens += tokens
            if not account.marked:
                self._mark(account)

    def learn(self, day: int, key_id: str, rows: int, tokens: int) -> None:
        """Take over a day's totals as they are stored; what is not stored yet comes on top."""
        totals = self.account(key_id).on(day)
        totals.rows = rows + totals.new_rows
        totals.tokens = tokens + totals.new_tokens

    def learn_requests(self, key_id: str, requests: int) -> None:
        """Count requests that other processes let through in the last moments."""
        self.account(key_id).window.add(self._monotonic(), requests)

"""What one key has taken of its plan's limits, in this process."""

from __future__ import annotations

from deepseek.serving.access.plans import Plan
from deepseek.serving.access.window import SlidingWindow

_DAYS_KEPT = 4


class Day:
    """Totals of one key on one day: as far as known, and the part that is not stored yet."""

    __slots__ = ("new_rows", "new_tokens", "rows", "tokens")

    def __init__(self) -> None:
        self.rows = self.tokens = self.new_rows = self.new_tokens = 0


class Account:
    """What one key has taken of its plan's limits; a store that decides elsewhere uses only its plan."""

    __slots__ = ("day", "days", "key_id", "marked", "new_requests", "plan", "plan_name", "today", "window")

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        self.plan_name, self.plan = "", Plan()
        self.window = SlidingWindow(1)
        self.new_requests = 0
        self.day = -1
        self.days: dict[int, Day] = {}
        self.today = Day()
        self.marked = False

    def follow(self, name: str, plan: Plan) -> None:
        """Take the limits from a plan; what was taken stays."""
        self.plan_name, self.plan = name, plan
        self.window.limit = plan.requests_per_minute or 1

    def turn(self, day: int) -> None:
        """Count on ``day`` from now on."""
        self.today = self.on(day)
        self.day = day

    def on(self, day: int) -> Day:
        """The totals of a day; the oldest days that have been stored are forgotten."""
        found = self.days.get(day)
        if found is None:
            for old in sorted(self.days)[: 1 - _DAYS_KEPT]:
                if old != self.day and not self.days[old].new_rows and not self.days[old].new_tokens:
                    del self.days[old]
            found = self.days[day] = Day()
        return found

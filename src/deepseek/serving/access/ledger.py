"""Usage that is not stored yet: counts by day, key and model, in memory.

A request adds to one object; nothing is allocated for it. Whoever stores the counts takes them all, and puts back what
could not be stored. What waits is bounded by the number of keys and models, not by requests or by how long a store is
away.
"""

from __future__ import annotations

from typing import NamedTuple


class UsageRow(NamedTuple):
    """Usage of one key and model on one UTC day (days since 1970-01-01)."""

    day: int
    key_id: str
    model: str
    requests: int
    """Answered ones."""
    rows: int
    """Inferences of the answered requests."""
    input_tokens: int
    output_tokens: int
    refused: int
    """Requests beyond a limit."""


class Use:
    """What a key has used of a model since the last :meth:`Ledger.take`."""

    __slots__ = ("input_tokens", "key_id", "marked", "model", "output_tokens", "refused", "requests", "rows")

    def __init__(self, key_id: str, model: str) -> None:
        self.key_id, self.model = key_id, model
        self.requests = self.rows = self.input_tokens = self.output_tokens = self.refused = 0
        self.marked = False
        """Whether the ledger knows that there is something to store."""


class Ledger:
    """All that is not stored yet, of the current ``day`` and of days before it."""

    def __init__(self, day: int) -> None:
        self.day = day
        self._uses: dict[tuple[str, str], Use] = {}
        self._marked: list[Use] = []
        self._kept: dict[tuple[int, str, str], UsageRow] = {}

    def use(self, key_id: str, model: str) -> Use:
        """The counts of a key and model; call :meth:`mark` after changing one that is not marked."""
        found = self._uses.get((key_id, model))
        if found is None:
            found = self._uses[key_id, model] = Use(key_id, model)
        return found

    def mark(self, use: Use) -> None:
        """Note that there is something to store."""
        use.marked = True
        self._marked.append(use)

    def turn(self, day: int) -> None:
        """Begin another day; what was counted belongs to the one before."""
        self.put_back(self._drain())
        self.day = day

    def take(self) -> list[UsageRow]:
        """Everything that waits; it is the caller's now."""
        if self._kept:
            self.put_back(self._drain())
            rows = list(self._kept.values())
            self._kept.clear()
            return rows
        return self._drain()

    def put_back(self, rows: list[UsageRow]) -> None:
        """Keep what could not be stored."""
        for row in rows:
            name = row[:3]
            before = self._kept.get(name)
            self._kept[name] = (
                UsageRow(*name, *(a + b for a, b in zip(before[3:], row[3:], strict=True))) if before else row
            )

    def _drain(self) -> list[UsageRow]:
        day, rows = self.day, []
        for use in self._marked:
            rows.append(
                UsageRow(
                    day,
                    use.key_id,
                    use.model,
                    use.requests,
                    use.rows,
                    use.input_tokens,
                    use.output_tokens,
                    use.refused,
                )
            )
            use.requests = use.rows = use.input_tokens = use.output_tokens = use.refused = 0
            use.marked = False
        self._marked.clear()
        return rows

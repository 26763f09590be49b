"""Operations on keys, plans and usage: what ``deepseek keys`` and the admin port do."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.serving.access.clock import Clock, date_of, number_of
from deepseek.serving.access.config import AccessConfig
from deepseek.serving.access.credentials import digest, join, new_id, new_secret
from deepseek.serving.access.keys import KeyRecord, Secret
from deepseek.serving.access.plans import Plan
from deepseek.serving.access.store import AccessStore

DEFAULT_OVERLAP = dt.timedelta(hours=24)
_LONGEST_TEXT = 200
_MOST_PATTERNS = 100
_MOST_DAYS = 3700
_COLUMNS = (
    "day", "key_id", "key_name", "model", "requests", "inferences", "input_tokens", "output_tokens", "refused",
)  # fmt: skip


@dataclass(frozen=True)
class IssuedKey:
    """A new key, or one with a new secret: the only moment at which ``key`` is known."""

    key: str = field(repr=False)
    record: KeyRecord


@dataclass(frozen=True)
class Usage:
    """What a key used of a model on a UTC day."""

    day: dt.date
    key_id: str
    key_name: str
    """Empty for a key that is not in the store."""
    model: str
    requests: int
    """Answered ones."""
    inferences: int
    input_tokens: int
    output_tokens: int
    refused: int
    """Requests beyond a limit."""


class AccessAdmin:
    """Operations over an open store; ``changed`` is told each record that was made or changed."""

    def __init__(
        self,
        store: AccessStore,
        config: AccessConfig,
        clock: Clock | None = None,
        changed: Callable[[KeyRecord], None] = lambda record: None,
    ) -> None:
        self._store, self._config, self._changed = store, config, changed
        self._wall = (clock or Clock()).wall

    @property
    def now(self) -> float:
        """Unix time in seconds."""
        return self._wall()

    def plans(self) -> Mapping[str, Plan]:
        """All plans by name."""
        return self._config.all_plans

    async def create(
        self,
        name: str,
        *,
        plan: str | None = None,
        models: Sequence[str] = ("*",),
        owner: str = "",
        note: str = "",
        lifetime: dt.timedelta | None = None,
    ) -> IssuedKey:
        """Make a key.

        Args:
            name: for people; it need not be unique.
            plan: a plan's name; the configuration's default if not given.
            models: patterns of the models that the key covers, as in the shell.
            lifetime: after which the key expires; never by default.

        Raises:
            ConfigError: an argument is empty or too long, or a time is not in the future.
            UnknownNameError: there is no such plan.
        """
        plan = self._config.default_plan if plan is None else plan
        if plan not in self.plans():
            raise UnknownNameError("plan", plan, self.plans())
        patterns = tuple(dict.fromkeys(models))
        if not 1 <= len(patterns) <= _MOST_PATTERNS:
            raise ConfigError(f"expected 1 to {_MOST_PATTERNS} patterns of models, received {len(patterns)}")
        for what, text in (("name", name), *(("pattern of models", pattern) for pattern in patterns)):
            if not text.strip():
                raise ConfigError(f"expected a {what}, received an empty one")
        for what, text in (("name", name), ("owner", owner), ("note", note), *(("pattern", p) for p in patterns)):
            if len(text) > _LONGEST_TEXT or not text.isprintable():
                raise ConfigError(f"expected a {what} of at most {_LONGEST_TEXT} printable characters")
        if lifetime is not None and lifetime <= dt.timedelta(0):
            raise ConfigError(f"expected a lifetime above zero, received {lifetime}")
        now, secret = self._wall(), new_secret()
        record = KeyRecord(
            id=new_id(),
            name=name,
            plan=plan,
            models=patterns,
            owner=owner,
            note=note,
            created_at=now,
            expires_at=None if lifetime is None else now + lifetime.total_seconds(),
            secrets=(Secret(digest(secret)),),
        )
        await self._store.add(record)
        self._changed(record)
        return IssuedKey(join(record.id, secret), record)

    async def keys(self) -> list[KeyRecord]:
        """All keys, oldest first, those that have ended as well."""
        return await self._store.keys()

    async def revoke(self, key: str) -> KeyRecord:
        """End a key, given by id or name; one that was revoked stays so. Raises :class:`UnknownNameError`."""
        now = self._wall()

        def end(record: KeyRecord) -> KeyRecord:
            return record if record.revoked_at is not None else msgspec.structs.replace(record, revoked_at=now)

        return await self._change(key, end)

    async def rotate(self, key: str, overlap: dt.timedelta = DEFAULT_OVERLAP) -> IssuedKey:
        """Give a key, by id or name, a new secret; the current one works for ``overlap`` more.

        Id, plan, usage and what was taken of its limits stay. Raises :class:`UnknownNameError`, and
        :class:`ConfigError` for a key that has ended.
        """
        if overlap < dt.timedelta(0):
            raise ConfigError(f"expected an overlap of zero or more, received {overlap}")
        now, secret = self._wall(), new_secret()

        def replace(record: KeyRecord) -> KeyRecord:
            if record.state(now) != "active":
                raise ConfigError(f"key {record.id} ({record.name}) is {record.state(now)}; create a new one")
            return record.rotated(secret, overlap.total_seconds(), now)

        record = await self._change(key, replace)
        return IssuedKey(join(record.id, secret), record)

    async def usage(
        self, first: dt.date | None = None, last: dt.date | None = None, *, key: str = "", model: str = ""
    ) -> list[Usage]:
        """Usage by day, key and model, from ``first`` to ``last`` (today, and 30 days before, by default).

        Raises :class:`ConfigError` for days in the wrong order or more than ten years, :class:`UnknownNameError` for
        a key (id or name) that is not known.
        """
        last = last or dt.datetime.fromtimestamp(self._wall(), dt.UTC).date()
        first = first or last - dt.timedelta(days=30)
        if not 0 <= (last - first).days <= _MOST_DAYS:
            raise ConfigError(f"expected a first day before the last, within ten years, received {first} and {last}")
        records = await self._store.keys()
        wanted = _find(records, key).id if key else ""
        names = {record.id: record.name for record in records}
        return [
            Usage(date_of(row.day), row.key_id, names.get(row.key_id, ""), *row[2:])
            for row in await self._store.usage(number_of(first), number_of(last))
            if (not wanted or row.key_id == wanted) and (not model or row.model == model)
        ]

    async def _change(self, key: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        found = _find(await self._store.keys(), key)
        record = await self._store.change(found.id, change)
        self._changed(record)
        return record


def usage_csv(rows: Iterable[Usage]) -> str:
    """Usage as CSV (RFC 4180) with a header line."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([_cell(getattr(row, column)) for column in _COLUMNS])
    return out.getvalue()


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe (OWASP, CSV Injection)."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


def _find(records: Sequence[KeyRecord], key: str) -> KeyRecord:
    for record in records:
        if record.id == key:
            return record
    named = [record for record in records if record.name == key]
    if len(named) > 1:
        living = [record for record in named if record.revoked_at is None]
        if len(living) != 1:
            raise ConfigError(f"{len(named)} keys are called {key!r}; give an id: {', '.join(r.id for r in named)}")
        named = living
    if not named:
        raise UnknownNameError("key", key, [*(r.id for r in records), *(r.name for r in records)])
    return named[0]

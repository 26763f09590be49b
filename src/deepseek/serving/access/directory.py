"""All keys in memory: who asks is found without a store, and a flood of wrong keys reaches none.

A key that was verified once is found again by its header's text, in one look-up of a dictionary. That needs no
constant time: a dictionary compares texts only when their 64-bit keyed hashes (SipHash, with a random key of the
process) are equal, and whoever can bring that about knows the text already. Only valid keys get into it, so strangers
cannot fill it.

Stores tell what changed twice a second, so a key that was revoked by another process is refused within a second; in
the process that revokes it, at once.
"""

from __future__ import annotations

import fnmatch
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from deepseek.serving.access.account import Account
from deepseek.serving.access.credentials import credential, matches, split
from deepseek.serving.access.keys import KeyRecord, Secret
from deepseek.serving.access.ledger import Use
from deepseek.serving.access.plans import Plan
from deepseek.serving.errors import AuthenticationError, NotReadyError, PermissionDeniedError

if TYPE_CHECKING:
    from deepseek.serving.gateway import Headers

logger = logging.getLogger("deepseek.serving")

_MOST_VERIFIED = 65_536
_MOST_MODELS = 1024
_NOBODY = Secret(64 * "0")


class KeyPrincipal:
    """The holder of a key, as the gateway sees it; made anew when the key's record changes."""

    __slots__ = ("_allowed", "account", "key_id", "limited", "record", "uses")

    def __init__(self, record: KeyRecord, account: Account) -> None:
        self.key_id = record.id
        self.record = record
        self.account = account
        self.limited = not account.plan.unlimited
        self.uses: dict[str, Use] = {}
        """By model; what the key may not use is never in it."""
        self._allowed: dict[str, bool] = {}

    def allows(self, model: str) -> bool:
        """Whether one of the key's patterns matches the model's name (case matters)."""
        found = self._allowed.get(model)
        if found is None:
            if len(self._allowed) >= _MOST_MODELS:
                self._allowed.clear()
            found = any(fnmatch.fnmatchcase(model, pattern) for pattern in self.record.models)
            self._allowed[model] = found
        return found


class KeyDirectory:
    """Finds out who holds a key; used on the event loop only."""

    def __init__(self, plans: Mapping[str, Plan], account: Callable[[str], Account], wall: Callable[[], float]) -> None:
        self._plans, self._account, self._wall = plans, account, wall
        self._records: dict[str, KeyRecord] = {}
        self._principals: dict[str, KeyPrincipal] = {}
        self._verified: dict[str, tuple[KeyPrincipal, float]] = {}
        self._headers: dict[str, list[str]] = {}
        """The texts in ``_verified``, by key."""
        self._suspended = False

    def __len__(self) -> int:
        return len(self._records)

    def replace(self, records: Iterable[KeyRecord]) -> None:
        """These are all keys there are."""
        self._forget_verified()
        self._principals.clear()
        self._records = {record.id: record for record in records}

    def update(self, record: KeyRecord) -> None:
        """A key is new, or has changed."""
        self._records[record.id] = record
        self._principals.pop(record.id, None)
        for header in self._headers.pop(record.id, ()):
            self._verified.pop(header, None)

    def suspend(self) -> None:
        """Nobody is let in until :meth:`resume`: it is not known which keys were revoked meanwhile."""
        self._suspended = True
        self._forget_verified()

    def resume(self) -> None:
        """The store answers again."""
        self._suspended = False

    def find(self, headers: Headers) -> KeyPrincipal:
        """Who asks.

        Raises:
            AuthenticationError: no key, not a known one, or one that has ended.
            PermissionDeniedError: the key's plan is not configured here.
            NotReadyError: suspended.
        """
        header = headers.get("authorization")
        if header is None:
            header = headers.get("x-api-key")
        known = self._verified.get(header)  # type: ignore[arg-type]  # None is never in it
        if known is not None and self._wall() < known[1]:
            return known[0]
        return self._verify(credential(headers))

    def _verify(self, header: str | None) -> KeyPrincipal:
        key_id, text = split(header)
        if self._suspended:
            raise NotReadyError("keys cannot be checked at the moment, as their store does not answer; retry later")
        record = self._records.get(key_id)
        now = self._wall()
        accepted = None
        for secret in record.secrets if record else (_NOBODY,):  # an unknown id takes as long as a wrong secret
            if matches(text, secret.sha256):
                accepted = secret
        if record is None or accepted is None:
            raise AuthenticationError("this API key is not known here")
        state = record.state(now)
        if state == "active" and accepted.until is not None and now >= accepted.until:
            state = "replaced by a newer secret"
        if state != "active":
            raise AuthenticationError(f"API key {key_id} ({record.name}) is {state}")
        principal = self._principal(record)
        if len(self._verified) >= _MOST_VERIFIED:
            self._forget_verified()
        ends = [end for end in (record.expires_at, accepted.until) if end is not None]
        assert header is not None
        self._verified[header] = principal, min(ends, default=math.inf)
        self._headers.setdefault(key_id, []).append(header)
        return principal

    def _principal(self, record: KeyRecord) -> KeyPrincipal:
        found = self._principals.get(record.id)
        if found is None:
            plan = self._plans.get(record.plan)
            if plan is None:
                logger.warning("key %s is on plan %r, which is not configured here", record.id, record.plan)
                raise PermissionDeniedError(
                    f"API key {record.id} is on plan {record.plan!r}, which this server does not have; "
                    f"ask its operator to define the plan"
                )
            account = self._account(record.id)
            account.follow(record.plan, plan)
            found = self._principals[record.id] = KeyPrincipal(record, account)
        return found

    def _forget_verified(self) -> None:
        self._verified.clear()
        self._headers.clear()

"""What is stored of an API key."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from deepseek.serving.access.credentials import digest


class Secret(msgspec.Struct, frozen=True):
    """One secret of a key: its digest, and until when it is accepted."""

    sha256: str
    until: float | None = None
    """Unix time in seconds; ``None``: as long as the key."""


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret; times are Unix seconds."""

    id: str
    name: str
    plan: str
    models: tuple[str, ...] = ("*",)
    """Patterns of the models that it covers, as in the shell (``sentiment``, ``llm-*``)."""
    owner: str = ""
    note: str = ""
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    secrets: tuple[Secret, ...]
    """The current one first; after a rotation the one before it follows."""

    def state(self, now: float) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "active"

    def rotated(self, secret: str, overlap: float, now: float) -> KeyRecord:
        """The same key with a new secret; the current one is accepted for ``overlap`` seconds more.

        An earlier one that was still accepted ends now: at most two secrets work at any time.
        """
        before = (Secret(self.secrets[0].sha256, now + overlap),) if overlap > 0 else ()
        return msgspec.structs.replace(self, secrets=(Secret(digest(secret)), *before))

    def public(self, now: float) -> dict[str, Any]:
        """What lists show: everything but the digests; times in ISO 8601."""
        living = self.secrets[1:] if self.state(now) == "active" else ()
        earlier = [secret.until for secret in living if secret.until is not None and secret.until > now]
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state(now),
            "plan": self.plan,
            "models": list(self.models),
            "owner": self.owner,
            "note": self.note,
            "created_at": iso(self.created_at),
            "expires_at": iso(self.expires_at),
            "revoked_at": iso(self.revoked_at),
            "previous_secret_until": iso(max(earlier)) if earlier else None,
        }


def iso(seconds: float | None) -> str | None:
    """Unix time as ISO 8601 in UTC, to the second."""
    if seconds is None:
        return None
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


encode = msgspec.json.Encoder().encode
"""A record as JSON."""
decode = msgspec.json.Decoder(KeyRecord).decode
"""JSON as a record; raises ``msgspec.ValidationError``."""

"""Identifiers of requests: the client's own if it is harmless, else a new one."""

from __future__ import annotations

import itertools
import re
import secrets

_HARMLESS = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_process = secrets.token_hex(6)
_numbers = itertools.count(1)


def request_id(offered: str | None) -> str:
    """The client's ``x-request-id`` if it has up to 128 harmless characters, else a new id.

    Anything else could forge lines of a log. New ids are unique across processes (48 random bits for each) and tell no
    time; they are cheap, not secret.
    """
    if offered is not None and _HARMLESS.fullmatch(offered):
        return offered
    return f"{_process}-{next(_numbers):x}"


def renew() -> None:
    """Take a new prefix; for a process that was forked."""
    global _process
    _process = secrets.token_hex(6)

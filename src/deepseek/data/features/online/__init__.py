"""Online stores: the latest row of every key, read in microseconds.

One contract (:class:`OnlineStore`), several stores behind it, opened by a path or an address::

    open_online_store("features/online")                      # embedded: a folder on this machine
    open_online_store("redis://user:secret@host:6379/0")      # Redis; also rediss:// (TLS) and unix:///path/to.sock
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepseek.data.features.online.store import OnlineStore, Space, StaleWriteError, State
from deepseek.errors import UnknownNameError
from deepseek.plugins.registry import Registry

ONLINE_STORES: Registry[type[OnlineStore]] = Registry(
    "online-store",
    {
        "embedded": "deepseek.data.features.online.embedded:EmbeddedStore",
        "redis": "deepseek.data.features.online.redis_store:RedisStore",
    },
)
"""Online stores by name; an address's scheme is looked up here, and a plain path is the embedded store."""

_SCHEMES = {"file": "embedded", "rediss": "redis", "unix": "redis"}

__all__ = ["ONLINE_STORES", "OnlineStore", "Space", "StaleWriteError", "State", "open_online_store"]


def open_online_store(address: str | Path | OnlineStore, **options: Any) -> OnlineStore:
    """Open the store at a path or address; a store that is open already is returned as it is.

    Args:
        address: a folder for the embedded store (it is made when it is not there), or ``scheme://...``.
        options: go to the store: ``read_only`` and ``map_size`` for the embedded one; ``expire`` and ``prefix`` for
            Redis.

    Raises:
        UnknownNameError: no store has the address's scheme.
        OnlineStoreError: the store cannot be opened or reached; the message says what to do.
    """
    if isinstance(address, OnlineStore):
        return address
    text = str(address)
    scheme, found, _ = text.partition("://")
    if not found:
        return ONLINE_STORES.get("embedded").open(text, **options)
    name = _SCHEMES.get(scheme, scheme)
    if name not in ONLINE_STORES:
        known = {*ONLINE_STORES, *_SCHEMES}
        raise UnknownNameError(
            "online store address scheme",
            scheme,
            known,
            hint="An online store is a folder on this machine, redis://host:port/db, rediss://... or unix://...",
        )
    return ONLINE_STORES.get(name).open(text, **options)

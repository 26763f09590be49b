"""API keys, plans, limits and usage of a server.

- :class:`AccessControl` is what :class:`deepseek.serving.gateway.Gateway` asks (:mod:`.control`);
- :class:`AccessAdmin` is what commands and the admin port do (:mod:`.admin`, :mod:`.admin_app`);
- both work over a store, SQLite or Redis (:mod:`.store`).

A key covers models by pattern, has a plan with limits, may expire, and can be rotated and revoked. What is deliberately
left out: users and roles, payment, limits of a single model, and keys in the query string, where logs would keep them.

The public names load on first use (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.serving.access.admin import AccessAdmin, IssuedKey, Usage
    from deepseek.serving.access.admin_app import AdminApp
    from deepseek.serving.access.config import AccessConfig
    from deepseek.serving.access.control import AccessControl
    from deepseek.serving.access.plans import Plan
    from deepseek.serving.access.refusals import LimitExceededError
    from deepseek.serving.access.store import AccessStore, AccessStoreError, open_store

__all__ = [
    "AccessAdmin",
    "AccessConfig",
    "AccessControl",
    "AccessStore",
    "AccessStoreError",
    "AdminApp",
    "IssuedKey",
    "LimitExceededError",
    "Plan",
    "Usage",
    "open_store",
]

_PACKAGE = "deepseek.serving.access"
__getattr__ = names_of(
    __name__,
    {
        "AccessAdmin": f"{_PACKAGE}.admin",
        "AccessConfig": f"{_PACKAGE}.config",
        "AccessControl": f"{_PACKAGE}.control",
        "AccessStore": f"{_PACKAGE}.store",
        "AccessStoreError": f"{_PACKAGE}.store",
        "AdminApp": f"{_PACKAGE}.admin_app",
        "IssuedKey": f"{_PACKAGE}.admin",
        "LimitExceededError": f"{_PACKAGE}.refusals",
        "Plan": f"{_PACKAGE}.plans",
        "Usage": f"{_PACKAGE}.admin",
        "open_store": f"{_PACKAGE}.store",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

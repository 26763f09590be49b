"""Feature reads under the same keys and limits as models: a view is the resource ``features/NAME``."""

from __future__ import annotations

from deepseek.serving.errors import PermissionDeniedError
from deepseek.serving.gateway import Call, Gateway


def resource(view: str) -> str:
    """What a key's scopes and limits call a feature view."""
    return f"features/{view}"


async def admit(gateway: Gateway, call: Call, views: list[str], entities: int) -> None:
    """Ask whether the caller may read these views, and take the read from its limits: one for each entity and view.

    Raises :class:`PermissionDeniedError` and ``QuotaExceededError``; without access control it does nothing.
    """
    access, principal = gateway.access, call.principal
    if access is None or principal is None:
        return
    for view in views:
        if not principal.allows(resource(view)):
            raise PermissionDeniedError(f"this key does not cover {resource(view)!r}")
    for view in views:
        waiting = access.admit(principal, resource(view), entities)
        if waiting is not None:
            await waiting

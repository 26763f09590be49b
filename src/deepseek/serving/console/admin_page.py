"""The console on the admin port: the page that creates, rotates and revokes keys and shows their usage.

The admin API has a port of its own, which is not reachable where the models are. So the page is brought to it instead
of the API to the page: nothing of the API passes through the public port, no proxy holds the admin token, and no other
origin has to be let in. Files need no token; everything else does, and is answered by the admin application itself.
"""

from __future__ import annotations

from typing import Any, Protocol

from deepseek.serving.console.routes import PAGE, page_routes
from deepseek.serving.rest.http import Scope, Transport


class Application(Protocol):
    """An RSGI application."""

    async def __rsgi__(self, scope: Any, transport: Transport) -> None: ...


class AdminConsole:
    """The console's files in front of the admin API's application; give it to granian as the RSGI target."""

    def __init__(self, inner: Application) -> None:
        self._inner = inner
        self._routes = page_routes("admin")

    async def __rsgi__(self, scope: Scope, transport: Transport) -> None:
        """Answer one request."""
        path = scope.path
        methods = self._routes.get(path) or (self._routes[PAGE] if path == f"{PAGE}/" else {})
        handler = methods.get("GET" if scope.method == "HEAD" else scope.method)
        if handler is None:
            await self._inner.__rsgi__(scope, transport)
        else:
            transport.response_bytes(*await handler(scope, transport))

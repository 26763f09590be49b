"""The console on the REST port.

- ``GET /console``: the page; ``GET /console/...``: its files. Without a key.
- ``GET /console/about``: which page it is (:mod:`.admin_page` has the other one). Without a key.
- ``GET /console/data``: everything that it shows (:mod:`.state`), with the key that any other request needs;
  ``GET /console/data/recent``: the same with the last points of the history alone.

Looking at the console is no traffic: these requests are neither counted in the metrics nor taken from a key's limits,
and they are answered while the server starts and while it drains, when there is most to see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deepseek.serving.console.assets import INDEX, SECURITY, Assets
from deepseek.serving.console.state import ConsoleState, Offers
from deepseek.serving.rest.http import JSON_HEADERS, Handler, Response, Scope, Transport

if TYPE_CHECKING:
    from deepseek.serving.gateway import Gateway

PAGE = "/console"
_PRIVATE = [*JSON_HEADERS, ("cache-control", "no-store"), *SECURITY]


class ConsoleRoutes:
    """Handlers of ``/console``.

    Of a gateway without a monitor, models and playground are shown alone; ``offers`` is what else the server has.
    """

    def __init__(self, gateway: Gateway, offers: Offers | None = None) -> None:
        self._gateway = gateway
        self._state = ConsoleState(gateway, offers or Offers())

    def routes(self) -> dict[str, dict[str, Handler]]:
        """Each path with its handlers by method."""
        return page_routes("server") | {
            f"{PAGE}/data": {"GET": self._data(recent=False)},
            f"{PAGE}/data/recent": {"GET": self._data(recent=True)},
        }

    def _data(self, *, recent: bool) -> Handler:
        async def handle(scope: Scope, transport: Transport) -> Response:
            access = self._gateway.access
            allows: Callable[[str], bool] = _everything if access is None else access.authenticate(scope.headers).allows
            return Response(200, _PRIVATE, self._state.document(allows, recent=recent))

        return handle


def page_routes(role: str) -> dict[str, dict[str, Handler]]:
    """The page and its files; ``role`` (``server`` or ``admin``) is what they are told that they are for."""
    assets = Assets()

    async def page(scope: Scope, transport: Transport) -> Response:
        if scope.path.endswith("/"):  # the page's links are relative to its URL without a slash, also behind a prefix
            return Response(308, [("location", f"..{PAGE}"), *SECURITY], b"")
        return assets.answer(INDEX, scope.headers)

    async def about(scope: Scope, transport: Transport) -> Response:
        return Response(200, _PRIVATE, b'{"page":"%s"}' % role.encode())

    def file(name: str) -> Handler:
        async def handle(scope: Scope, transport: Transport) -> Response:
            return assets.answer(name, scope.headers)

        return handle

    files = {f"{PAGE}/{name}": {"GET": file(name)} for name in assets.names if name != INDEX}
    return files | {PAGE: {"GET": page}, f"{PAGE}/about": {"GET": about}}


def _everything(model: str) -> bool:
    return True

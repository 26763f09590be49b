"""grpc.aio's server, without what lets any stranger end it.

grpc.aio (1.85) decodes the path of a call in the loop that accepts calls. A path that is not UTF-8 ends that loop for
good, and with it gRPC; what it leaves to the core meanwhile is freed, so that the process may end as well. One call is
enough, and no key is needed for it.

Here the core compares paths instead, with those of the methods that were registered, and whatever else comes is
answered UNIMPLEMENTED before its path is looked at. There is no public way to that: this overrides one method of
grpc.aio's Cython class. Where a later version has no such method, its own server is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc

logger = logging.getLogger("deepseek.serving")

_OVERRIDDEN = "_make_request_call_future"


class _GuardedCore(cygrpc.AioServer):  # type: ignore[misc]  # Cython's classes have no types
    """Accepts calls of registered methods alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: Sequence[tuple[str, Any]]) -> None:
        super().__init__(loop, None, (), None, tuple(options), None)
        self._of = loop
        self._kept: set[asyncio.Future[Any]] = set()

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        """The next call of a registered method, or, for ``None``, of any other: that never comes."""
        if method is None:
            return self._keep(self._of.create_task(self._refuse_others()))
        return self._keep(super()._make_request_call_future(method))

    def _keep(self, call: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """At the end grpc.aio cancels these, but the core still writes to them."""
        self._kept.add(call)
        call.add_done_callback(self._over)
        return asyncio.shield(call)

    def _over(self, call: asyncio.Future[Any]) -> None:
        self._kept.discard(call)
        if not call.cancelled():
            call.exception()  # it is grpc.aio's to handle; at the end it does not

    async def _refuse_others(self) -> None:
        refusals: set[asyncio.Task[None]] = set()
        while True:
            refusal = self._of.create_task(self._refuse(await self._request_call()))
            refusals.add(refusal)
            refusal.add_done_callback(refusals.discard)

    async def _refuse(self, call: Any) -> None:
        context = cygrpc._ServicerContext(call, None, None, self._of)
        with contextlib.suppress(Exception):  # it raises when it is done, and when the client has left
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method here")


def guarded_server(options: Sequence[tuple[str, Any]]) -> grpc.aio.Server:
    """A server whose methods have to be registered (``add_registered_method_handlers``)."""
    server = grpc.aio.server(options=options)
    if hasattr(cygrpc.AioServer, _OVERRIDDEN) and hasattr(server, "_server"):
        server._server = _GuardedCore(asyncio.get_running_loop(), options)
    else:
        logger.warning("grpcio %s is not known here: calls of paths that are not UTF-8 may end it", grpc.__version__)
    return server

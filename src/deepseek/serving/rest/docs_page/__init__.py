"""``GET /docs``: a page to look through the API and to try it, made from ``/openapi.json`` in the browser.

Static files of our own, without dependencies and without a content delivery network, under a content security
policy that allows nothing else: no inline script or style, and no connection but to this server. A key that is typed
into the page stays in its memory.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from deepseek.serving.rest.http import Handler, Response, Scope, Transport

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HERE = Path(__file__).parent
_FILES = {
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/docs/docs.css": ("docs.css", "text/css; charset=utf-8"),
} | {
    f"/docs/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
    for name in ("docs", "elements", "requests", "schemas", "texts")
}


def docs_routes() -> dict[str, dict[str, Handler]]:
    """The page's paths with their handlers."""
    return {path: {"GET": _handler(name, kind)} for path, (name, kind) in _FILES.items()}


def _handler(name: str, kind: str) -> Handler:
    async def handle(scope: Scope, transport: Transport) -> Response:
        return Response(200, _headers(kind), _content(name))

    return handle


@cache
def _content(name: str) -> bytes:
    return (_HERE / name).read_bytes()


def _headers(kind: str) -> list[tuple[str, str]]:
    return [
        ("content-type", kind),
        ("content-security-policy", CONTENT_SECURITY_POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cache-control", "no-cache"),
    ]

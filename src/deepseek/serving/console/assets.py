"""The page's files, as they are answered: validated by ETag (RFC 9110, 8.8.3), compressed once, under a strict policy.

The content security policy allows this server's own files and nothing else: no inline script or style, no other host,
no frame around the page, no form that is sent by the browser; trusted types forbid turning text into markup. Pictures
that a person is about to send are shown from memory (``blob:``).
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from deepseek.serving.rest.http import Response

FOLDER = Path(__file__).parent / "assets"
INDEX = "index.html"
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
SECURITY = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
]


class _Asset(NamedTuple):
    headers: list[tuple[str, str]]
    etag: str
    body: bytes
    compressed: bytes


class Assets:
    """All files, read once; ``names`` are relative paths such as ``views/overview.js``."""

    def __init__(self) -> None:
        self._assets = {
            path.relative_to(FOLDER).as_posix(): _read(path)
            for path in sorted(FOLDER.rglob("*"))
            if path.suffix in _KINDS
        }

    @property
    def names(self) -> list[str]:
        """Every file."""
        return list(self._assets)

    def answer(self, name: str, headers: Any) -> Response:
        """One file, or 304 for a browser that has it already."""
        asset = self._assets[name]
        if asset.etag in [each.strip().removeprefix("W/") for each in headers.get("if-none-match", "").split(",")]:
            return Response(304, asset.headers, b"")
        if _takes_gzip(headers.get("accept-encoding", "")):
            return Response(200, [*asset.headers, ("content-encoding", "gzip")], asset.compressed)
        return Response(200, asset.headers, asset.body)


def _read(path: Path) -> _Asset:
    body = path.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = [
        ("content-type", _KINDS[path.suffix]),
        ("etag", f"W/{etag}"),  # weak: the compressed body differs byte by byte
        ("cache-control", "no-cache"),
        ("vary", "accept-encoding"),
        *SECURITY,
    ]
    return _Asset(headers, etag, body, gzip.compress(body, 9, mtime=0))


def _takes_gzip(accepted: str) -> bool:
    """Whether a client takes gzip (RFC 9110, 12.5.3); one that weighs it with 0 does not."""
    for each in accepted.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "").rstrip("0.") != "q="
    return False

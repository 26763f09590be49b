"""Bytes where there is only JSON: how the value of a ``bytes`` field is written in a task request.

Three forms: ``{"base64": "iVBORw0..."}``; a data URL (RFC 2397), ``"data:image/png;base64,iVBORw0..."``; and any other
string, which stands for its UTF-8 bytes. Base64 is RFC 4648's, with padding, in either alphabet; white space between
its lines is dropped. The media type of a data URL is not looked at: the model finds out what the bytes are.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import unquote_to_bytes

from deepseek.serving.errors import RequestError

_FORMS = 'text, {"base64": "..."} or a data URL'
_URL_SAFE = str.maketrans("-_", "+/")


def decode_bytes(value: Any, where: str) -> bytes:
    """The bytes that a JSON value stands for; ``where`` names the field. Raises :class:`RequestError`."""
    if isinstance(value, bytes):  # out of a form
        return value
    if isinstance(value, str):
        return _data_url(value, where) if value[:5].lower() == "data:" else value.encode()
    if isinstance(value, dict) and list(value) == ["base64"] and isinstance(value["base64"], str):
        return _base64(value["base64"], where)
    received = f"an object with {sorted(value)}" if isinstance(value, dict) else repr(value)
    raise RequestError(f"{where}: expected {_FORMS}, received {received:.80}")


def _data_url(text: str, where: str) -> bytes:
    header, comma, data = text.partition(",")
    if not comma:
        raise RequestError(f"{where}: expected a data URL with a comma before its data, received {header!r:.60}")
    if header.lower().endswith(";base64"):
        return _base64(data, where)
    return unquote_to_bytes(data)


def _base64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()).translate(_URL_SAFE), validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: text that is not ASCII
        raise RequestError(f"{where}: expected base64 (RFC 4648), but it cannot be read: {error}") from error

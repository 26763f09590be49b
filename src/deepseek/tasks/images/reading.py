"""A row's picture, in whatever form it comes: encoded bytes, base64 text, a data URI, a path, a PIL image.

Only strings and paths name files. Bytes never do, and a server hands a client's values on as bytes, so no request can
make it read its own disk. Only common raster formats are opened.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import DataError, require

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
IMAGE, PATH, NUMBER = "image", "path", "number"
_DATA_URI = re.compile(rb"data:image/[\w.+-]+;base64,", re.IGNORECASE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]+={0,2}\s*")


def reference(number: int, row: Any, column: str) -> dict[str, Any]:
    """A row's picture as values that a file of features can hold: ``image`` (the encoded picture as base64, empty if
    there is a path), ``path`` and the row's ``number``.

    Raises:
        DataError: the value is missing or of another type, or base64 or a data URI that is damaged.
    """
    value = row.get(column)
    path, data = "", b""
    if isinstance(value, bytes | bytearray | memoryview):
        data = _decoded(number, column, bytes(value))
    elif isinstance(value, str) and value.lstrip()[:5].lower() == "data:":
        data = _decoded(number, column, value.encode())
    elif isinstance(value, str | os.PathLike) and str(value).strip():
        path = str(value)
        if not Path(path).is_file():
            raise DataError(f"row {number}: {column!r} names no file: {path!r:.200}")
    elif hasattr(value, "save") and hasattr(value, "convert"):  # a PIL image
        buffer = io.BytesIO()
        (value if value.mode in {"RGB", "RGBA", "L"} else value.convert("RGBA")).save(buffer, "PNG")
        data = buffer.getvalue()
    else:
        came = f"the columns {', '.join(map(str, row)) or 'none'}" if column not in row else type(value).__name__
        raise DataError(
            f"row {number}: expected a picture in {column!r} (bytes, path, data URI or PIL image), received {came}"
        )
    return {IMAGE: base64.b64encode(data).decode(), PATH: path, NUMBER: number}


def _decoded(number: int, column: str, data: bytes) -> bytes:
    """Encoded image bytes, out of base64 or a data URI where they come in one."""
    head = _DATA_URI.match(data.lstrip()[:64])
    text = data.lstrip()[head.end() :] if head else data
    if not head and not _BASE64.fullmatch(data):
        if not data:
            raise DataError(f"row {number}: {column!r} is empty; expected a picture")
        return data
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as error:
        raise DataError(f"row {number}: {column!r} is no valid base64: {error}; received {data[:40]!r}") from error


def open_picture(feature: Any, *, pixels: bool = True) -> Image:
    """The picture of a :func:`reference`, upright, in RGB, on white where it is transparent.

    Args:
        pixels: false reads the header alone and leaves the picture as it is.

    Raises:
        DataError: it is damaged, too large, or of no known format; the message has the row's number.
        MissingExtraError: Pillow is not installed.
    """
    module = require("PIL.Image", "images")
    data = base64.b64decode(feature[IMAGE])
    source = feature[PATH] or io.BytesIO(data)
    try:
        picture = module.open(source, formats=FORMATS)
        return _upright_rgb(picture) if pixels else picture
    except (OSError, ValueError, SyntaxError, module.DecompressionBombError) as error:
        what = feature[PATH] or f"{len(data)} bytes, {data[:12]!r}"
        raise DataError(
            f"row {feature[NUMBER]}: not a picture that can be read ({', '.join(FORMATS)}): {what}: {error}"
        ) from error


def _upright_rgb(picture: Image) -> Image:
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(picture)
    if upright.mode in {"RGBA", "LA", "PA"} or "transparency" in upright.info:
        coloured = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured).convert("RGB")
    return upright.convert("RGB")

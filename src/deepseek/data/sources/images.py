"""Image folders: one row a file, the folder that holds it as its label.

Every file is decoded once to be sure that it can be (JPEGs at an eighth of their size, which reads all of their data);
corrupt and truncated files, files that are no images, and images with more pixels than ``max_pixels`` (a small file can
unpack to terabytes) are rejects. The table keeps the file's own bytes, not the pixels. Only raster formats that Pillow
decodes itself are tried; formats that call other programs are not. Of an animation only the first frame is decoded.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek.data.sources.file_rows import FileRows, Unit, Unreadable, files_under
from deepseek.data.sources.lines import check_folder
from deepseek.errors import require

MAX_PIXELS = 89_478_485
"""Pillow's own limit: a quarter of a gigabyte as 24-bit pixels."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "JPEG2000", "AVIF", "MPO")

_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
)


class ImageFolder(FileRows):
    """A folder of images.

    Columns: ``path`` (below the folder), ``label`` (the name of the folder that holds the file; null directly under the
    root), ``image`` (the file's bytes), ``width`` and ``height`` in pixels, and ``format`` (``"PNG"``, ...). With
    ``split`` the first folder of the path is the column ``split`` instead, as in ``train/cat/1.png``.

    Args:
        verify: decode every image; ``False`` reads only the headers, so truncated data is not noticed.
        max_pixels: larger images are rejects; Pillow itself refuses twice its limit in any case.
    """

    def __init__(
        self, path: str | Path, *, split: bool = False, verify: bool = True, max_pixels: int = MAX_PIXELS
    ) -> None:
        super().__init__(path)
        self.split, self.verify, self.max_pixels = split, verify, max_pixels

    def options(self) -> dict[str, Any]:
        """The options that change the rows."""
        return {"split": self.split, "verify": self.verify, "max_pixels": self.max_pixels}

    def schema(self) -> pa.Schema:
        """The columns, the same for every folder."""
        text, count = pa.string(), pa.int32()
        columns = [("path", text), ("label", text), ("image", pa.large_binary()), ("width", count), ("height", count)]
        columns += [("format", text)] + ([("split", text)] if self.split else [])
        return pa.schema(columns)

    def find(self) -> list[Unit]:
        """All files that are not hidden."""
        check_folder(self.path)
        return [(path,) for path in files_under(self.path)]

    def row(self, unit: Unit) -> dict[str, Any]:
        """One image."""
        path = unit[0].relative_to(self.path)
        try:
            data = unit[0].read_bytes()
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error
        width, height, kind = inspect_image(data, verify=self.verify, max_pixels=self.max_pixels)
        folders = path.parent.parts
        inside = folders[1:] if self.split else folders
        row: dict[str, Any] = {"path": path.as_posix(), "label": inside[-1] if inside else None, "image": data}
        row |= {"width": width, "height": height, "format": kind}
        return row | ({"split": folders[0] if folders else None} if self.split else {})


def inspect_image(data: bytes, *, verify: bool = True, max_pixels: int = MAX_PIXELS) -> tuple[int, int, str]:
    """Width, height and format of an encoded image; raises :class:`Unreadable` with the reason when it is damaged."""
    pillow: Any = require("PIL.Image", "images")
    if not data:
        raise Unreadable("is empty (0 bytes)")
    try:
        with pillow.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise Unreadable(f"expected at most {max_pixels:,} pixels, received {width:,} x {height:,}")
            if verify:
                if image.format == "JPEG":
                    image.draft("L", (max(1, width // 8), max(1, height // 8)))
                image.load()
            return width, height, str(image.format)
    except pillow.DecompressionBombError as error:
        raise Unreadable(f"unpacks to too many pixels: {error}") from error
    except require("PIL", "images").UnidentifiedImageError as error:
        raise Unreadable("not an image of a known format") from error
    except _DAMAGE as error:
        raise Unreadable(f"damaged image: {error}") from error

"""Opening text files so that bytes in the wrong encoding are found and never replaced.

The file is decoded with ``surrogateescape``: bytes that are not valid in the encoding survive as marked characters
(U+DC80 to U+DCFF), the row that holds them is recognised by them, and the rows around it are read as usual. A byte
order mark at the beginning is skipped.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepseek.errors import ConfigError, DataError

_ESCAPED = re.compile("[\udc80-\udcff]")


@contextmanager
def open_text(path: Path, encoding: str, newline: str) -> Iterator[io.TextIOWrapper]:
    """Open ``path``; raises :class:`DataError` when it is missing, a folder or empty, and when decoding must stop."""
    name = check_encoding(encoding)
    check_file(path)
    try:
        with path.open("rb") as raw:
            # plain utf-8 would keep a byte order mark as a character of the first column's name
            with_mark = "utf-8-sig" if name == "utf-8" else name
            with io.TextIOWrapper(raw, encoding=with_mark, errors="surrogateescape", newline=newline) as text:
                yield text
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not valid {encoding}: {error.reason} at byte {error.start} of a block") from error


def check_file(path: Path) -> None:
    """Raise :class:`DataError` unless ``path`` is a file with at least one byte."""
    if not path.exists():
        raise DataError(f"there is no file {path}")
    if not path.is_file():
        raise DataError(f"{path}: expected a file, received a folder or device")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")


def check_encoding(encoding: str) -> str:
    """The canonical name of an encoding; raises :class:`ConfigError` for one that Python does not know."""
    try:
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise ConfigError(
            f"encoding: expected one such as 'utf-8', 'gb18030' or 'cp1252', received {encoding!r}"
        ) from error


def undecodable(text: str) -> bool:
    """Whether ``text`` holds bytes that were not valid in the file's encoding."""
    return not text.isascii() and _ESCAPED.search(text) is not None


def invalid_reason(encoding: str) -> str:
    """The reject's reason for such bytes."""
    canonical = check_encoding(encoding)
    return f"not valid {'UTF-8' if canonical in {'utf-8', 'utf-8-sig'} else encoding}"


def excerpt(text: str, limit: int = 200) -> str:
    """The beginning of a raw row, with undecodable bytes shown as ``\\xNN``."""
    shown = text[:limit].rstrip("\r\n")
    return _ESCAPED.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", shown).encode("utf-8", "replace").decode()

"""Text files as a stream of UTF-8 bytes with line numbers and offsets, so that no wrong byte is ever replaced.

Every text file, whatever its encoding and compression (``.gz``, ``.zst``, ``.bz2`` by suffix), is read as UTF-8 bytes;
offsets count in that stream. Plain UTF-8 files are read as they are, and a position is reached by seeking. Other
encodings are decoded as a stream; bytes that are not valid in them become sequences that are not valid UTF-8 either
(half of a surrogate pair), so that the row that holds them is recognised and the rows around it are read as usual. A
byte order mark at the beginning is skipped.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from deepseek.errors import ConfigError, DataError

BLOCK_BYTES = 1 << 20
"""How much text is parsed at a time; a longer row is still read whole."""

_COMPRESSION = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_MARK = codecs.BOM_UTF8
_ESCAPED = re.compile("[\udc80-\udcff]")
_HALF = re.compile("[\ud800-\udfff]")
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)")


class _Reads(Protocol):
    def read(self, size: int, /) -> bytes: ...


def compression(path: Path) -> str | None:
    """The compression that the file's last suffix names, if any."""
    return _COMPRESSION.get(path.suffix.lower())


def text_suffix(path: Path) -> str:
    """The suffix that names the format: ``rows.csv.gz`` → ``csv``."""
    return (Path(path.stem) if compression(path) else path).suffix[1:].lower()


@contextmanager
def open_utf8(path: Path, encoding: str, offset: int = 0) -> Iterator[_Reads]:
    """Open ``path`` as UTF-8 bytes behind ``offset``; raises :class:`DataError` when it is missing, a folder or empty.

    Reading raises :class:`DataError` when the compressed data is damaged or the encoding cannot go on.
    """
    name = check_encoding(encoding)
    check_file(path)
    packed = compression(path)
    with path.open("rb") as raw:
        stream: _Reads = raw
        if packed is not None:
            import pyarrow as pa

            stream = _Unpacked(pa.CompressedInputStream(pa.PythonFile(raw), packed), path)
        if name not in {"utf-8", "utf-8-sig"}:
            stream = _Transcoded(stream, name, path)
        if stream is raw:
            raw.seek(offset)
        else:
            _discard(stream, offset)
        yield stream


def _discard(stream: _Reads, count: int) -> None:
    while count > 0:
        block = stream.read(min(count, BLOCK_BYTES))
        if not block:
            return
        count -= len(block)


class _Unpacked:
    """Decompressed bytes; damage is a :class:`DataError`."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except (OSError, ValueError) as error:
            raise DataError(f"{self._path} is damaged: its compressed data cannot be read: {error}") from error


class _Transcoded:
    """Another encoding as UTF-8; undecodable bytes come out as ``surrogatepass`` sequences, which are not UTF-8."""

    def __init__(self, stream: _Reads, encoding: str, path: Path) -> None:
        self._stream, self._path, self._encoding = stream, path, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="surrogateescape")
        self._ready = b""
        self._ended = False

    def read(self, size: int, /) -> bytes:
        while len(self._ready) < size and not self._ended:
            block = self._stream.read(size)
            self._ended = not block
            try:
                text = self._decoder.decode(block, final=self._ended)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self._path} is not valid {self._encoding}: {error.reason} at byte {error.start} of a block"
                ) from error
            self._ready += text.encode("utf-8", "surrogatepass")
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken


class Window:
    """A moving view of a UTF-8 stream: ``buffer[at:]`` is what was read and not yet used.

    ``offset`` and ``line`` count the bytes and lines used so far; ``block`` is how many bytes are parsed at a time.
    """

    def __init__(self, stream: _Reads, offset: int = 0, line: int = 0) -> None:
        self._stream = stream
        self.buffer = b""
        self.at = 0
        self.ended = False
        self.line = line
        self.block = BLOCK_BYTES
        self._base = offset
        if offset == 0:
            self.more(len(_MARK))
            if self.buffer.startswith(_MARK):
                self.at = len(_MARK)

    @classmethod
    def over(cls, block: bytes, line: int) -> Window:
        """A window over whole rows that were taken from another one, behind ``line`` lines."""
        window = cls(io.BytesIO(), offset=1, line=line)  # not at the beginning: a mark would be part of the text
        window.buffer, window.ended = block, True
        return window

    @property
    def offset(self) -> int:
        """Bytes used, from the beginning of the stream."""
        return self._base + self.at

    def more(self, size: int | None = None) -> bool:
        """Read ahead by ``size`` bytes (as much again as there is); false at the end of the stream."""
        amount = size or max(self.block, len(self.buffer) - self.at)  # doubling keeps a very long row linear
        block = b"" if self.ended else self._stream.read(amount)
        self.ended = not block
        self.buffer = self.buffer[self.at :] + block
        self._base += self.at
        self.at = 0
        return not self.ended

    def fill(self) -> bool:
        """Read ahead until a block is there or the stream ends; false when nothing is left."""
        while (missing := self.block - (len(self.buffer) - self.at)) > 0 and self.more(missing):
            pass
        return self.at < len(self.buffer)

    def use(self, end: int) -> bytes:
        """Take ``buffer[at:end]``, which holds whole lines that end in a line feed."""
        block = self.buffer[self.at : end]
        self.line += block.count(b"\n")
        self.at = end
        return block

    def next_line(self) -> bytes:
        """Take one line with its ending (LF, CR LF or CR); empty at the end of the stream."""
        while True:
            found = _LINE.match(self.buffer, self.at)
            # a CR at the end of what was read may be the first half of a CR LF
            if found and (found.end() < len(self.buffer) or self.buffer[-1:] == b"\n" or self.ended):
                end = found.end()
                break
            if not self.more():
                end = len(self.buffer)
                break
        line = self.buffer[self.at : end]
        self.line += bool(line)
        self.at = end
        return line


def line_block(window: Window) -> int:
    """The end, in ``window.buffer``, of the next block of whole lines; extends the window for a long line."""
    window.fill()
    while True:
        cut = window.buffer.rfind(b"\n", window.at) + 1
        if cut > window.at:
            return cut
        if not window.more():
            return len(window.buffer)


def decode(raw: bytes) -> str:
    """Text of UTF-8 bytes, with each undecodable byte as a marked character (see :func:`undecodable`)."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return raw.decode("utf-8", "surrogatepass")  # a marked byte of another encoding
        except UnicodeDecodeError:
            return raw.decode("utf-8", "surrogateescape")


def check_file(path: Path) -> None:
    """Raise :class:`DataError` unless ``path`` is a file with at least one byte."""
    if not path.exists():
        raise DataError(f"there is no file {path}")
    if not path.is_file():
        raise DataError(f"{path}: expected a file, received a folder or device")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")


def check_folder(path: Path) -> None:
    """Raise :class:`DataError` unless ``path`` is a folder."""
    if not path.exists():
        raise DataError(f"there is no folder {path}")
    if not path.is_dir():
        raise DataError(f"{path}: expected a folder, received a file")


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
    return not text.isascii() and _HALF.search(text) is not None


def invalid_reason(encoding: str) -> str:
    """The reject's reason for such bytes."""
    canonical = check_encoding(encoding)
    return f"not valid {'UTF-8' if canonical in {'utf-8', 'utf-8-sig'} else encoding}"


def excerpt(text: str, limit: int = 200) -> str:
    """The beginning of a raw row, with undecodable bytes shown as ``\\xNN``."""
    shown = text[:limit].rstrip("\r\n")
    return _ESCAPED.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", shown).encode("utf-8", "replace").decode()

"""``multipart/form-data`` (RFC 7578) as it arrives: files and fields, bounded in number, in headers and in bytes.

The parser is ``multipart``: one file without dependencies that takes the bytes that are there, never waits, and raises
at every limit that is needed here. ``python-multipart``, the other candidate, reports through callbacks, and cuts a
body that exceeds its limit short with a line in the log. The parser's strict mode is off: RFC 2046 allows the text
before and after the parts that it refuses, and whether it does depends on how the network cut the body.

Parts are kept in memory: the body's limit bounds them, and a model needs them there. Not here: files inside files
(``multipart/mixed``) and encoded parts, both of which RFC 7578 deprecates, and charsets other than UTF-8.
"""

from __future__ import annotations

from typing import NamedTuple

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from deepseek.serving.errors import BodyTooLargeError, RequestError, UnsupportedMediaError
from deepseek.serving.rest.bodies import FORM, BodyReader
from deepseek.serving.rest.http import Scope, Transport

MAX_PART_HEADERS = 8
MAX_PART_HEADER_BYTES = 4096
_MAX_BOUNDARY = 70  # RFC 2046, 5.1.1


class FormPart(NamedTuple):
    """One file or field of a form."""

    name: str
    data: bytes
    filename: str | None
    """As the client calls it: for messages only, never a path."""


async def read_form(reader: BodyReader, scope: Scope, transport: Transport, max_parts: int) -> list[FormPart]:
    """Read a form of at most ``max_parts`` parts, in the order of the body.

    A form that is refused while it arrives is read to its end all the same, so that the client gets the answer and
    keeps its connection. Raises :class:`RequestError` for a malformed form, :class:`BodyTooLargeError` for too many
    parts or bytes, and what :class:`BodyReader` raises.
    """
    parser = PushMultipartParser(
        _boundary(scope.headers.get("content-type")),
        max_header_size=MAX_PART_HEADER_BYTES,
        max_header_count=MAX_PART_HEADERS,
        max_segment_size=reader.limit,
        max_segment_count=max_parts,
    )
    collector = _Collector(parser, max_parts)
    refusal: Exception | None = None
    task = reader.deadlines.begin()
    try:
        async for piece in reader.pieces(scope.headers, transport):
            if refusal is None:
                refusal = collector.feed(piece)
    except RuntimeError as error:  # granian's protocol errors
        raise RequestError("the form ended before its end; the client left") from error
    finally:
        reader.deadlines.end(task)
    refusal = refusal or collector.close()
    if refusal is not None:
        raise refusal
    return collector.parts


def _boundary(kind: str | None) -> str:
    media, options = parse_options_header(kind or "")
    boundary = str(options.get("boundary", ""))
    if media != FORM or not 0 < len(boundary) <= _MAX_BOUNDARY or not boundary.isascii() or not boundary.isprintable():
        raise UnsupportedMediaError(
            f"expected content-type {FORM} with a boundary of 1 to {_MAX_BOUNDARY} characters, received {kind!r:.120}"
        )
    return boundary


class _Collector:
    """Joins the parser's events into parts."""

    def __init__(self, parser: PushMultipartParser, max_parts: int) -> None:
        self.parts: list[FormPart] = []
        self._parser = parser
        self._max_parts = max_parts
        self._segment: MultipartSegment | None = None
        self._chunks: list[bytes] = []

    def feed(self, piece: bytes) -> Exception | None:
        """Parse a piece of the body; returns why the form is refused, if it is."""
        try:
            for event in self._parser.parse(piece):
                if event is None:
                    self._complete()
                elif isinstance(event, bytes):
                    self._chunks.append(event)
                else:
                    _check(event)
                    self._segment = event
        except (MultipartError, RequestError) as error:
            return self._refusal(error)
        return None

    def close(self) -> Exception | None:
        """The body has ended; returns why the form is refused, if it is."""
        try:
            self._parser.close()
        except MultipartError as error:
            return self._refusal(error)
        return None if self.parts else RequestError("expected a form with at least one field, received an empty one")

    def _complete(self) -> None:
        segment = self._segment
        assert segment is not None
        assert segment.name is not None
        self.parts.append(FormPart(segment.name, b"".join(self._chunks), segment.filename))
        self._chunks = []

    def _refusal(self, error: Exception) -> Exception:
        self.parts, self._chunks = [], []
        if isinstance(error, ParserLimitReached):
            return BodyTooLargeError(
                f"the form is refused: {error} (at most {self._max_parts} parts, each with at most {MAX_PART_HEADERS} "
                f"headers of at most {MAX_PART_HEADER_BYTES} bytes)"
            )
        if isinstance(error, MultipartError):
            return RequestError(f"the body is not a {FORM} form: {error}")
        return error


def _check(segment: MultipartSegment) -> None:
    if not segment.name:
        raise RequestError("a part of the form has no name")
    for name, value in segment.headerlist:
        if name == "Content-Transfer-Encoding" and value.strip().lower() not in ("binary", "8bit", "7bit"):
            raise RequestError(
                f"form field {segment.name!r:.80}: expected the bytes as they are, "
                f"received content-transfer-encoding {value!r:.40}, which RFC 7578 deprecates"
            )

"""The layout of a record: a header that sorts by age, then the row's features.

Header, big-endian, 37 bytes: format (1), epoch (8), event time (8), created time (8), table version (4), position
(8). Times are in the units of the table's columns, shifted so that unsigned byte order is their order. Comparing
two records of one key as bytes therefore compares (event time, created time, position), which is how offline reads
choose among rows; the table version in which a row was first read stands before its position, since positions shift
when rows before it are deleted while later rows always come in later versions. A new epoch begins when a view is
materialised from scratch: its records win over all older ones, which are then swept.

The features follow as one msgpack array, see :mod:`deepseek.data.features.online.values`.
"""

from __future__ import annotations

import struct

FORMAT = 1
_HEADER = struct.Struct(">BQQQIQ")
_TIMES = struct.Struct(">QQ")
_VERSION = struct.Struct(">I")
_SHIFT = 1 << 63
HEADER_BYTES = _HEADER.size
EPOCH_BYTES = 9
NO_CREATED_TIME = -_SHIFT
"""Created time of rows of a view without one."""


def header(epoch: int, event: int, created: int, version: int, position: int) -> bytes:
    """The header of a record; ``event`` and ``created`` are signed 64-bit integers."""
    return _HEADER.pack(FORMAT, epoch, event + _SHIFT, created + _SHIFT, version, position)


def epoch_prefix(epoch: int) -> bytes:
    """What all records of an epoch begin with; every record of an earlier epoch is less."""
    return struct.pack(">BQ", FORMAT, epoch)


def times(record: bytes) -> tuple[int, int]:
    """Event and created time of a record."""
    event, created = _TIMES.unpack_from(record, EPOCH_BYTES)
    return event - _SHIFT, created - _SHIFT


def table_version(record: bytes) -> int:
    """The table version in which the record's row was read."""
    return int(_VERSION.unpack_from(record, EPOCH_BYTES + _TIMES.size)[0])

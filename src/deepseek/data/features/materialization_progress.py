"""What a materialiser notes in the online store, so that it can go on after any interruption."""

from __future__ import annotations

import hashlib

import msgspec
import pyarrow as pa

from deepseek.errors import OnlineStoreError

_FORMAT = 1


class Mark(msgspec.Struct, frozen=True):
    """Up to where the store is complete.

    ``version`` and ``signature`` say which rows were seen, ``until`` (microseconds since 1970) which of them were
    visible, and ``pending`` in which fragments some were not yet."""

    version: int
    signature: str
    until: int
    pending: tuple[int, ...]


class Job(msgspec.Struct, frozen=True):
    """What is being done: towards which version and time, and from scratch or not.

    ``reached`` is the piece that was stored last, as the order of its fragment in the table and its first row; pieces
    are stored from the table's end to its start. It does not depend on how pieces are cut.
    """

    version: int
    signature: str
    until: int
    rebuild: bool
    reached: tuple[int, int] | None = None
    pending: tuple[int, ...] = ()


class Progress(msgspec.Struct, frozen=True):
    """The materialiser's state. ``schemas`` holds, by epoch, the columns that records of that epoch were made of."""

    plan: str
    epoch: int
    schemas: dict[int, bytes]
    done: Mark | None = None
    job: Job | None = None
    format: int = _FORMAT

    def encode(self) -> bytes:
        """As bytes, for :class:`deepseek.data.features.online.State`."""
        return msgspec.msgpack.encode(self)

    def schema(self, epoch: int) -> pa.Schema:
        """Key, time and feature columns of the records of an epoch.

        Raises:
            KeyError: there are none of that epoch.
        """
        return pa.ipc.read_schema(pa.py_buffer(self.schemas[epoch]))


def decode_progress(data: bytes) -> Progress:
    """The inverse of :meth:`Progress.encode`.

    Raises:
        OnlineStoreError: it was written by another release, or by something else.
    """
    try:
        progress = msgspec.msgpack.decode(data, type=Progress)
    except msgspec.DecodeError as error:
        raise OnlineStoreError(
            f"the online store's state cannot be read ({error}); clear the view there and materialise it again"
        ) from error
    if progress.format != _FORMAT:
        raise OnlineStoreError(
            f"the online store was written in format {progress.format}, this release reads {_FORMAT}; clear the view "
            f"there and materialise it again"
        )
    return progress


def plan(schema: pa.Schema, roles: object) -> str:
    """A fingerprint of what records are made of: columns with their types, and their roles."""
    return hashlib.sha256(repr((roles, [(field.name, str(field.type)) for field in schema])).encode()).hexdigest()

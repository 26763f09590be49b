"""Reads rows in a process of its own, for a process that was forked.

Lance's threads do not survive a fork: a forked process that reads with it crashes or gets wrong bytes. PyTorch's
``DataLoader`` forks its workers by default on Linux, so a forked worker asks a fresh Python process over pipes:
a pickled list of positions goes in, an Arrow stream comes out. That costs one copy of the rows. Workers that are
spawned (``multiprocessing_context="forkserver"`` or ``"spawn"``) read by themselves and need none of this.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from deepseek.errors import TableError

_ENDED = "the process that reads the table for this forked worker has ended unexpectedly"
_LENGTH = struct.Struct("<Q")


class ReaderProcess:
    """A process that has the table open; ``state`` is the pickled table, ``columns`` what it reads."""

    def __init__(self, state: bytes, columns: Sequence[str]) -> None:
        self.owner = os.getpid()
        package = str(Path(__file__).resolve().parents[3])
        paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
        )
        # the process ends when its input does, at the latest when this one exits
        self._close = weakref.finalize(self, _stop, self._process)
        self._send(state)
        self._send(pickle.dumps(list(columns)))

    def take(self, places: Sequence[int]) -> pa.Table:
        """The rows at these positions."""
        self._send(pickle.dumps(list(places)))
        assert self._process.stdout is not None
        answer = _receive(self._process.stdout)
        if answer is None:
            raise TableError(_ENDED)
        kind, body = answer[:1], pa.py_buffer(memoryview(answer)[1:])
        if kind == b"E":
            raise pickle.loads(body)  # noqa: S301 -- from our own process
        return pa.ipc.open_stream(body).read_all()

    def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        try:
            _send(self._process.stdin, message)
        except BrokenPipeError as error:
            raise TableError(
                "the process that reads the table for this forked worker has ended unexpectedly"
            ) from error


def serve() -> None:
    """Answer requests on standard input until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else may write between the answers
    requests = sys.stdin.buffer
    state, columns = _receive(requests), _receive(requests)
    if state is None or columns is None:
        return
    table: Any = None
    while (request := _receive(requests)) is not None:
        try:
            table = table or pickle.loads(state)  # noqa: S301 -- from the process that started this one
            rows = table.take(pickle.loads(request), pickle.loads(columns))  # noqa: S301
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, rows.schema) as writer:
                writer.write_table(rows)
            answer = b"R" + sink.getvalue().to_pybytes()
        except Exception as error:  # noqa: BLE001 -- raised again where the rows were asked for
            answer = b"E" + pickle.dumps(error)
        _send(answers, answer)


def _send(stream: IO[bytes], message: bytes) -> None:
    stream.write(_LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    message = stream.read(length)
    return message if len(message) == length else None


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait()

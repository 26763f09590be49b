"""Reads from Redis with little more than the round trip: one ``MGET``, written and parsed by hand.

A client's general path costs more than the server's answer: it takes a connection from a pool under a lock, looks
whether it is readable, packs, parses, calls back and gives the connection back. Here connections come from the
client's pool, which has them connected and authenticated, with TLS, database and timeouts as the address says, and are
*kept* between reads; a read then is one send and, unless the answer is large, one receive.

Nothing is handled here but the one expected answer, an array of as many strings or nulls as there were keys (in
RESP2 or RESP3). Whatever else comes, an error of the server, a push message, a lost connection or a timeout, ends the
connection, and the caller asks again in the client's general way, which retries and raises what is to be raised.

Near servers answer within some 20 microseconds, less than it takes the system to put a thread to sleep and wake it, so
small reads look for the answer again and again for a moment before they sleep. Only one thread of a process does so
at a time, only where there is a second processor, and it stops trying with servers that take longer than that."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

_RECEIVE = 1 << 16  # bytes at once
_LONGEST_LINE = 32  # "$" and a length, or "_"
_MOST_KEPT = 64
_CHECK_AFTER = 30.0  # seconds without a read, after which the client checks the connection first
_SPIN = 100e-6  # seconds to look for an answer before sleeping
_SPIN_KEYS = 100  # at most, so that the server's own work is short
_CREDIT = 8  # answers missed in a row after which spinning stops
_RETRY_SPIN = 256  # reads after which it is tried again
_let_others_run = getattr(os, "sched_yield", lambda: None)
_END = b"\r\n"
_STRING = ord("$")


class _SurpriseError(Exception):
    """Something else than the expected answer."""


class _Kept:
    """A connection that is taken from the pool, with what a read needs of it at hand."""

    __slots__ = ("connection", "credit", "plain", "receive", "send", "socket", "timeout", "used")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.socket = connection._sock
        self.send: Callable[[bytes], None] = self.socket.sendall
        self.receive: Callable[[int], bytes] = self.socket.recv
        self.timeout = self.socket.gettimeout()
        self.plain = type(self.socket) is socket.socket  # with TLS, a socket that is readable may have no answer yet
        self.used = 0.0
        self.credit = _CREDIT

    def spins(self) -> bool:
        """Whether the next answer is worth spinning for."""
        if self.credit > 0:
            return self.plain
        self.credit -= 1
        if self.credit < -_RETRY_SPIN:
            self.credit = 1
        return False

    def ask_soon(self, command: bytes) -> bytes:
        """Send, and look for the answer without sleeping; its first bytes."""
        receive = self.receive
        self.socket.settimeout(0)
        try:
            sent = self.socket.send(command)
            if sent == len(command):
                until = time.perf_counter() + _SPIN
                while time.perf_counter() < until:
                    try:
                        data = receive(_RECEIVE)
                    except BlockingIOError:
                        _let_others_run()  # the server may be waiting for this very processor
                        continue
                    self.credit = _CREDIT
                    return data
                self.credit -= 1
        except BlockingIOError:
            sent = 0
        finally:
            self.socket.settimeout(self.timeout)
        if sent < len(command):
            self.send(command[sent:])
        return receive(_RECEIVE)


class RedisReads:
    """Reads for one client's ``pool``; ``failures`` are the errors that its connections raise, OSError among them.

    Safe to share between threads: each read has a connection of its own. At most half of the pool's connections are
    kept, so that the other half is always there for everything else. After a fork, the child begins anew.
    """

    def __init__(self, pool: Any, failures: tuple[type[Exception], ...]) -> None:
        self._pool = pool
        self._failures = failures
        self._most = min(_MOST_KEPT, pool.max_connections // 2)
        self._kept: dict[int, list[_Kept]] = {}  # by process; list operations are atomic, the last used comes first
        self._spinning = threading.Lock()
        self._spins = (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) > 1

    def mget(self, prefix: bytes, keys: Sequence[bytes]) -> list[bytes | None] | None:
        """The values of ``prefix + key`` of each key; ``None`` if they must be asked for in the general way."""
        process = os.getpid()
        idle = self._kept.get(process)
        if idle is None:
            idle = self._begin(process)
        now = time.monotonic()
        kept = self._take(idle, now)
        if kept is None:
            return None
        try:
            command = _command(prefix, keys)
            spinning = self._spinning
            if len(keys) <= _SPIN_KEYS and self._spins and kept.spins() and spinning.acquire(blocking=False):
                try:
                    data = kept.ask_soon(command)
                finally:
                    spinning.release()
            else:
                kept.send(command)
                data = kept.receive(_RECEIVE)
            values = _answer(data, kept.receive, len(keys))
        except (_SurpriseError, OSError):
            self._drop(kept)
            return None
        except BaseException:  # an interrupt: the answer is still to come, so no one may use the connection again
            self._drop(kept)
            raise
        kept.used = now
        if len(idle) < self._most:
            idle.append(kept)
        else:
            self._pool.release(kept.connection)
        return values

    def close(self) -> None:
        """Give all connections back to the pool."""
        idle = self._kept.get(os.getpid(), [])
        while idle:
            self._pool.release(idle.pop().connection)

    def _begin(self, process: int) -> list[_Kept]:
        idle = self._kept.setdefault(process, [])
        self._spinning = threading.Lock()  # another thread of the parent may have held it
        for other in list(self._kept):
            if other != process:  # the parent's, whose sockets stay open there
                self._kept.pop(other, None)
        return idle

    def _take(self, idle: list[_Kept], now: float) -> _Kept | None:
        try:
            kept = idle.pop()
        except IndexError:
            return self._connect()
        if now - kept.used < _CHECK_AFTER and not kept.connection.should_reconnect():
            return kept
        self._pool.release(kept.connection)
        return self._connect()

    def _connect(self) -> _Kept | None:
        if self._most == 0:
            return None
        try:
            connection = self._pool.get_connection()
        except self._failures:
            return None
        try:
            connection.check_health()
            if not connection.can_read():
                return _Kept(connection)
            connection.disconnect()
        except self._failures:
            connection.disconnect()
        except BaseException:
            connection.disconnect()
            self._pool.release(connection)
            raise
        self._pool.release(connection)
        return None

    def _drop(self, kept: _Kept) -> None:
        kept.connection.disconnect()
        self._pool.release(kept.connection)


def _command(prefix: bytes, keys: Sequence[bytes]) -> bytes:
    size = len(prefix)
    if len(keys) == 1:
        return b"*2\r\n$4\r\nMGET\r\n$%d\r\n%b%b\r\n" % (size + len(keys[0]), prefix, keys[0])
    words = [b"$%d\r\n%b%b\r\n" % (size + len(key), prefix, key) for key in keys]
    return b"*%d\r\n$4\r\nMGET\r\n%b" % (len(keys) + 1, b"".join(words))


def _answer(data: bytes, receive: Callable[[int], bytes], count: int) -> list[bytes | None]:
    """The ``count`` strings or nulls of an array that begins with ``data``.

    What is parsed is forgotten, so large answers cost linear time.
    """
    head = b"*%d\r\n" % count
    while not data.startswith(head):
        if not head.startswith(data):
            raise _SurpriseError
        data = _more(receive, data, len(data) + 1)
    position = len(head)
    values: list[bytes | None] = []
    for _ in range(count):
        end = data.find(_END, position)
        while end < 0:
            data, position = data[position:], 0
            if len(data) > _LONGEST_LINE:
                raise _SurpriseError
            data = _more(receive, data, len(data) + 1)
            end = data.find(_END)
        if data[position] == _STRING:
            try:
                size = int(data[position + 1 : end])
            except ValueError:
                raise _SurpriseError from None
            position = end + 2
            if size < 0:
                if size != -1:
                    raise _SurpriseError
                values.append(None)
                continue
            stop = position + size
            if data[stop : stop + 2] != _END:
                if len(data) >= stop + 2:
                    raise _SurpriseError
                data, position, stop = _more(receive, data[position:], size + 2), 0, size
                if data[stop : stop + 2] != _END:
                    raise _SurpriseError
            values.append(data[position:stop])
            position = stop + 2
        elif data[position:end] == b"_":
            values.append(None)
            position = end + 2
        else:
            raise _SurpriseError
    if position != len(data):
        raise _SurpriseError
    return values


def _more(receive: Callable[[int], bytes], data: bytes, least: int) -> bytes:
    """``data`` and what follows it, until they are ``least`` bytes."""
    parts = [data]
    missing = least - len(data)
    while missing > 0:
        part = receive(_RECEIVE)
        if not part:
            raise _SurpriseError
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)

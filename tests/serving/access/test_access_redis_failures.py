"""When Redis, or the way to it, fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from access_helpers import allowed, ask, bearer, in_loop, opened

from deepseek.errors import ConfigError
from deepseek.serving.access import AccessStoreError, open_store
from deepseek.serving.errors import AuthenticationError, NotReadyError


class Server:
    """A Redis server on a port of its own that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program is not None
        command = [program, "--port", str(self.port), "--dir", str(self._folder), "--save", "", "--appendonly", "yes"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(200):
            with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.url) as client:
                client.ping()
                return
            time.sleep(0.05)
        raise AssertionError("redis-server does not start")

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@pytest.fixture
def server(redis_server: str, tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    made.stop()


async def eventually(check: Any) -> None:
    """Wait until something holds."""
    for _ in range(200):
        with contextlib.suppress(NotReadyError):
            if await check():
                return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen within ten seconds")


@in_loop
async def test_redis_gone_and_back(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "deepseek")
    async with opened(server.url) as control:
        key = (await control.admin.create("k", plan="ten-rows")).key
        free = (await control.admin.create("u", plan="unlimited")).key
        await ask(control, key, rows=4)
        await control.sync()
        server.stop()
        answers = await asyncio.gather(*(ask(control, key) for _ in range(50)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {NotReadyError}
        await ask(control, free, rows=5)  # without limits there is nothing to ask
        assert caplog.text.count("does not work") == 1
        assert not any(key in record.getMessage() for record in caplog.records)

        async def nobody_gets_in() -> bool:
            try:
                control.authenticate(bearer(free))
            except NotReadyError:
                return True
            return False

        await eventually(nobody_gets_in)  # it might have been revoked meanwhile
        server.start()

        async def works() -> bool:
            await ask(control, key)
            return True

        await eventually(works)
        assert await allowed(control, key, 9) == 5
        await control.sync()
        found = {u.key_name: u.inferences for u in await control.admin.usage()}
        assert found == {"k": 10, "u": 5}

        async def told() -> bool:
            return caplog.text.count("works again") == 1

        await eventually(told)  # by the next exchange with it


@in_loop
async def test_a_redis_that_hangs_holds_nobody_up(server: Server) -> None:
    async with opened(server.url) as control:
        key = (await control.admin.create("k", plan="three")).key
        await ask(control, key)
        server.pause()
        try:
            async with asyncio.timeout(60):
                answers = await asyncio.gather(*(ask(control, key) for _ in range(20)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {NotReadyError}
        finally:
            server.go_on()

        async def answers_again() -> bool:
            return await allowed(control, key, 9) <= 2  # what was asked while it hung may have been taken

        await eventually(answers_again)


@in_loop
async def test_fail_open_lets_through_and_counts_later(server: Server) -> None:
    async with opened(server.url, fail_open=True) as control:
        key = (await control.admin.create("k", plan="three")).key
        assert await allowed(control, key, 5) == 3
        server.stop()
        answers = await asyncio.gather(*(ask(control, key) for _ in range(50)), return_exceptions=True)
        assert answers == [None] * 50
        await asyncio.sleep(2.6)  # longer than a store that must be reached is trusted
        await ask(control, key)
        server.start()

        async def limits_hold() -> bool:
            return await allowed(control, key, 1) == 0

        await eventually(limits_hold)
        await control.sync()
        (usage,) = await control.admin.usage()
        assert usage.requests >= 54


@in_loop
async def test_a_redis_that_lost_its_data_has_no_keys(redis_url: str) -> None:
    async with opened(redis_url) as control:
        key = (await control.admin.create("k")).key
        control.authenticate(bearer(key))
        with redis.Redis.from_url(redis_url) as client:
            client.flushdb()
        await control.sync()
        with pytest.raises(AuthenticationError):
            control.authenticate(bearer(key))
        again = (await control.admin.create("again")).key
        async with opened(redis_url) as other:
            other.authenticate(bearer(again))


class Way:
    """A way to Redis that can lose an answer: the question arrives, then the connection breaks."""

    def __init__(self, target: str) -> None:
        self._target = target.removeprefix("unix://").partition("?")[0]
        self.lose = False

    async def __aenter__(self) -> Way:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/7"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_unix_connection(self._target)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, back: bool) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    if back and self.lose:
                        break
                    sink.write(data)
                    await sink.drain()
            for end in (writer, to_redis):
                end.close()

        await asyncio.gather(pump(reader, to_redis, back=False), pump(from_redis, writer, back=True))


@in_loop
async def test_usage_whose_confirmation_was_lost_counts_once(redis_url: str) -> None:
    async with Way(redis_url) as way, opened(way.url) as control:
        key = (await control.admin.create("k", plan="unlimited")).key
        await ask(control, key, rows=7, tokens=(1, 1))
        way.lose = True
        with pytest.raises(AccessStoreError):
            await control.sync()
        await ask(control, key, rows=1)
        with pytest.raises(AccessStoreError):
            await control.sync()
        way.lose = False
        await control.sync()
        await control.sync()
        assert [(u.requests, u.inferences, u.input_tokens) for u in await control.admin.usage()] == [(2, 8, 1)]


@in_loop
async def test_a_redis_that_takes_no_writes_is_not_said_to_work(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        async with opened(redis_url) as control:
            key = (await control.admin.create("k", plan="three")).key
            client.config_set("min-replicas-to-write", 1)
            try:
                for _ in range(2):
                    with pytest.raises(NotReadyError):
                        await ask(control, key)
                    with pytest.raises(AccessStoreError):
                        await control.sync()
            finally:
                client.config_set("min-replicas-to-write", 0)
            await control.sync()
            assert await allowed(control, key, 5) == 3


@in_loop
async def test_connections_that_cannot_be(redis_server: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"redis://user:hidden@127.0.0.1:{free.getsockname()[1]}/0"
        with pytest.raises(AccessStoreError, match="server running") as raised:
            await open_store(nowhere).open()
    assert "hidden" not in str(raised.value)
    with pytest.raises(AccessStoreError, match="password"):
        await open_store(redis_server.replace("unix://", "unix://nobody:wrong@")).open()
    with pytest.raises(ConfigError, match="expected redis://"):
        open_store("redis://host:port/x?socket_timeout=abc")

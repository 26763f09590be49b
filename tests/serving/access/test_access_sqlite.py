"""The SQLite store among processes, and on disks that fail."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from access_helpers import NOON, Hands, Process, allowed, ask, bearer, in_loop, opened, together

from deepseek.errors import ConfigError
from deepseek.serving.access import AccessStoreError, open_store

HERE = Path(__file__).parent


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


async def make_key(store: str, plan: str) -> str:
    async with opened(store) as control:
        return (await control.admin.create("k", plan=plan)).key


async def used(store: str) -> tuple[int, int, int]:
    async with opened(store) as control:
        rows = await control.admin.usage()
        return sum(u.requests for u in rows), sum(u.inferences for u in rows), sum(u.input_tokens for u in rows)


def test_processes_on_one_file_lose_no_count(sqlite_url: str) -> None:
    key = asyncio.run(make_key(sqlite_url, "unlimited"))
    assert together([Process(sqlite_url, key, 2000) for _ in range(3)]) == 6000
    assert asyncio.run(used(sqlite_url)) == (6000, 12_000, 6000)


def test_a_killed_process_loses_its_last_second_at_most(sqlite_url: str) -> None:
    key = asyncio.run(make_key(sqlite_url, "unlimited"))
    process = Process(sqlite_url, key, 500, "--hold")
    process.ready()
    process.begin()
    assert process.count() == 500
    process.end(kill=True)
    assert asyncio.run(used(sqlite_url)) == (500, 1000, 500)


@in_loop
async def test_servers_on_one_file_learn_what_the_others_let_through(sqlite_url: str) -> None:
    async with opened(sqlite_url) as one, opened(sqlite_url) as two:
        minute = (await one.admin.create("m", plan="three")).key
        rows = (await one.admin.create("r", plan="ten-rows")).key
        tokens = (await one.admin.create("t", plan="hundred-tokens")).key
        await two.sync()
        assert await allowed(one, minute, 2) == 2
        assert await allowed(one, rows, 4, rows=2) == 4
        await ask(two, rows)
        await ask(one, tokens, tokens=(99, 1))
        for control in (one, two, one):
            await control.sync()
        assert await allowed(two, minute, 3) == 1
        assert await allowed(two, rows, 3) == 1
        assert await allowed(two, tokens, 1) == 0


@in_loop
async def test_what_the_disk_does_not_take_is_kept_and_stored_later(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(sqlite_url) as control:
        key = (await control.admin.create("k", plan="ten-rows")).key
        blocker = sqlite3.connect(path_of(sqlite_url), isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            await ask(control, key, rows=2)
            await control.sync()
        errors = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
        assert len(errors) == 1
        assert "kept in memory" in errors[0]
        assert key not in caplog.text
        assert await allowed(control, key, 9) == 4  # limits hold meanwhile
        assert await control.admin.usage() == []
        blocker.execute("ROLLBACK")
        blocker.close()
        await control.sync()
        assert [(u.requests, u.inferences) for u in await control.admin.usage()] == [(7, 10)]
        assert "works again" in caplog.text
        assert await allowed(control, key, 9) == 0


def child(code: str, store: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, store, str(HERE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from access_helpers import ask, in_loop, opened

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

@in_loop
async def test():
    async with opened(sys.argv[1]) as control:
        key = (await control.admin.create("k", plan="unlimited")).key
        await ask(control, key)
        await control.sync()
        free, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        for number in range(20):
            await ask(control, key, f"model-{number}")
            await control.sync()
        resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
        await control.sync()
        print(sum(u.requests for u in await control.admin.usage()))

test()
"""


def test_a_full_disk_stops_nothing(sqlite_url: str) -> None:
    done = child(FULL_DISK, sqlite_url)
    assert done.stdout == "21\n", done.stderr
    assert done.stderr.count("does not work") == 1
    assert done.stderr.count("works again") == 1


READ_ONLY = """
import os, sys, sqlite3
sys.path.insert(0, sys.argv[2])
from access_helpers import ask, in_loop, opened
import deepseek.serving.access.control, deepseek.serving.access.sqlite_store  # while its files may still be read

if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)

@in_loop
async def test():
    async with opened(sys.argv[1]) as control:
        await ask(control, sys.argv[3])
        await control.sync()
        await ask(control, sys.argv[3])
        print("served")

test()
"""


def test_a_read_only_disk_stops_nothing() -> None:
    folder = Path(tempfile.mkdtemp())  # not below a folder that only its owner may enter
    try:
        store = f"sqlite:///{folder / 'access.sqlite3'}"
        key = asyncio.run(make_key(store, "three"))
        path_of(store).chmod(0o444)
        folder.chmod(0o555)
        done = child(READ_ONLY, store, key)
        assert done.stdout == "served\n", done.stderr
        assert done.stderr.count("kept in memory") == 1
        assert done.stderr.count("are lost") == 1  # the process ends
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


LEFT_BEHIND = """
import os, sys
sys.path.insert(0, sys.argv[2])
from access_helpers import in_loop, opened
from deepseek.serving.access import AccessStoreError
import deepseek.serving.access.sqlite_store  # while its files may still be read

if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)

@in_loop
async def test():
    try:
        async with opened(sys.argv[1]) as control:
            print(*(record.state(0) for record in await control.admin.keys()))
    except AccessStoreError as error:
        print("refused:", error)

test()
"""


def test_a_revocation_that_a_killed_process_left_in_the_log_holds_on_a_disk_that_cannot_be_written(
    sqlite_url: str,
) -> None:
    async def revoke() -> None:
        async with opened(sqlite_url) as control:
            await control.admin.create("k")
            await control.sync()
        async with opened(sqlite_url) as control:
            await control.admin.revoke("k")
            for part in ("", "-wal"):  # as a killed process leaves them, without the shared memory
                shutil.copy(f"{path_of(sqlite_url)}{part}", folder / f"copy.sqlite3{part}")

    folder = Path(tempfile.mkdtemp())
    try:
        asyncio.run(revoke())
        folder.chmod(0o555)
        for part in ("", "-wal"):
            (folder / f"copy.sqlite3{part}").chmod(0o444)
        done = child(LEFT_BEHIND, f"sqlite:///{folder / 'copy.sqlite3'}")
        assert done.stdout.startswith(("revoked", "refused:")), done.stderr
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@in_loop
async def test_requests_that_are_stored_from_the_future_count_for_nobody(sqlite_url: str) -> None:
    hands = Hands()
    async with opened(sqlite_url, hands.clock) as control:
        key = (await control.admin.create("k", plan="three")).key
        hands.wall += 3600
        assert await allowed(control, key, 5) == 3
        await control.sync()
    hands.wall -= 3600  # a minute is over, but the wall clock was set back
    hands.monotonic += 61
    async with opened(sqlite_url, hands.clock) as control:
        assert await allowed(control, key, 5) == 3
        await control.sync()
        with sqlite3.connect(path_of(sqlite_url)) as database:
            assert database.execute("SELECT count(*) FROM recent WHERE at > ?", (hands.wall,)).fetchone() == (0,)


@in_loop
async def test_the_file_is_its_owners_alone(sqlite_url: str) -> None:
    async with opened(sqlite_url):
        assert stat.S_IMODE(path_of(sqlite_url).stat().st_mode) == 0o600


@in_loop
async def test_a_store_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database, but a text that is long enough to have a header" * 20)
    for address in (tmp_path / "file", tmp_path / "file" / "below", tmp_path):
        with pytest.raises(AccessStoreError, match="--store"):
            await open_store(f"sqlite:///{address}").open()
    other = tmp_path / "other.sqlite3"
    async with opened(str(other)):  # a plain path will do
        pass
    connection = sqlite3.connect(other)
    with connection:
        connection.execute("UPDATE meta SET value = 99 WHERE name = 'version'")
    connection.close()
    with pytest.raises(AccessStoreError, match="format 99"):
        await open_store(str(other)).open()


@pytest.mark.parametrize(
    "address", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://host/x", "mysql://x/y", ""]
)
def test_addresses_that_name_no_store(address: str) -> None:
    with pytest.raises(ConfigError, match="expected a store"):
        open_store(address)


@in_loop
async def test_many_open_a_new_file_at_the_same_time(sqlite_url: str) -> None:
    stores = [open_store(sqlite_url) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.close() for store in stores))


@in_loop
async def test_a_damaged_record_is_told(sqlite_url: str) -> None:
    key = await make_key(sqlite_url, "three")
    connection = sqlite3.connect(path_of(sqlite_url))
    with connection:
        connection.execute("UPDATE keys SET record = '{}'")
    connection.close()
    async with opened(sqlite_url) as control:
        with pytest.raises(AccessStoreError, match=r"access\.sqlite3"):
            await control.admin.keys()
        from deepseek.serving.errors import AuthenticationError

        with pytest.raises(AuthenticationError):
            control.authenticate(bearer(key))


@in_loop
async def test_an_answer_after_midnight_counts_on_its_own_day(sqlite_url: str) -> None:
    hands = Hands(NOON + 43_199)
    async with opened(sqlite_url, hands.clock) as control:
        key = (await control.admin.create("k", plan="all")).key
        principal = control.authenticate(bearer(key))
        control.admit(principal, "sentiment", 1)
        hands.pass_(2)
        await ask(control, key)
        control.charge(principal, "sentiment", 1, 5, 5)
        await control.sync()
        assert [(u.requests, u.input_tokens) for u in await control.admin.usage()] == [(2, 5)]

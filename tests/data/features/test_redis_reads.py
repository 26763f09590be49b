"""The short way of reading from Redis gives what the client's general way gives, whatever the connection does."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import socket
import subprocess
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepseek.data.features.online import Space, open_online_store
from deepseek.errors import OnlineStoreError

VIEW = Space("people", 1)
PREFIX = b"deepseek:{people@1}:r:"


@pytest.fixture(params=["", "protocol=2", "protocol=3", "max_connections=1"])
def store(request, redis_server):
    with open_online_store(f"{redis_server}?{request.param}") as opened:
        yield opened
        opened._client.flushall()


def general(store, keys):
    return store._client.mget([PREFIX + key for key in keys])


def counted(store, monkeypatch):
    """Counts the reads that the short way left to the general one."""
    calls = []
    mget = store._client.mget
    monkeypatch.setattr(store._client, "mget", lambda *args: calls.append(1) or mget(*args))
    return calls


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.dictionaries(st.binary(max_size=6), st.binary(min_size=0, max_size=30)),
    asked=st.lists(st.binary(max_size=6), min_size=1, max_size=5),
)
def test_the_short_way_reads_what_the_general_way_reads(store, records, asked):
    store.clear(VIEW)
    for key, value in records.items():
        store._client.set(PREFIX + key, value)
    asked = [*asked, *records]
    assert store.read(VIEW, asked) == general(store, asked) == [records.get(key) for key in asked]


def test_answers_of_any_size(store, monkeypatch):
    values = {
        b"empty": b"",
        b"lines": b"$-1\r\n*2\r\n\r\n",
        b"large": bytes(range(256)) * 20_000,
        **{b"%d" % n: b"v%d\r\n" % n * (n % 97) for n in range(3_000)},
    }
    for key, value in values.items():
        store._client.set(PREFIX + key, value)
    calls = counted(store, monkeypatch)
    for asked in ([b"large"], [b"empty"], [b"lines"], [b"none"], [*values, b"none", b"large"], [b"none"] * 20_000):
        assert store.read(VIEW, asked) == [values.get(key) for key in asked]
    one = store._client.connection_pool.max_connections == 1
    assert len(calls) == (6 if one else 0)  # with one connection in all, none can be kept


def test_a_key_of_another_type_reads_as_in_the_general_way(store):
    store._client.sadd(PREFIX + b"set", b"member")
    assert store.read(VIEW, [b"set"]) == general(store, [b"set"]) == [None]


def test_threads_share_a_store(store):
    if store._client.connection_pool.max_connections == 1:
        pytest.skip("one connection is for one thread")
    store.write(VIEW, [(b"%d" % n, b"value %d" % n) for n in range(500)])
    wrong = []

    def reads(start):
        for n in range(start, start + 300):
            asked = [b"%d" % ((n + i) % 500) for i in range(1 + n % 5)]
            if store.read(VIEW, asked) != [b"value " + key for key in asked]:
                wrong.append(asked)

    threads = [threading.Thread(target=reads, args=(37 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(store._client.connection_pool._in_use_connections) <= 8


def test_more_readers_than_connections_may_be_kept(redis_server):
    with open_online_store(f"{redis_server}?max_connections=8") as store:
        store.write(VIEW, [(b"a", b"1")])
        for _ in range(3):
            threads = [threading.Thread(target=store.read, args=(VIEW, [b"a"] * 50)) for _ in range(7)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(store._client.connection_pool._in_use_connections) <= 4
            store.write(VIEW, [(b"a", b"2")])
        store._client.flushall()


def _child(store, queue):
    try:
        queue.put([store.read(VIEW, [b"%d" % (n % 100)]) == [b"value %d" % (n % 100)] for n in range(300)])
    except Exception as error:  # noqa: BLE001  # the parent reports it
        queue.put(repr(error))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_its_own_connections(redis_server):
    with open_online_store(redis_server) as store:
        store.write(VIEW, [(b"%d" % n, b"value %d" % n) for n in range(100)])
        assert store.read(VIEW, [b"1"]) == [b"value 1"]
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_child, args=(store, queue))
        child.start()
        mine = [store.read(VIEW, [b"%d" % (n % 50)]) == [b"value %d" % (n % 50)] for n in range(300)]
        assert queue.get(timeout=30) == mine == [True] * 300
        child.join(30)
        assert store.read(VIEW, [b"2"]) == [b"value 2"]
        store._client.flushall()


def test_the_server_closes_the_connections_between_reads(redis_server, monkeypatch):
    with open_online_store(redis_server) as store:
        store.write(VIEW, [(b"a", b"1")])
        assert store.read(VIEW, [b"a"]) == [b"1"]
        store._client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
        calls = counted(store, monkeypatch)
        assert [store.read(VIEW, [b"a"]) for _ in range(3)] == [[b"1"]] * 3
        assert len(calls) == 1  # and then the short way again
        store._client.flushall()


def test_the_server_starts_again_between_reads(tmp_path_factory):
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt install redis-server)")
    folder = tmp_path_factory.mktemp("r")
    command = [program, "--port", "0", "--unixsocket", str(folder / "s"), "--dir", str(folder), "--save", ""]

    @contextlib.contextmanager
    def running():
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            for _ in range(200):
                with contextlib.suppress(OnlineStoreError):
                    open_online_store(f"unix://{folder / 's'}").close()
                    break
                time.sleep(0.02)
            yield
        finally:
            server.kill()
            server.wait(10)

    with running():
        store = open_online_store(f"unix://{folder / 's'}")
        store.write(VIEW, [(b"a", b"1")])
        assert store.read(VIEW, [b"a"]) == [b"1"]
    with pytest.raises(OnlineStoreError, match="does not answer"):
        store.read(VIEW, [b"a"])
    with running():
        assert store.read(VIEW, [b"a"]) == [None]
        store.write(VIEW, [(b"a", b"2")])
        assert store.read(VIEW, [b"a"]) == [b"2"]
        store.close()


class Server:
    """Answers as a real server would, but for ``MGET``: with the next of ``answers``, in pieces of ``size`` bytes."""

    def __init__(self, answers, size=1, pause=0.0, think=0.0):
        self.answers, self.size, self.pause, self.think = list(answers), size, pause, think
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}/0?protocol=2"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *caught):
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as reader:
            while line := reader.readline():
                words = []
                for _ in range(int(line[1:])):
                    length = int(reader.readline()[1:])
                    words.append(reader.read(length + 2)[:-2].upper())
                if words[0] != b"MGET":
                    connection.sendall(b"+PONG\r\n" if words[0] == b"PING" else b"+OK\r\n")
                    continue
                answer = self.answers.pop(0)
                time.sleep(self.think)
                if answer is None:
                    return
                for start in range(0, len(answer), self.size):
                    connection.sendall(answer[start : start + self.size])
                    time.sleep(self.pause)


GOOD = b"*3\r\n$2\r\n\r\n\r\n$-1\r\n$11\r\nhello world\r\n"


@pytest.mark.parametrize(("size", "pause"), [(1, 0.0), (1, 0.001), (2, 0.0), (7, 0.0005)])
def test_answers_in_fragments(monkeypatch, size, pause):
    with Server([GOOD] * 5, size, pause) as server, open_online_store(server.url) as store:
        calls = counted(store, monkeypatch)
        for _ in range(5):
            assert store.read(VIEW, [b"a", b"b", b"c"]) == [b"\r\n", None, b"hello world"]
        assert calls == []


def test_nulls_of_the_newer_protocol(monkeypatch):
    with Server([b"*2\r\n_\r\n$1\r\nx\r\n"]) as server, open_online_store(server.url) as store:
        calls = counted(store, monkeypatch)
        assert store.read(VIEW, [b"a", b"b"]) == [None, b"x"]
        assert calls == []


@pytest.mark.parametrize(
    "surprise",
    [
        None,  # closed
        b"-ERR something\r\n",
        b"*1\r\n$1\r\nx\r\n",
        b"*3\r\n$1\r\nx\r\n:5\r\n$1\r\ny\r\n",
        b"*3\r\n$1\r\nx\r\n$x\r\n$1\r\ny\r\n",
        b"*3\r\n$1\r\nxyz\r\n",
        b"*3\r\n$-2\r\n$1\r\ny\r\n$-1\r\n",
        b">2\r\n+moved\r\n+x\r\n",
        GOOD + b">1\r\n+x\r\n",  # seen at once, or before the next answer
        b"*3\r\n$" + b"1" * 100,
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_surprise_ends_the_connection_and_is_asked_again(monkeypatch, surprise, size):
    with Server([GOOD, surprise, GOOD, GOOD], size) as server, open_online_store(server.url) as store:
        calls = counted(store, monkeypatch)
        for _ in range(3):
            assert store.read(VIEW, [b"a", b"b", b"c"]) == [b"\r\n", None, b"hello world"]
        assert calls == [1]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "does not answer.*loading"),
        (b"-NOPERM this user has no permissions\r\n", "refused the user or password"),
        (b"-OOM command not allowed\r\n", "out of memory"),
        (b"-ERR broken\r\n", "broken"),
    ],
)
def test_errors_of_the_server_are_raised_as_ever(error, message):
    with Server([error] * 20) as server, open_online_store(server.url) as store:
        with pytest.raises(OnlineStoreError, match=message):
            store.read(VIEW, [b"a", b"b", b"c"])
        server.answers[:] = [GOOD]
        assert store.read(VIEW, [b"a", b"b", b"c"])[2] == b"hello world"


def test_a_server_that_does_not_answer_in_time():
    half = GOOD[:-5]
    with Server([half] * 20) as server, open_online_store(server.url, timeout=0.1) as store:
        with pytest.raises(OnlineStoreError, match="does not answer"):
            store.read(VIEW, [b"a", b"b", b"c"])
        server.answers[:] = [GOOD, GOOD]
        assert store.read(VIEW, [b"a", b"b", b"c"])[2] == b"hello world"


def test_slow_servers_are_not_spun_for(monkeypatch):
    from deepseek.data.features.online import redis_reads

    spun = []
    ask = redis_reads._Kept.ask_soon
    monkeypatch.setattr(redis_reads._Kept, "ask_soon", lambda *args: spun.append(1) or ask(*args))
    with Server([GOOD] * 300, 1000, think=0.0005) as server, open_online_store(server.url) as store:
        for _ in range(300):
            assert store.read(VIEW, [b"a", b"b", b"c"])[2] == b"hello world"
    assert len(spun) <= 10  # the first ones, and another try later


def test_an_interrupt_ends_the_connection(redis_server, monkeypatch):
    from deepseek.data.features.online import redis_reads

    with open_online_store(redis_server) as store:
        store.write(VIEW, [(b"a", b"1"), (b"b", b"2")])
        with monkeypatch.context() as patch:

            def interrupted(*args):
                raise KeyboardInterrupt

            patch.setattr(redis_reads, "_answer", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.read(VIEW, [b"a"])
        assert store.read(VIEW, [b"b"]) == [b"2"]
        store._client.flushall()

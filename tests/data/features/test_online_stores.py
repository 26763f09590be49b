"""The contract of online stores, run against every one of them; Redis is a real server."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepseek.data.features.online import ONLINE_STORES, Space, StaleWriteError, State, open_online_store
from deepseek.errors import ConfigError, OnlineStoreError, UnknownNameError

VIEW = Space("people", 1)
CONTRACT = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=ONLINE_STORES.names())
def address(request, tmp_path):
    """The address of an empty store of each kind."""
    if request.param == "embedded":
        yield str(tmp_path / "online")
        return
    if request.param != "redis":
        pytest.skip(f"no server for {request.param!r} here")
    url = request.getfixturevalue("redis_server")
    store = open_online_store(url)
    yield url
    store._client.flushall()
    store.close()


@pytest.fixture
def store(address):
    with open_online_store(address) as opened:
        yield opened


def content(store, space=VIEW):
    return dict(store.records(space))


KEYS = st.one_of(
    st.binary(max_size=4), st.sampled_from([b"", b"\0", b"\0\1", b"*?[x]\\", b"k" * 480, b"k" * 481, b"k" * 5000])
)
RECORDS = st.lists(st.tuples(KEYS, st.binary(min_size=1, max_size=40)), max_size=40)


@CONTRACT
@given(records=RECORDS, data=st.data())
def test_the_greatest_record_wins_whatever_the_order_and_the_repeats(store, records, data):
    store.clear(VIEW)
    expected = {}
    for key, record in records:
        expected[key] = max(record, expected.get(key, b""))
    written = data.draw(st.permutations(records)) + (
        data.draw(st.lists(st.sampled_from(records), max_size=10)) if records else []
    )
    cut = data.draw(st.integers(0, len(written)))
    store.write(VIEW, written[:cut])
    store.write(VIEW, written[cut:])
    assert content(store) == expected
    asked = [*expected, b"unknown", *list(expected)[:2]]
    assert store.read(VIEW, asked) == [expected.get(key) for key in asked]


@CONTRACT
@given(records=RECORDS, removed=st.lists(KEYS, max_size=5), floor=st.binary(max_size=2))
def test_removing_and_sweeping(store, records, removed, floor):
    store.clear(VIEW)
    store.write(VIEW, records)
    before = content(store)
    store.write(VIEW, [(b"new", b"x")], remove=removed)
    expected = {key: record for key, record in before.items() if key not in removed}
    expected[b"new"] = max(b"x", expected.get(b"new", b""))
    assert content(store) == expected
    swept = store.sweep(VIEW, floor)
    kept = {key: record for key, record in expected.items() if record >= floor}
    assert content(store) == kept
    assert swept == len(expected) - len(kept)


def test_write_counts_the_keys_that_changed(store):
    assert store.write(VIEW, [(b"a", b"1"), (b"b", b"1")]) == 2
    assert store.write(VIEW, [(b"a", b"1"), (b"b", b"2"), (b"c", b"0")], remove=[b"nothing"]) == 2
    assert store.write(VIEW, [], remove=[b"a"]) == 1
    assert store.write(VIEW, []) == 0


def test_an_empty_store_has_nothing(store):
    assert store.read(VIEW, [b"a", b"b"]) == [None, None]
    assert store.read(VIEW, []) == []
    assert store.state(VIEW) is None
    assert store.spaces() == []
    store.clear(VIEW)


def test_spaces_live_side_by_side(store):
    spaces = [Space("a", 1), Space("a", 2), Space("a", 11), Space("ab", 1)]
    for number, space in enumerate(spaces):
        store.write(space, [(b"k", bytes([number + 1]))], state=State(1, b"p%d" % number))
    assert store.spaces() == spaces
    store.clear(Space("a", 1))
    assert store.read(Space("a", 1), [b"k"]) == [None]
    assert store.state(Space("a", 1)) is None
    assert store.spaces() == spaces[1:]
    for number, space in list(enumerate(spaces))[1:]:
        assert store.read(space, [b"k"]) == [bytes([number + 1])]
        assert store.state(space) == State(1, b"p%d" % number)
    store.write(Space("a", 1), [(b"new", b"1")])
    assert content(store, Space("a", 1)) == {b"new": b"1"}


def test_an_overtaken_writer_changes_nothing(store):
    store.write(VIEW, [(b"a", b"1")], state=State(1, b"first"))
    with pytest.raises(StaleWriteError, match="people@1 was written by another process"):
        store.write(VIEW, [(b"a", b"9"), (b"b", b"9")], remove=[b"a"], state=State(1, b"again"))
    with pytest.raises(StaleWriteError):
        store.sweep(VIEW, b"\xff", state=State(3, b"skipped"))
    assert content(store) == {b"a": b"1"}
    assert store.state(VIEW) == State(1, b"first")
    store.write(VIEW, [(b"b", b"2")], state=State(2, b"second\0\xff"))
    assert store.state(VIEW) == State(2, b"second\0\xff")
    assert store.sweep(VIEW, b"2", state=State(3, b"third")) == 1
    assert store.state(VIEW) == State(3, b"third")


def test_large_writes_come_back_whole(store):
    records = [(b"%d" % n, random.Random(n).randbytes(n % 3000)) for n in range(3000)]
    assert store.write(VIEW, records) == 3000 - sum(not record for _, record in records) + 1
    assert store.read(VIEW, [key for key, _ in records]) == [record for _, record in records]
    assert content(store) == dict(records)


def test_readers_see_whole_records_while_a_writer_writes(address):
    """Threads that share a store, and processes that open their own, read only what was written, and never older."""
    with open_online_store(address) as store:
        keys = [b"%d" % n for n in range(20)]
        store.write(VIEW, [(key, _whole(0)) for key in keys])
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        processes = [context.Process(target=_read_on, args=(address, keys, results)) for _ in range(2)]
        for process in processes:
            process.start()
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(_read(store, keys, 200))) for _ in range(4)]
        for thread in threads:
            thread.start()
        turn = 0
        while any(thread.is_alive() for thread in threads) or (turn < 100_000 and any(p.is_alive() for p in processes)):
            turn += 1
            store.write(VIEW, [(key, _whole(turn)) for key in keys])
        for process in processes:
            process.join(30)
        assert [*answers, *(results.get(timeout=10) for _ in processes)] == ["fine"] * 6


def _whole(turn):
    return b"%08d" % turn + b"%08d" % turn * 20


def _read(store, keys, rounds):
    newest = dict.fromkeys(keys, b"")
    for _ in range(rounds):
        for key, record in zip(keys, store.read(VIEW, keys), strict=True):
            if record != _whole(int(record[:8])):
                return f"torn: {record!r}"
            if record < newest[key]:
                return f"went back: {newest[key]!r} to {record!r}"
            newest[key] = record
    return "fine"


def _read_on(address, keys, results):
    with open_online_store(address) as store:
        results.put(_read(store, keys, 200))


def test_many_writers_do_not_lose_one_anothers_rows(address):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_on, args=(address, seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    expected = {}
    for seed in range(3):
        for key, record in _random_records(seed):
            expected[key] = max(record, expected.get(key, b""))
    with open_online_store(address) as store:
        assert content(store) == expected


def _random_records(seed):
    draw = random.Random(seed)
    return [(b"%d" % draw.randrange(300), draw.randbytes(8)) for _ in range(3000)]


def _write_on(address, seed):
    records = _random_records(seed)
    with open_online_store(address) as store:
        for start in range(0, len(records), 100):
            store.write(VIEW, records[start : start + 100])


WRITER = """
import sys
from deepseek.data.features.online import Space, State, open_online_store
space = Space("people", 1)
with open_online_store(sys.argv[1]) as store:
    state = store.state(space)
    done = state.sequence if state else 0
    print("ready", flush=True)
    for turn in range(done, 300):
        records = [(b"%d" % (n % 211), b"%06d" % (turn * 7 + n)) for n in range(turn, turn + 50)]
        store.write(space, records, remove=[b"gone%d" % turn], state=State(turn + 1, b"at %d" % (turn + 1)))
"""


def test_a_writer_that_is_killed_and_started_again_ends_with_the_same_content(address, tmp_path):
    draw = random.Random(5)
    kills = 0
    for _ in range(30):
        process = subprocess.Popen([sys.executable, "-c", WRITER, address], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0.001, 0.05) if kills < 4 else 60)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        process.stdout.close()
        with open_online_store(address) as store:
            state = store.state(VIEW)
            if state is not None and state.sequence == 300:
                break
    expected = {}
    for turn in range(300):
        for n in range(turn, turn + 50):
            expected[b"%d" % (n % 211)] = max(b"%06d" % (turn * 7 + n), expected.get(b"%d" % (n % 211), b""))
    with open_online_store(address) as store:
        assert store.state(VIEW) == State(300, b"at 300")
        assert content(store) == expected


def test_a_forked_process_may_go_on_using_an_open_store(store):
    store.write(VIEW, [(b"a", b"1")])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            store.write(VIEW, [(b"b", b"2")])
            os.write(write, b"".join(store.read(VIEW, [b"a", b"b"])))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"12"
    assert store.read(VIEW, [b"b"]) == [b"2"]


def test_a_closed_store_that_was_opened_twice_stays_open_for_the_other(address):
    first, second = open_online_store(address), open_online_store(address)
    first.write(VIEW, [(b"a", b"1")])
    first.close()
    assert second.read(VIEW, [b"a"]) == [b"1"]
    second.close()


def test_addresses(tmp_path):
    with pytest.raises(UnknownNameError, match=r"address scheme 'reddis'.*'redis'"):
        open_online_store("reddis://localhost")
    with pytest.raises(ConfigError, match="has no option 'ttl'"):
        open_online_store(tmp_path / "x", ttl=3)
    with open_online_store(tmp_path / "x") as store:
        assert open_online_store(store) is store


def test_the_embedded_store_says_what_is_wrong_with_its_folder(tmp_path):
    with pytest.raises(OnlineStoreError, match=r"there is no online store at .*materialise"):
        open_online_store(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(OnlineStoreError, match="is a file"):
        open_online_store(tmp_path / "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.csv").write_text("x")
    with pytest.raises(OnlineStoreError, match="something that is not an online store"):
        open_online_store(tmp_path / "other")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "data.mdb").write_bytes(b"junk" * 5000)
    with pytest.raises(OnlineStoreError, match="not an online store, or it is damaged"):
        open_online_store(tmp_path / "bad")
    store = open_online_store(tmp_path / "x")
    reader = open_online_store(tmp_path / "x", read_only=True)
    with pytest.raises(OnlineStoreError, match="for reading only"):
        reader.write(VIEW, [(b"a", b"1")])
    store.close()
    with pytest.raises(OnlineStoreError, match="is closed"):
        store.read(VIEW, [b"a"])
    with (
        open_online_store(tmp_path / "small", map_size=1 << 20) as small,
        pytest.raises(OnlineStoreError, match="larger map_size"),
    ):
        small.write(VIEW, [(b"%d" % n, bytes(1000)) for n in range(5000)])


def test_clearing_that_was_interrupted_is_finished_at_the_next_opening(tmp_path, monkeypatch):
    from deepseek.data.features.online.embedded import EmbeddedStore

    with open_online_store(tmp_path / "x") as store:
        store.write(VIEW, [(b"%d" % n, b"1") for n in range(100)])
        with monkeypatch.context() as patch:
            patch.setattr(EmbeddedStore, "_finish_removals", lambda self: None)
            store.clear(VIEW)
        assert content(store) == {}
        assert store._environment.stat()["entries"] > 100
    with open_online_store(tmp_path / "x") as store:
        assert store._environment.stat()["entries"] == 1


def test_redis_says_what_is_wrong_with_its_connection(redis_server):
    with pytest.raises(OnlineStoreError, match=r"does not answer.*Is the server running") as caught:
        open_online_store("redis://user:secret@127.0.0.1:1/0")
    assert "secret" not in str(caught.value)
    with pytest.raises(OnlineStoreError, match="refused the user or password"):
        open_online_store(redis_server.replace("unix://", "unix://nobody:wrong@"))
    with pytest.raises(ConfigError, match="expected redis://"):
        open_online_store("redis://localhost:port/0")


def test_redis_keys_expire_when_asked_to(redis_server):
    import datetime as dt

    with open_online_store(redis_server, expire=dt.timedelta(seconds=100), prefix="other") as store:
        store.write(VIEW, [(b"a", b"1")])
        assert 90_000 < store._client.pttl("other:{people@1}:r:a") <= 100_000
        store.clear(VIEW)
        assert store._client.keys("other:*") == []

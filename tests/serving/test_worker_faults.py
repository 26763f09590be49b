"""Worker processes that die, hang, stand still, leak or come back different; nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest
from pool_serving import alive, do, made, run, serving, until

from deepseek.errors import ConfigError
from deepseek.serving.errors import DeadlineError, NotReadyError, WorkerCrashError, describe

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix sockets and signals")


def test_kill_9_under_load_loses_nothing() -> None:
    async def test() -> None:
        pool = made(workers=2)
        async with serving(pool, max_batch_size=8) as batcher:
            loop = asyncio.get_running_loop()
            end = loop.time() + 2.5
            answered = 0

            async def client(number: int) -> None:
                nonlocal answered
                while loop.time() < end:
                    values = [number * 1000 + place for place in range(random.randint(1, 12))]
                    rows = [{"do": "", "v": value} for value in values]
                    assert [row["v"] for row in await batcher.submit(rows)] == values
                    answered += 1

            async def killer() -> None:
                while loop.time() < end - 0.3:
                    await asyncio.sleep(0.25)
                    victims = [worker for worker in pool.statistics if worker.state in ("idle", "busy")]
                    if victims:
                        os.kill(random.choice(victims).pid, signal.SIGKILL)

            await asyncio.gather(killer(), *(client(number) for number in range(24)))
            assert answered > 24
            await until(lambda: sum(w.state in ("idle", "busy") for w in pool.statistics) == 2)
            assert pool.restarts >= 2
            assert pool.ready

    run(test)


def test_the_only_worker_dies_the_model_is_unready_until_it_is_back_and_the_batch_is_answered(tmp_path: Path) -> None:
    async def test() -> None:
        pool = made()
        async with serving(pool) as batcher:
            answer = batcher.submit(do(f"once {tmp_path / 'died'}", 5))
            await until(lambda: not batcher.ready)
            assert (await answer)[0]["v"] == 5
            assert batcher.ready
            assert pool.restarts == 1

    run(test)


@pytest.mark.parametrize("how", ["die", "segfault", "exit"])
def test_one_poisonous_row_fails_alone(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        pool = made(workers=2)
        async with serving(pool, max_batch_size=8) as batcher:
            first = [batcher.submit(do("sleep 0.1")) for _ in range(2)]  # what follows waits, and goes together
            answers = [batcher.submit(do(how if value == 3 else "", value)) for value in range(6)]
            got = await asyncio.gather(*first, *answers, return_exceptions=True)
            guilty = got.pop(2 + 3)
            assert isinstance(guilty, WorkerCrashError)
            assert "died each time that it was given this request" in describe(guilty).message
            assert [row[0]["v"] for row in got] == [0, 0, 0, 1, 2, 4, 5]
            assert 2 <= pool.restarts <= 4

    run(test)
    assert {"die": "SIGKILL", "segfault": "SIGSEGV", "exit": "exit code 3"}[how] in caplog.text


def test_a_call_that_hangs_is_ended_and_its_worker_replaced() -> None:
    async def test() -> None:
        pool = made()
        async with serving(pool, timeout_seconds=0.5) as batcher:
            (before,) = (worker.pid for worker in pool.statistics)
            with pytest.raises(DeadlineError, match=r"'obedient' took more than 0\.5 seconds"):
                await batcher.submit(do("sleep 60"))
            assert (await batcher.submit(do("", 1)))[0]["pid"] != before
            assert not alive(before)

    run(test)


def test_a_process_that_stands_still_is_replaced_and_its_batch_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        pool = made(beat_timeout_seconds=2.0)
        async with serving(pool) as batcher:
            (before,) = (worker.pid for worker in pool.statistics)
            answer = batcher.submit(do("sleep 0.3", 7))
            await until(lambda: pool.free == 0)
            os.kill(before, signal.SIGSTOP)
            (got,) = await answer
            assert got["v"] == 7
            assert got["pid"] != before

    run(test)
    assert "no sign of life for 2 seconds" in caplog.text


def test_a_leaking_worker_is_replaced_without_dropping_a_request() -> None:
    async def test() -> None:
        pool = made()
        await pool.start()
        await until(lambda: pool.statistics[0].rss_bytes > 0)
        limit = pool.statistics[0].rss_bytes + (64 << 20)
        await pool.stop()
        with pytest.raises(ConfigError, match="expected max_worker_memory above the loaded"):
            await made(max_worker_memory=1 << 20).start()
        pool = made(max_worker_memory=limit)
        async with serving(pool) as batcher:
            pids = set()
            for _ in range(200):
                pids.add((await batcher.submit(do("leak 2")))[0]["pid"])
                assert batcher.ready
                await asyncio.sleep(0.01)
                if len(pids) == 2:
                    break
            assert len(pids) == 2
            assert pool.replacements == 1
            assert pool.restarts == 0

    run(test)


def test_workers_are_replaced_after_so_many_requests_one_at_a_time_under_load() -> None:
    async def test() -> None:
        pool = made(workers=2, max_worker_requests=50)
        async with serving(pool, max_batch_size=4) as batcher:
            pids, most = set(), 0
            while pool.replacements < 3:
                got = await asyncio.gather(*(batcher.submit(do("", value)) for value in range(16)))
                assert [rows[0]["v"] for rows in got] == list(range(16))
                pids |= {rows[0]["pid"] for rows in got}
                most = max(most, len([w for w in pool.statistics if w.state == "loading"]))
                assert batcher.ready
            assert len(pids) >= 4
            assert most == 1
            assert pool.restarts == 0

    run(test)


def test_a_crash_loop_is_given_up_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        marker = str(tmp_path / "loaded")
        pool = made("worker_models:broken", {"how": "die", "marker": marker}, max_failures=3)
        async with serving(pool) as batcher:
            with pytest.raises(NotReadyError, match=r"'obedient' is not ready: its workers died 3 times in a row"):
                await batcher.submit(do("die"))
            assert not batcher.ready
            with pytest.raises(NotReadyError, match="3 times in a row"):
                batcher.submit(do(""))
            assert pool.statistics == []

    run(test)
    assert "no more are started" in caplog.text


def test_a_restarted_worker_that_loads_another_model_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        arguments = {"how": "other", "marker": str(tmp_path / "loaded")}
        pool = made("worker_models:broken", arguments, max_failures=2)
        async with serving(pool) as batcher:
            with pytest.raises(NotReadyError, match="died 2 times in a row"):
                await batcher.submit(do("die"))

    run(test)
    assert "what it has loaded differs from what the others have" in caplog.text


def test_a_drain_while_a_worker_is_restarted_ends_what_is_starting() -> None:
    async def test() -> None:
        pool = made(workers=2)
        async with serving(pool) as batcher:
            await asyncio.gather(batcher.submit(do("exit")), return_exceptions=True)
            await until(lambda: any(worker.state == "loading" and worker.pid for worker in pool.statistics))
            starting = [worker.pid for worker in pool.statistics if worker.state == "loading"]
            await batcher.drain()
            assert pool.statistics == []
            assert not any(map(alive, starting))

    run(test)


SERVER = textwrap.dedent("""
    import asyncio, signal, sys
    from deepseek.serving.batching import BatchingConfig, MicroBatcher
    from deepseek.serving.workers import LoaderSpec, WorkerPool, WorkersConfig

    async def main():
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
        pool = WorkerPool(LoaderSpec(function="worker_models:obedient"), WorkersConfig(workers=2))
        await pool.start()
        batcher = MicroBatcher(pool)
        answer = batcher.submit([{"do": sys.argv[1], "v": 42}])
        await asyncio.sleep(0.3)
        print(*(worker.pid for worker in pool.statistics), flush=True)
        await stop.wait()
        await batcher.drain()
        print((await answer)[0]["v"], flush=True)

    asyncio.run(main())
""")


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Any:
    here = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, request.param],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path])},
        process_group=0,
    ) as process:
        assert process.stdout is not None
        yield process, [int(pid) for pid in process.stdout.readline().split()]
        process.kill()


@pytest.mark.parametrize("server", ["sleep 60"], indirect=True)
def test_workers_do_not_outlive_a_server_that_is_killed(server: Any) -> None:
    process, pids = server
    assert all(map(alive, pids))
    process.kill()
    process.wait()
    psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10)
    assert not any(map(alive, pids))


@pytest.mark.parametrize("server", ["sleep 1"], indirect=True)
def test_a_ctrl_c_for_the_group_lets_the_server_drain_first(server: Any) -> None:
    process, pids = server
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "42\n"
    assert process.wait(20) == 0
    assert not any(map(alive, pids))

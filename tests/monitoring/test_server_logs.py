"""Log lines: their form, what they never say, and whose handlers they leave alone."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek.monitoring.logs import LogConfig, Logs, request_id
from deepseek.monitoring.logs.suppression import Suppression
from deepseek.monitoring.logs.writer import ThreadedHandler
from deepseek.monitoring.metrics import take
from deepseek.monitoring.metrics.samples import total

log = logging.getLogger("deepseek.serving")


@contextmanager
def alone(*handlers: logging.Handler) -> Iterator[None]:
    """The root has these handlers only; the test runner's would keep ours from being added."""
    root, ours = logging.getLogger(), logging.getLogger("deepseek")
    before, level = root.handlers[:], ours.level
    root.handlers[:] = handlers
    try:
        yield
        assert root.handlers == list(handlers)
    finally:
        root.handlers[:] = before
    assert (ours.level, ours.handlers) == (level, [])


def lines(config: LogConfig, work: Any) -> list[str]:
    stream = io.StringIO()
    with alone(), Logs(config, stream) as logs:
        work(logs)
    return stream.getvalue().splitlines()


def fail() -> None:
    try:
        try:
            raise KeyError("inner secret")
        except KeyError as error:
            raise ValueError("expected a number, received 'my diagnosis'") from error
    except ValueError as error:
        log.error("request failed, incident %s", "abc", exc_info=error, extra={"request_id": "r1", "body": "secret"})


def test_json_lines_have_a_fixed_form() -> None:
    (line,) = lines(LogConfig(format="json"), lambda _: fail())
    record = json.loads(line)
    assert abs(datetime.fromisoformat(record.pop("time")) - datetime.now(UTC)).total_seconds() < 60
    error = record.pop("error")
    assert record == {
        "level": "error",
        "logger": "deepseek.serving",
        "message": "request failed, incident abc",
        "request_id": "r1",
    }
    assert (error["type"], error["cause"]) == ("ValueError", "KeyError")
    assert re.fullmatch(r".*test_server_logs.py:\d+ fail", error["places"][0])
    assert "diagnosis" not in line
    assert "secret" not in line


def test_messages_of_exceptions_are_shown_when_asked_for() -> None:
    for form in ("json", "console"):
        shown = lines(LogConfig(format=form, exception_messages=True), lambda _: fail())  # type: ignore[arg-type]
        assert "my diagnosis" in "".join(shown)
        withheld = lines(LogConfig(format=form), lambda _: fail())  # type: ignore[arg-type]
        assert "diagnosis" not in "".join(withheld)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError("19 GB")])
def test_what_the_system_says_is_shown(error: Exception) -> None:
    (line,) = lines(LogConfig(format="json"), lambda _: log.error("could not", exc_info=error))
    assert json.loads(line)["error"]["message"] == str(error)


def test_a_console_line_is_one_line() -> None:
    (line,) = lines(
        LogConfig(), lambda _: log.warning("two\nlines", extra={"request_id": "r1", "model": "m", "prompt": "secret"})
    )
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} WARNING two\\nlines  request_id=r1 model=m", line)


def test_an_access_line_says_who_what_how_and_no_more() -> None:
    def serve(logs: Logs) -> None:
        assert logs.access.enabled
        logs.access.record(
            request_id="r1", protocol="rest", operation="chat", model="m", version="1", code=200, seconds=0.0123456789,
            rows=1, input_tokens=3, output_tokens=4, key_id="k-1", trace_id="t",
        )  # fmt: skip

    (line,) = lines(LogConfig(format="json", level="info"), serve)
    record = json.loads(line)
    del record["time"]
    assert record == {
        "level": "info", "logger": "deepseek.access", "message": "request", "request_id": "r1", "trace_id": "t",
        "protocol": "rest", "operation": "chat", "model": "m", "version": "1", "code": 200, "seconds": 0.012346,
        "rows": 1, "input_tokens": 3, "output_tokens": 4, "key_id": "k-1",
    }  # fmt: skip


def test_access_lines_are_off_by_default() -> None:
    with Logs(LogConfig(), io.StringIO()) as logs:
        assert not logs.access.enabled


def test_an_applications_handlers_stay_and_get_everything_once() -> None:
    stream, ours = io.StringIO(), io.StringIO()
    theirs = logging.StreamHandler(stream)
    with alone(theirs), Logs(LogConfig(), ours):
        log.warning("once")
    assert stream.getvalue() == "once\n"
    assert ours.getvalue() == ""
    with alone(theirs), Logs(LogConfig(attach="always"), ours):
        log.warning("twice")
    assert "twice" in stream.getvalue()
    assert "twice" in ours.getvalue()
    with alone(), Logs(LogConfig(attach="never"), ours):
        assert logging.getLogger("deepseek").handlers == []


def test_repeats_are_counted_instead_of_written() -> None:
    def repeat(logs: Logs) -> None:
        for number in range(100):
            log.error("the store %s is gone", number)
        log.error("something else")
        assert total(take([logs]), "deepseek_log_records_suppressed")[0] == 97

    written = lines(LogConfig(repeats_per_minute=3), repeat)
    assert len(written) == 4


def test_the_next_minute_says_how_many_there_were() -> None:
    now = 0.0
    suppression = Suppression(2, clock=lambda: now)

    def passed() -> logging.LogRecord | None:
        record = logging.LogRecord("deepseek", logging.ERROR, "file", 1, "gone %s", ("x",), None)
        return record if suppression.filter(record) else None

    assert [passed() is not None for _ in range(5)] == [True, True, False, False, False]
    now = 61.0
    first, second, third = passed(), passed(), passed()
    assert first is not None
    assert second is not None
    assert (first.suppressed, hasattr(second, "suppressed"), third) == (3, False, None)  # type: ignore[attr-defined]
    info = logging.LogRecord("deepseek", logging.INFO, "file", 1, "request", None, None)
    assert all(suppression.filter(info) for _ in range(100))


def test_kinds_of_messages_are_bounded() -> None:
    suppression = Suppression(1)
    for number in range(3000):
        suppression.filter(logging.LogRecord("deepseek", logging.ERROR, "file", 1, f"gone {number}", None, None))
    assert len(suppression._kinds) == Suppression.MOST_KINDS + 1


def test_a_stream_that_blocks_stops_nobody() -> None:
    gate, entered = threading.Event(), threading.Event()

    class Blocked(io.StringIO):
        def write(self, text: str) -> int:
            entered.set()
            assert gate.wait(30)
            return super().write(text)

    stream = Blocked()
    handler = ThreadedHandler(stream, most_waiting=5)
    for number in range(20):
        handler.handle(logging.LogRecord("deepseek", logging.ERROR, "file", 1, "line %d", (number,), None))
        assert entered.wait(30)
    assert handler.dropped == 14  # one is being written, five wait
    gate.set()
    handler.close()
    assert stream.getvalue().splitlines() == [f"line {n}" for n in range(6)]


def test_lines_that_a_full_disk_does_not_take_are_counted_and_told() -> None:
    class Disk(io.StringIO):
        full = False

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(text)

    stream = Disk()
    handler = ThreadedHandler(stream)

    def log(*numbers: int) -> None:
        for number in numbers:
            handler.handle(logging.LogRecord("deepseek", logging.ERROR, "file", 1, "line %d", (number,), None))
        handler.flush()

    log(0)
    stream.full = True
    log(1, 2, 3)
    assert handler.dropped == 3
    stream.full = False
    log(4, 5)
    handler.close()
    first, told, *rest = stream.getvalue().splitlines()
    assert (first, rest) == ("line 0", ["line 4", "line 5"])
    assert "about 3 before this one are missing" in told


def test_everything_is_written_at_the_end() -> None:
    def many(_: Logs) -> None:
        values = [1]
        for _number in range(500):
            log.info("%s", values)
            values[0] += 1  # after the record was made

    assert lines(LogConfig(level="info", format="json"), many)[-1].count('"message": "[500]"') == 1


@given(st.text(max_size=200))
def test_a_request_id_cannot_forge_a_line(offered: str) -> None:
    found = request_id(offered)
    assert re.fullmatch(r"[A-Za-z0-9._:/+=@-]{1,128}", found)
    assert found == offered or not re.fullmatch(r"[A-Za-z0-9._:/+=@-]{1,128}", offered)


def test_request_ids_differ() -> None:
    assert request_id("trace-1/a") == "trace-1/a"
    assert len({request_id(None) for _ in range(1000)}) == 1000

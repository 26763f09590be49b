"""A write that does not end well leaves the previous version, or no table at all."""

import random
import signal
import subprocess
import sys
import time

import pytest

from deepseek.data import Table
from deepseek.data.table.location import Found, inspect
from deepseek.errors import TableError

ROWS = [{"n": n, "text": "x" * 50} for n in range(500)]

CREATE = """
import sys, itertools
from deepseek.data import Table
rows = [{"n": n, "text": "x" * 50} for n in range(500)]
print("ready", flush=True)
for i in itertools.count():
    Table.create(f"{sys.argv[1]}/t{i}.lance", iter(rows))
"""

APPEND = """
import sys
from deepseek.data import Table
rows = [{"n": n, "text": "x" * 50} for n in range(500)]
table = Table.open(sys.argv[1])
print("ready", flush=True)
while True:
    table.append(iter(rows))
"""

FULL = """
import resource, sys
from deepseek.data import Table
from deepseek.errors import TableError
import random
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
random.seed(0)
rows = ({"n": n, "text": random.randbytes(4000).hex()} for n in range(500))
try:
    if sys.argv[2] == "create":
        Table.create(sys.argv[1], rows)
    else:
        Table.open(sys.argv[1]).append(rows)
except TableError as error:
    print(error)
    sys.exit(7)
"""


def _kill(script, argument, delay):
    process = subprocess.Popen([sys.executable, "-c", script, str(argument)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("seed", range(3))
def test_killed_create_leaves_a_whole_table_or_none(tmp_path, seed):
    _kill(CREATE, tmp_path, random.Random(seed).uniform(0.05, 0.4))
    for path in sorted(tmp_path.iterdir()):
        if inspect(str(path)) is Found.TABLE:
            assert len(Table.open(path)) == 500
        else:
            with pytest.raises(TableError, match=r"interrupted create|no table at"):
                Table.open(path)
            assert len(Table.create(path, ROWS)) == 500


@pytest.mark.parametrize("seed", range(3))
def test_killed_append_leaves_a_whole_version(tmp_path, seed):
    path = tmp_path / "t.lance"
    Table.create(path, ROWS)
    _kill(APPEND, path, random.Random(seed).uniform(0.05, 0.4))
    table = Table.open(path)
    assert len(table) == 500 * table.version
    assert len(table.to_arrow()) == len(table)
    assert len(table.append(ROWS)) == 500 * table.version


def test_leftovers_of_an_interrupted_create_are_explained_and_written_over(tmp_path):
    path = tmp_path / "t.lance"
    (path / "data").mkdir(parents=True)
    (path / "data" / "half.lance").write_bytes(b"half")
    with pytest.raises(TableError, match="Run the same create again"):
        Table.open(path)
    assert len(Table.create(path, ROWS)) == 500
    assert len(Table.open(path)) == 500


@pytest.mark.parametrize("mode", ["create", "append"])
def test_full_disk_is_reported_and_harmless(tmp_path, mode):
    path = tmp_path / "t.lance"
    if mode == "append":
        before = Table.create(path, ROWS).fingerprint()
    done = subprocess.run([sys.executable, "-c", FULL, str(path), mode], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "the disk is full" in done.stdout
    if mode == "append":
        table = Table.open(path)
        assert (table.version, table.fingerprint()) == (1, before)
    else:
        assert not path.exists()


class BrokenError(Exception):
    pass


def _rows(error, at=20_000):
    for n in range(at):
        yield {"n": n, "text": "x"}
    raise error


@pytest.mark.parametrize(
    "error", [BrokenError("mid-way"), KeyboardInterrupt(), ValueError("theirs"), OSError("theirs")]
)
@pytest.mark.parametrize("at", [3, 20_000])
def test_an_error_in_the_rows_comes_out_as_it_is_and_commits_nothing(tmp_path, error, at):
    path = tmp_path / "t.lance"
    with pytest.raises(type(error)) as caught:
        Table.create(path, _rows(error, at))
    assert caught.value is error
    assert not path.exists()
    table = Table.create(path, ROWS)
    for write in (table.append, table.replace):
        with pytest.raises(type(error)):
            write(_rows(error, at))
    assert (Table.open(path).version, len(Table.open(path))) == (1, 500)


def test_ctrl_c_signal_during_a_write(tmp_path):
    script = APPEND.replace("table.append(iter(rows))", "table.append(slow())").replace(
        'print("ready", flush=True)',
        "import time\ndef slow():\n    for row in rows:\n        time.sleep(0.02)\n        yield row\n"
        'print("ready", flush=True)',
    )
    path = tmp_path / "t.lance"
    Table.create(path, ROWS)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert (Table.open(path).version, len(Table.open(path))) == (1, 500)


def test_an_error_before_the_commit_makes_no_table(tmp_path):
    def refuse():
        raise BrokenError

    with pytest.raises(BrokenError):
        Table.create(tmp_path / "t.lance", ROWS, before_commit=refuse)
    assert not (tmp_path / "t.lance").exists()

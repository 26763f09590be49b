"""An ingest that is stopped at any moment and run again ends in the same table, and does not start over."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import lance
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepseek import progress
from deepseek.data import Table, ingest, open_source
from deepseek.data.sources import ingestion
from deepseek.data.sources.journal import Journal
from deepseek.errors import DataError, TableError

ROWS = 12_000
STEP = 100_000


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(ingestion, "STEP_BYTES", STEP)
    monkeypatch.setattr("deepseek.data.sources.lines.BLOCK_BYTES", 40_000)


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    lines = ["id,text"] + [f"{n},short,row" if n % 997 == 0 else f"{n},{'x' * 40} {n}" for n in range(ROWS)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    for n in range(5):
        rows = range(n * 2_000, (n + 1) * 2_000)
        pq.write_table(pa.table({"id": rows, "text": [f"{'x' * 40} {n}" for n in rows]}), folder / f"{n}.parquet")
    return folder


def outcome(path: Path):
    """What must not depend on interruptions; also that nothing but the table and its rejects is left."""
    table = Table.open(path)
    rejects = path.with_name(path.name.replace(".lance", ".rejects.lance"))
    assert {entry.name for entry in path.parent.iterdir()} <= {path.name, rejects.name}
    used = {
        Path(file.path).stem for fragment in lance.dataset(str(path)).get_fragments() for file in fragment.data_files()
    }
    assert {file.stem for file in (path / "data").iterdir()} == used
    stored = Table.open(rejects) if rejects.exists() else None
    return (
        [version.version for version in table.versions()],
        len(table),
        table.fingerprint(),
        table.metadata,
        stored and ([version.version for version in stored.versions()], stored.fingerprint()),
    )


@pytest.fixture(scope="module")
def expected(csv, parts, tmp_path_factory):
    found = {}
    for source in (csv, parts):
        path = tmp_path_factory.mktemp("clean") / "t.lance"
        ingest(source, path)
        found[source] = outcome(path)
    return found


RUN = """
import sys
from deepseek import progress
from deepseek.data import ingest
from deepseek.data.sources import ingestion, lines
ingestion.STEP_BYTES, lines.BLOCK_BYTES = 20_000, 10_000
print("ready", flush=True)
with progress.quiet():
    report = ingest(sys.argv[1], sys.argv[2])
print(report.continued, flush=True)
"""


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments(csv, parts, expected, tmp_path, seed):
    source = parts if seed % 2 else csv
    chance = random.Random(seed)
    path = tmp_path / "t.lance"
    kills = 2
    for attempt in range(kills + 1):
        journal = Journal(str(path))
        steps = journal.progress.steps if journal.load() else 0
        if path.exists() and not journal.path.exists():
            with pytest.raises(TableError, match="overwrite=True"):  # the kill came when all was done
                ingest(source, path)
            break
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(source), str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        if attempt < kills:
            time.sleep(chance.uniform(0.02, 0.4))
            process.send_signal(signal.SIGKILL)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0 or (attempt < kills and process.returncode == -signal.SIGKILL), errors
        if output:
            assert output == f"{steps > 0}\n"
    assert outcome(path) == expected[source]


class Stop(BaseException):
    """Stands for a kill: nothing may tidy up behind it."""


def stopped(monkeypatch, owner, name, when, after=False):
    """Make ``owner.name`` stop the run at its call number ``when``, before or after it does its work."""
    original = getattr(owner, name)
    calls = iter(range(10_000))

    def wrapper(*args, **options):
        now = next(calls) == when
        if now and not after:
            raise Stop
        result = original(*args, **options)
        if now:
            raise Stop
        return result

    monkeypatch.setattr(owner, name, wrapper)
    monkeypatch.setattr(ingestion._Run, "_stopped", lambda *_: None)


MOMENTS = [
    *[(Journal, "record", n, after) for n in (0, 1, 3) for after in (False, True)],
    (ingestion, "write_rejects", 0, False),
    (ingestion, "write_rejects", 0, True),
    (ingestion.lance.LanceDataset, "commit", 0, False),
    (ingestion.lance.LanceDataset, "commit", 0, True),
    (Journal, "close", 1, False),
    (Journal, "close", 1, True),
]


@pytest.mark.parametrize(("owner", "name", "when", "after"), MOMENTS)
def test_stopped_at_every_kind_of_moment(csv, expected, tmp_path, monkeypatch, owner, name, when, after):
    path = tmp_path / "t.lance"
    with monkeypatch.context() as patch:
        if name == "commit":  # writing the rejects commits first
            original = ingestion._Run._commit

            def commit(self):
                stopped(patch, owner, name, 1, after)
                return original(self)

            patch.setattr(ingestion._Run, "_commit", commit)
            patch.setattr(ingestion._Run, "_stopped", lambda *_: None)
        else:
            stopped(patch, owner, name, when, after)
        with pytest.raises(Stop):
            ingest(csv, path)
    if name == "close" and after:
        with pytest.raises(TableError, match="overwrite=True"):
            ingest(csv, path)
    else:
        report = ingest(csv, path)
        assert report.continued == ((name, when, after) != ("record", 0, False))
        assert (report.rows, report.rejected, report.version) == (expected[csv][1], ROWS - expected[csv][1], 1)
        assert report.reasons == {"expected 2 columns, received 3": report.rejected}
    assert outcome(path) == expected[csv]


def test_it_continues_instead_of_starting_over(csv, expected, tmp_path, monkeypatch):
    path = tmp_path / "t.lance"
    with monkeypatch.context() as patch:
        stopped(patch, Journal, "record", 3, after=True)
        with pytest.raises(Stop):
            ingest(csv, path)
    journal = Journal(str(path))
    assert journal.load()
    before = {file.name for file in (path / "data").iterdir()}
    starts = []
    original = ingestion.run_step
    monkeypatch.setattr(ingestion, "run_step", lambda step: (starts.append(step.start), original(step))[1])
    monkeypatch.setattr("deepseek.data.sources.delimited.Delimited._infer", None)  # the types are known already
    assert ingest(csv, path).continued
    assert starts[0]["offset"] > csv.stat().st_size / 5
    assert before <= {file.name for file in (path / "data").iterdir()}
    assert outcome(path) == expected[csv]


def test_a_journal_line_that_was_cut_short_is_dropped(csv, expected, tmp_path, monkeypatch):
    path = tmp_path / "t.lance"
    with monkeypatch.context() as patch:
        stopped(patch, Journal, "record", 2, after=True)
        with pytest.raises(Stop):
            ingest(csv, path)
    journal = Journal(str(path)).path
    journal.write_bytes(journal.read_bytes()[:-20])
    assert ingest(csv, path).continued
    assert outcome(path) == expected[csv]


@pytest.mark.parametrize("change", ["touched", "strict", "options", "lost file", "resume=False", "other source"])
def test_a_change_starts_over_and_says_so(csv, tmp_path, monkeypatch, capsys, change):
    source, path = tmp_path / "source" / "a.csv", tmp_path / "out" / "t.lance"
    source.parent.mkdir()
    path.parent.mkdir()
    source.write_bytes(csv.read_bytes().replace(b",short,row", b",short"))
    with monkeypatch.context() as patch:
        stopped(patch, Journal, "record", 2, after=True)
        with pytest.raises(Stop):
            ingest(source, path)
    options, said = {}, "the source or the options have changed"
    if change == "touched":
        source.write_bytes(source.read_bytes() + b"99999,late\n")
    elif change == "strict":
        options = {"strict": True}
    elif change == "options":
        options = {"encoding": "cp1252"}
    elif change == "lost file":
        next((path / "data").iterdir()).unlink()
        said = "its data files are gone or damaged"
    elif change == "resume=False":
        options, said = {"resume": False}, ""
    else:
        source = pa.Table.from_pylist(list(open_source(source).rows()))
        said = "cannot be told from a changed one"
    capsys.readouterr()
    report = ingest(source, path, **options)
    heard = " ".join(capsys.readouterr().err.split())
    assert said in heard
    assert ("starting over" in heard) == bool(said)
    assert not report.continued
    table = outcome(path)
    assert table[:2] == ([1], ROWS + (change == "touched"))


def test_an_overwrite_is_resumed_and_makes_one_version(csv, expected, tmp_path, monkeypatch):
    path = tmp_path / "t.lance"
    Table.create(path, [{"other": 1}])
    with monkeypatch.context() as patch:
        stopped(patch, Journal, "record", 2, after=True)
        with pytest.raises(Stop):
            ingest(csv, path, overwrite=True)
    assert Table.open(path).columns == ["other"]
    report = ingest(csv, path, overwrite=True)
    assert (report.continued, report.version) == (True, 2)
    assert Table.open(path).fingerprint() == expected[csv][2]
    assert Table.open(path, 1).columns == ["other"]


def test_ctrl_c_keeps_what_was_done_and_a_wrong_source_does_not(csv, expected, tmp_path, monkeypatch, capsys):
    path = tmp_path / "t.lance"
    with monkeypatch.context() as patch:
        original = Journal.record
        done = []

        def record(self, step):
            original(self, step)
            done.append(step)
            if len(done) == 2:
                raise KeyboardInterrupt

        patch.setattr(Journal, "record", record)
        with pytest.raises(KeyboardInterrupt):
            ingest(csv, path)
    assert "rows are kept for the next run" in capsys.readouterr().err
    assert ingest(csv, path).continued
    assert outcome(path) == expected[csv]
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(DataError, match="expected 2 columns"):
        ingest(csv, other / "t.lance", strict=True)
    assert list(other.iterdir()) == []


def test_two_ingests_into_one_table_do_not_meet(csv, tmp_path):
    journal = Journal(str(tmp_path / "t.lance"))
    with journal.locked(), pytest.raises(TableError, match="another ingest"):
        ingest(csv, tmp_path / "t.lance")
    assert list(tmp_path.iterdir()) == []
    assert ingest(csv, tmp_path / "t.lance").version == 1


def test_the_journal_is_plain_json(csv, tmp_path, monkeypatch):
    path = tmp_path / "t.lance"
    stopped(monkeypatch, Journal, "record", 1, after=True)
    with pytest.raises(Stop):
        ingest(csv, path)
    header, *steps = [json.loads(line) for line in Journal(str(path)).path.read_text().splitlines()]
    assert set(header) == {"format", "identity", "schema", "base"}
    assert [set(step) for step in steps] == [{"part", "position", "rows", "fragments", "rejects"}] * 2


def test_parts_give_the_same_table_on_every_engine(parts, expected, tmp_path):
    from deepseek.data.engines import LocalEngine

    for workers in (1, 4):
        path = tmp_path / str(workers) / "t.lance"
        with progress.quiet():
            ingest(parts, path, engine=LocalEngine(workers))
        assert outcome(path) == expected[parts]

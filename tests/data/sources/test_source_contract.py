"""What every registered source must do; a new one is picked up by its name and needs a sample."""

import json
import pickle

import pyarrow as pa
import pytest
from source_samples import SAMPLES

from deepseek.data import SOURCES, Source, Table, ingest, open_source
from deepseek.data.sources import arrow, encoding, file_rows, huggingface, lines, pandas_frame, parquet, volumes
from deepseek.errors import DataError

NAMES = sorted(SAMPLES)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(file_rows, "BATCH_ROWS", 3)
    monkeypatch.setattr(encoding, "BATCH_ROWS", 500)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 150_000)
    for module in (arrow, huggingface, pandas_frame, parquet):
        monkeypatch.setattr(module, "BATCH_ROWS", 900)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            made[name] = SAMPLES[name](tmp_path_factory.mktemp(name))
        return made[name]

    return get


def opened(sample):
    return open_source(sample.data, **sample.options)


def read(source, start=None):
    rejects = []
    chunks = list(source.chunks(start, rejects.append))
    return pa.Table.from_batches([chunk.batch for chunk in chunks], source.schema()), rejects, chunks


def test_every_registered_source_has_a_sample():
    assert SOURCES.names() == NAMES
    assert all(issubclass(SOURCES.get(name), Source) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_rows_rejects_and_schema(samples, name):
    sample = samples(name)
    source = opened(sample)
    rejects = []
    batches = list(source.batches(rejects.append))
    assert sum(batch.num_rows for batch in batches) == sample.rows
    assert len(rejects) == sample.rejects
    assert all(batch.schema.equals(source.schema(), check_metadata=True) for batch in batches)
    assert all(batch.num_rows for batch in batches)
    assert opened(sample).schema().equals(source.schema())
    assert source.schema().metadata is None
    assert source.name
    assert "source" in source.metadata
    assert all(reject.reason and reject.source for reject in rejects)


@pytest.mark.parametrize("name", NAMES)
def test_reading_again_gives_the_same(samples, name):
    source = opened(samples(name))
    first, second = read(source), read(source)
    assert first[0].equals(second[0])
    assert first[1] == second[1]


@pytest.mark.parametrize("name", NAMES)
def test_strict_stops_at_the_first_reject(samples, name, tmp_path):
    sample = samples(name)
    if not sample.rejects:
        assert sum(batch.num_rows for batch in opened(sample).batches()) == sample.rows
        return
    with pytest.raises(DataError):
        list(opened(sample).batches())
    with pytest.raises(DataError):
        ingest(opened(sample), tmp_path / "t.lance", strict=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_reading_goes_on_exactly_behind_every_position(samples, name):
    source = opened(samples(name))
    table, rejects, chunks = read(source)
    assert len(chunks) > 1 or name == "dicom"
    rows = 0
    for number, chunk in enumerate(chunks):
        rows += chunk.batch.num_rows
        position = json.loads(json.dumps(chunk.position))
        rest, rest_rejects, _ = read(opened(samples(name)), position)
        assert rest.equals(table.slice(rows)), number
        assert rest_rejects == rejects[len(rejects) - len(rest_rejects) :], number
        seen = []
        stopped = opened(samples(name)).chunks(None, seen.append)
        for _ in range(number + 1):
            next(stopped)
        assert seen + rest_rejects == rejects, number


@pytest.mark.parametrize("name", NAMES)
def test_parts_are_the_whole_in_order(samples, name, monkeypatch):
    for kind in (file_rows.FileRows, volumes.VolumeFiles):
        monkeypatch.setattr(kind, "part_units", 2)
    monkeypatch.setattr("deepseek.data.sources.parquet.PART_BYTES", 1)
    source = opened(samples(name))
    whole, rejects, _ = read(source)
    parts = source.parts()
    assert len(parts) > 1 or name not in {"images", "nifti", "nrrd", "parquet", "huggingface"}
    if source.travels:
        parts = pickle.loads(pickle.dumps(parts))
    tables, in_parts = [], []
    for part in parts:
        assert part.schema().equals(source.schema())
        table, found, _ = read(part)
        tables.append(table)
        in_parts += found
    assert pa.concat_tables(tables).equals(whole)
    assert in_parts == rejects


@pytest.mark.parametrize("name", NAMES)
def test_identity_is_stable_and_plain(samples, name):
    identity = opened(samples(name)).identity()
    assert json.loads(json.dumps(identity)) == opened(samples(name)).identity()
    assert (identity is None) == (name in {"pandas", "sql"})


@pytest.mark.parametrize("name", NAMES)
def test_ingest(samples, name, tmp_path):
    sample = samples(name)
    report = ingest(opened(sample), tmp_path / "t.lance")
    assert (report.rows, report.rejected, report.version) == (sample.rows, sample.rejects, 1)
    table = Table.open(report.table)
    source = opened(sample)
    assert table.to_arrow().equals(read(source)[0].cast(table.schema))
    if sample.rejects:
        stored = [tuple(row.values()) for row in Table.open(report.rejects_table).rows()]
        assert stored == [(r.reason, r.source, r.line, r.raw) for r in read(source)[1]]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"t.lance"} | ({"t.rejects.lance"} if sample.rejects else set())

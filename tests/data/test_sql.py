"""SQL sees the tables it is given and nothing else."""

import duckdb
import pyarrow as pa
import pytest

from deepseek.data import Table
from deepseek.data.sql import connect, sql
from deepseek.errors import ConfigError, DataError, UnknownNameError

ROWS = [{"id": n, "label": "ab"[n % 2], "image": None if n == 3 else bytes([n]) * 5000} for n in range(50)]


@pytest.fixture
def table(tmp_path):
    return Table.create(tmp_path / "t.lance", ROWS)


def test_tables_paths_and_arrow_join(table):
    names = pa.table({"label": ["a", "b"], "name": ["Ann", "Bob"]})
    found = sql(
        "SELECT n.name, count(*) AS rows, sum(octet_length(t.image)) AS bytes, max(again.id) AS last "
        "FROM t JOIN names n USING (label) JOIN again USING (id) GROUP BY 1 ORDER BY 1",
        {"t": table, "names": names, "again": table.path},
    )
    assert found.to_pylist() == [
        {"name": "Ann", "rows": 25, "bytes": 125_000, "last": 48},
        {"name": "Bob", "rows": 25, "bytes": 120_000, "last": 49},
    ]


def test_one_table_is_called_data_and_versions_are_kept(table):
    old = Table.open(table.path, 1)
    table.append([{"id": 50}])
    assert sql("SELECT count(*) AS n FROM data", old).to_pylist() == [{"n": 50}]
    assert sql("SELECT count(*) AS n FROM data", table).to_pylist() == [{"n": 51}]
    assert sql("SELECT image FROM data WHERE id = 7", table).to_pylist() == [{"image": ROWS[7]["image"]}]
    assert sql("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_parameters(table):
    assert sql("SELECT id FROM data WHERE id = ?", table, parameters=[4]).to_pylist() == [{"id": 4}]
    query = "SELECT id FROM data WHERE label = $label AND id < $most ORDER BY id"
    assert sql(query, table, parameters={"label": "b", "most": 5})["id"].to_pylist() == [1, 3]


def test_a_stream_computes_as_it_is_read(table):
    reader = sql("SELECT id FROM data ORDER BY id DESC", table, stream=True)
    assert isinstance(reader, pa.RecordBatchReader)
    assert [row["id"] for batch in reader for row in batch.to_pylist()] == list(range(49, -1, -1))


def test_conditions_and_columns_are_pushed_down(table, monkeypatch):
    seen = []
    dataset = type(table.arrow_dataset())
    scanner = dataset.scanner

    def watched(self, *arguments, **options):
        seen.append((options.get("columns"), options.get("filter")))
        return scanner(self, *arguments, **options)

    monkeypatch.setattr(dataset, "scanner", watched)
    assert sql("SELECT id FROM data WHERE id > 45", table)["id"].to_pylist() == [46, 47, 48, 49]
    columns, condition = seen[-1]
    assert columns == ["id"]
    assert "id > 45" in str(condition)


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ("SELECT idd FROM data", UnknownNameError, "Did you mean 'id'"),
        ("SELECT d.lable FROM data d", UnknownNameError, "Did you mean 'label'"),
        ("SELECT id FROM dta", UnknownNameError, "Did you mean 'data'"),
        ("SELEC id FROM data", DataError, "syntax error"),
        ("SELECT CAST(label AS INT) FROM data", DataError, "Conversion Error"),
        ("", ConfigError, "received nothing"),
        ("SELECT 1; SELECT 2", ConfigError, "expected one SELECT, received SELECT, SELECT"),
        ("DROP TABLE data", ConfigError, "expected one SELECT, received DROP"),
        ("CREATE TABLE x AS SELECT 1", ConfigError, "received CREATE"),
        ("COPY data TO '/tmp/stolen.csv'", ConfigError, "received COPY"),
        ("SET memory_limit = '100GB'", ConfigError, "received SET"),
        ("INSTALL httpfs", ConfigError, "expected one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", ConfigError, "nothing else"),
        ("SELECT * FROM read_text('/etc/passwd')", ConfigError, "nothing else"),
        ("SELECT * FROM glob('/etc/*')", ConfigError, "nothing else"),
    ],
)
def test_what_a_query_may_not_do(table, query, error, message):
    with pytest.raises(error, match=message):
        sql(query, table)


def test_files_are_no_tables(table, tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises((ConfigError, UnknownNameError)):
        sql(f"SELECT * FROM '{tmp_path}/secret.csv'", table)
    hidden = pa.table({"a": [1]})  # noqa: F841 -- DuckDB would find Python's variables by name
    with pytest.raises(UnknownNameError):
        sql("SELECT * FROM hidden")


def test_what_does_not_fit_is_spilled():
    with connect("50MB") as connection:
        assert connection.execute(
            "SELECT count(*) FROM (SELECT DISTINCT range % 3000000 FROM range(4000000))"
        ).fetchall()
        with pytest.raises(duckdb.Error):
            connection.execute("SET memory_limit = '10GB'")
    with pytest.raises(ConfigError, match="'500MB'"):
        sql("SELECT 1", memory_limit="a lot")

"""The catalogue of real data sets, and the real files behind it."""

import pytest

from deepseek.data import Table, datasets, ingest, open_source
from deepseek.data.datasets.hutto import parse_line
from deepseek.errors import UnknownNameError


def test_catalogue():
    assert "hutto-movie-reviews" in datasets.names()
    assert [card.name for card in datasets.cards()] == datasets.names()
    with pytest.raises(UnknownNameError, match="Did you mean 'hutto-tweets'"):
        datasets.get("hutto-tweet")
    with pytest.raises(UnknownNameError):
        datasets.load_dataset_rows("sst-2")


@pytest.mark.parametrize("name", datasets.names())
def test_each_data_set_is_what_its_card_says(name):
    card = datasets.get(name)
    assert card.license == "MIT"
    assert "Hutto" in card.citation
    rows = list(datasets.load_dataset_rows(name))
    assert len(rows) == card.rows
    assert len({row["id"] for row in rows}) == card.rows
    assert set(rows[0]) == set(card.columns)
    neutral = sum(row["label"] is None for row in rows)
    assert f"{neutral:,} of {card.rows:,} rows" in card.notes
    assert all((row["valence"] > 0) == (row["label"] == "positive") for row in rows)
    assert all((row["valence"] < 0) == (row["label"] == "negative") for row in rows)


def test_movie_reviews_by_name(tmp_path):
    source = open_source("hutto-movie-reviews")
    report = ingest(source, tmp_path / "movies.lance")
    assert (report.rows, report.rejected) == (10_605, 0)
    table = Table.open(report.table)
    assert table.metadata["license"] == "MIT"
    assert str(table.schema.field("valence").type) == "float"
    assert len(table.to_arrow(where="label = 'positive'")) == 5_242
    assert len(table.to_arrow(where="label = 'negative'")) == 5_326
    assert table.take([0], ["id"]).to_pylist() == [{"id": "movie-1"}]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"1\t0.5\tfine \xff\r\n", "not valid UTF-8"),
        (b"1\t9\ttext\n", "expected a valence in [-4, 4], received '9'"),
        (b"1\tnan\ttext\n", "expected a valence in [-4, 4], received 'nan'"),
        (b"1\t0.5\n", "expected id, valence and text with tabs between"),
        (b"1\tx\ttext\n", "expected id, valence and text with tabs between"),
    ],
)
def test_malformed_lines_say_what_is_wrong(raw, problem):
    assert parse_line(3, raw, "movie").problem == problem

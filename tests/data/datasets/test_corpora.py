"""Corpora to pre-train on: running text, a document a row, held out by document."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepseek.data import datasets
from deepseek.data.datasets.brown import running_text
from deepseek.data.datasets.chinese_poetry import rows_of
from deepseek.data.datasets.detokenising import detokenised
from deepseek.data.datasets.wikitext import articles
from deepseek.data.text_key import text_keys


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("`` Well '' , he said ( twice ) : `` so ! ''", '"Well", he said (twice): "so!"'),
        ("a ' pro ' letter and a ' con ' one", "a 'pro' letter and a 'con' one"),
        (
            'It \'s a " 12 @,@ 000 @-@ ton " ship , $ 5 million / year @.@',
            'It\'s a "12,000-ton" ship, $5 million/year.',
        ),
        ("Hit 'em again ; do n't stop", "Hit 'em again; don't stop"),
        ("", ""),
    ],
)
def test_words_become_text(tokens: str, text: str) -> None:
    assert detokenised(tokens.split()) == text


def test_tagged_sentences_become_paragraphs() -> None:
    tagged = (
        "\n\tHe/pps met/vbd Bell/np Jr./np ./.\nWas/bedz it/pps 60*0C./nn ?/. ?/.\n\n"
        "Merger/nn-hl proposed/vbn-hl \nThe/at rays/nns **zg/nil ;/. ;/. and/or/cc\n"
    )
    assert running_text(tagged) == "He met Bell Jr. Was it 60°C.?\nMerger proposed\nThe rays; and/or"


def test_the_brown_corpus_reads_as_it_was_printed() -> None:
    rows = list(datasets.load_dataset_rows("brown"))
    assert Counter(row["split"] for row in rows) == {"train": 400, "validation": 50, "test": 50}
    assert (rows[0]["id"], rows[0]["genre"]) == ("ca01", "news")
    assert rows[0]["text"].startswith(
        "The Fulton County Grand Jury said Friday an investigation of Atlanta's recent primary election produced "
        '"no evidence" that any irregularities took place.\n'
    )
    assert "\nMerger proposed\n" in rows[0]["text"]
    words = sum(len(row["text"].split()) for row in rows)
    assert 950_000 < words < 1_050_000
    assert not any("/nn" in row["text"] or "``" in row["text"] for row in rows)


def test_copies_of_a_poem_are_in_one_split() -> None:
    rows = list(datasets.load_dataset_rows("chinese-poetry-tang"))
    splits: dict[str, set[str]] = {}
    for row, key in zip(rows, text_keys([row["text"] for row in rows]), strict=True):
        splits.setdefault(key, set()).add(row["split"])
    assert len(splits) < len(rows)
    assert all(len(found) == 1 for found in splits.values())
    counts = Counter(row["split"] for row in rows)
    assert counts["test"] > 500 < counts["validation"]
    by_id = {row["id"]: row for row in rows}
    assert by_id["poet.tang.0-5"]["text"].splitlines()[0] == "飛蓋去芳園，蘭橈遊翠渚。"


def test_entries_without_a_line_are_no_poems() -> None:
    poems = [{"paragraphs": [" 一。", " "], "rhythmic": "導引"}, {"paragraphs": [], "title": "二"}]
    (row,) = rows_of(poems, "ci.song.0", "song-ci")
    assert (row["id"], row["text"], row["title"], row["author"]) == ("ci.song.0-0", "一。", "導引", "")


LINES = ["", " = Valkyria = \n", " A game @-@ like book , he said . \n", "", " = = Plot = = \n", " 1 @.@ 5 = 3 \n"]


def test_paragraphs_become_articles() -> None:
    assert list(articles([*LINES, " = Second = \n", " Text . \n"])) == [
        ("Valkyria", "Valkyria\nA game-like book, he said.\nPlot\n1.5 = 3"),
        ("Second", "Second\nText."),
    ]


def test_wikitext_is_read_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "wikitext-103-raw-v1"
    folder.mkdir()
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test-00000-of-00001"):
        pq.write_table(
            pa.table({"text": LINES[:3] if name.startswith("train-00000") else LINES}), folder / f"{name}.parquet"
        )
    monkeypatch.setenv("DEEPSEEK_WIKITEXT", str(tmp_path))
    rows = list(datasets.load_dataset_rows("wikitext-103"))
    assert [row["id"] for row in rows] == ["train-0", "train-1", "validation-0", "test-0"]
    assert {tuple(row) for row in rows} == {tuple(datasets.get("wikitext-103").columns)}
    assert datasets.DATASETS.get("wikitext-103").files() is not None

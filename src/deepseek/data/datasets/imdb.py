"""Large Movie Review Dataset (Maas et al. 2011): 50,000 labelled IMDb reviews, and 50,000 more without labels.

Read from the folder ``aclImdb`` as its authors pack it (``train/pos/0_9.txt``: number and stars), named in
``DEEPSEEK_IMDB``; or from the Parquet files of ``stanfordnlp/imdb``. Labels are ``neg`` (at most 4 of 10 stars) and
``pos`` (at least 7), as there. Texts keep their ``<br />`` marks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from deepseek.data.datasets.card import Dataset, DatasetCard, Line
from deepseek.data.datasets.hub_files import HubFiles, identities, parquet_rows
from deepseek.errors import DataError

HUB = HubFiles(
    repository="stanfordnlp/imdb",
    revision="e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
    variable="DEEPSEEK_IMDB",
    folder_hint="the folder aclImdb with train/pos/*.txt and test/pos/*.txt in it",
)
_PART = "plain_text"
LABELS = ("neg", "pos")
_LABELLED = ("train", "test")


def _root() -> Path | None:
    folder = HUB.folder()
    return folder / "aclImdb" if folder is not None and (folder / "aclImdb").is_dir() else folder


def _lines() -> Iterator[Line]:
    root, number = _root(), 0
    for split in _LABELLED:
        parquet = HUB.parquet(root, _PART, split)
        if not parquet:
            assert root is not None
            for label in LABELS:
                for path in _reviews(root / split / label):
                    number += 1
                    yield _line(path, number, f"{split}-{label}-{path.stem}", {"label": label, "split": split})
            continue
        rows = (row for path in parquet for row in parquet_rows(path, ["text", "label"], LABELS))
        for index, row in enumerate(rows):
            number += 1
            yield Line(number=number, values={"id": f"{split}-{index}", **row, "split": split})


def _unlabelled() -> Iterator[Line]:
    root = _root()
    parquet = HUB.parquet(root, _PART, "unsupervised")
    if parquet:
        rows = (row for path in parquet for row in parquet_rows(path, ["text"], LABELS))
        for number, row in enumerate(rows, start=1):
            yield Line(number=number, values={"id": f"unsupervised-{number - 1}", **row})
        return
    assert root is not None
    for number, path in enumerate(_reviews(root / "train" / "unsup"), start=1):
        yield _line(path, number, f"unsupervised-{path.stem}", {})


def _reviews(folder: Path) -> list[Path]:
    """The text files of a folder in the order of their numbers."""
    found = sorted(folder.glob("*.txt"), key=lambda p: (int(n) if (n := p.stem.partition("_")[0]).isdigit() else -1, p))
    if not found:
        raise DataError(f"{HUB.variable}: expected {HUB.folder_hint}; there is no text file in {folder}")
    return found


def _line(path: Path, number: int, identifier: str, values: Mapping[str, str]) -> Line:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return Line(number=number, problem="not valid UTF-8", raw=str(path))
    return Line(number=number, values={"id": identifier, "text": text, **values})


def _files(folders: tuple[str, ...]) -> dict[str, Any] | None:
    root = _root()
    if root is None:
        return None
    paths = [p for part in folders for p in sorted((root / part).glob("*.*"))]
    # of 50,000 small files, names and sizes tell enough
    return {str(root): [[p.name, p.stat().st_size] for p in paths]} if len(paths) > 100 else identities(paths)


def _dataset(
    name: str, title: str, columns: Mapping[str, str], read: Any, files: tuple[str, ...], notes: str
) -> Dataset:
    card = DatasetCard(
        name=name,
        title=title,
        license="see notes",
        citation=(
            "Maas, A.L., Daly, R.E., Pham, P.T., Huang, D., Ng, A.Y. & Potts, C. (2011). Learning Word Vectors for "
            "Sentiment Analysis. Proceedings of the 49th Annual Meeting of the Association for Computational "
            "Linguistics: Human Language Technologies, 142-150."
        ),
        homepage="https://ai.stanford.edu/~amaas/data/sentiment/",
        columns=columns,
        language="en",
        rows=50_000,
        origin=HUB.origin(_PART),
        notes=(
            f"{notes} No licence is stated; the authors ask for citation, the reviews are their writers'. Read from "
            f"{HUB.repository} or from the folder in {HUB.variable}."
        ),
    )
    return Dataset(card=card, read=read, files=partial(_files, files))


REVIEWS = _dataset(
    "imdb",
    "IMDb movie reviews with sentiment",
    {"id": "string", "text": "string", "label": "string", "split": "string"},
    _lines,
    ("plain_text", "train/neg", "train/pos", "test/neg", "test/pos"),
    "Scored by accuracy on the 25,000 test rows; at most 30 reviews of a film, no film in both splits.",
)
UNSUPERVISED = _dataset(
    "imdb-unsupervised",
    "IMDb movie reviews without labels",
    {"id": "string", "text": "string"},
    _unlabelled,
    ("plain_text", "train/unsup"),
    "For pre-training; of any number of stars.",
)

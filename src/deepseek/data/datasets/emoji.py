"""Google's emoji as 64-pixel PNGs with their names and categories, from the npm package ``emoji-datasource-google``.

The package is fetched by npm's client and opened as a tar archive; no script of it is run. One row is one picture: the
skin-tone variants of an emoji are rows of their own, with the same name, which makes them the near-duplicates that a
search over images must find.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from typing import Any

from deepseek.artifacts import NpmFile, fetch
from deepseek.data.datasets.card import Dataset, DatasetCard, Line, origin_of
from deepseek.errors import DataError

ARCHIVE = NpmFile(
    project="emoji-datasource-google",
    version="16.0.0",
    sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    license="MIT AND Apache-2.0",
)
SIZE = 64
_IMAGES = "package/img/google/64/"


def _lines() -> Iterator[Line]:
    path = fetch(ARCHIVE)
    with tarfile.open(path, "r:gz") as archive:
        index = archive.extractfile("package/emoji.json")
        assert index is not None  # the archive's hash was verified
        pictures = {picture["image"]: picture for entry in json.load(index) for picture in _pictures(entry)}
    number = 0
    with tarfile.open(path, "r:gz") as archive:  # read again from the front: the index lies in the middle
        for member in archive:
            if not member.isfile() or not member.name.startswith(_IMAGES):
                continue
            number += 1
            name = member.name.removeprefix(_IMAGES)
            file = archive.extractfile(member)
            if name not in pictures or file is None:
                yield Line(number=number, problem="the package's index does not name this picture", raw=name)
                continue
            yield Line(number=number, values={**pictures[name], "image": file.read()})


def _pictures(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pictures of one entry of the index: the emoji, then its skin tones."""
    try:
        shared = {"name": entry["name"], "short_name": entry["short_name"], "label": entry["category"]}
        shared |= {"subcategory": entry["subcategory"], "width": SIZE, "height": SIZE, "format": "PNG"}
        for tone, variant in [("", entry), *entry.get("skin_variations", {}).items()]:
            yield {**shared, "id": variant["unified"], "skin_tone": tone or None, "image": variant["image"]}
    except KeyError as error:
        raise DataError(f"the index of {ARCHIVE.filename} has an entry without {error}") from error


EMOJI = Dataset(
    card=DatasetCard(
        name="emoji-google",
        title="Emoji pictures with names and categories",
        license=ARCHIVE.license,
        citation="Henderson, C. emoji-data, version 16.0.0 (2024); pictures: Google, Noto Emoji.",
        homepage="https://github.com/iamcal/emoji-data",
        columns={
            "id": "string",
            "name": "string",
            "short_name": "string",
            "label": "string",
            "subcategory": "string",
            "skin_tone": "string",
            "image": "large_binary",
            "width": "int32",
            "height": "int32",
            "format": "string",
        },
        language="en",
        rows=3_786,
        origin=origin_of(ARCHIVE),
        notes="The index is MIT; the pictures are Noto Emoji, Apache-2.0. `label` is the Unicode category.",
    ),
    read=_lines,
)

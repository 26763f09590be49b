"""A model that takes files: what it answers is a function of the bytes, so that each of them can be checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.errors import DataError
from deepseek.tasks.signature import Field, Signature

IMAGES = Signature(
    inputs=(
        Field(name="image", dtype="bytes", description="PNG or JPEG"),
        Field(name="caption", dtype="string", optional=True),
        Field(name="box", dtype="float32", shape=(4,), optional=True),
    ),
    outputs=(
        Field(name="size", dtype="int64"),
        Field(name="digest", dtype="string"),
        Field(name="caption", dtype="string"),
        Field(name="box", dtype="float32", shape=(4,)),
        Field(name="thumbnail", dtype="bytes"),
    ),
    parameters=(
        Field(name="top_k", dtype="int32", optional=True),
        Field(name="exact", dtype="bool", optional=True),
        Field(name="mode", dtype="string", optional=True),
    ),
)


class FakeImages:
    """Measures and hashes files; an empty one is refused."""

    def __init__(self, name: str = "pictures", task: str = "image-classification") -> None:
        self.name, self.version, self.task = name, "1", task
        self.signature, self.platform = IMAGES, "fake"
        self.seen: list[Mapping[str, Any] | None] = []
        self.batches: list[int] = []

    def predict(
        self, rows: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        self.seen.append(parameters)
        self.batches.append(len(rows))
        if any(not row["image"] for row in rows):
            raise DataError("expected a picture, received no bytes")
        return [answer(row["image"], row.get("caption", ""), row.get("box")) for row in rows]


def answer(image: bytes, caption: str = "", box: Any = None) -> dict[str, Any]:
    return {
        "size": len(image),
        "digest": hashlib.sha256(image).hexdigest(),
        "caption": caption,
        "box": [0.0] * 4 if box is None else [float(each) for each in box],
        "thumbnail": image[:4],
    }

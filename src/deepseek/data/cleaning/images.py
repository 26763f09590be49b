"""Images as the cleaner sees them: decoded once, then only a hash of the pixels, a perceptual hash and a thumbnail.

The perceptual hash is the pHash of Zauner (Implementation and benchmarking of perceptual image hash functions, 2010):
the signs, about their median, of 64 low frequencies of the grey image's discrete cosine transform. It does not change
much under scaling, compression and small changes of brightness. Pictures of few shapes on a plain ground (icons,
emoji) often share it by chance, so the thumbnail, 16 x 16 pixels in colour, has to agree as well.

Transparent pixels count as white. The orientation in the EXIF data is applied. Of an animation the first frame counts.
"""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.step import Columns, Rejection, StepResult
from deepseek.errors import require

PIXELS_HIGH, PIXELS_LOW = "image_pixels_high", "image_pixels_low"
PHASH, THUMBNAIL = "image_phash", "image_thumbnail"
SIDE, CHANNELS = 16, 3
_DCT_SIDE = 32
_THUMBNAIL_TYPE = pa.binary(SIDE * SIDE * CHANNELS)


def check_images(table: pa.Table, columns: Columns, config: CleaningConfig) -> StepResult:
    """Reject rows whose image is missing or cannot be decoded; note what the others look like."""
    rejections = []
    pixels = np.zeros((table.num_rows, 2), np.uint64)
    hashes = np.zeros(table.num_rows, np.uint64)
    thumbnails = []
    for row, value in enumerate(table.column(columns.image)):
        thumbnail = bytes(SIDE * SIDE * CHANNELS)
        if not value.is_valid:
            rejections.append(Rejection(row=row, reason="missing image"))
        elif (image := decoded(value.as_py())) is None:
            rejections.append(Rejection(row=row, reason="image cannot be decoded"))
        else:
            pixels[row], hashes[row], thumbnail = facts_of(image)
        thumbnails.append(thumbnail)
    facts = {
        PIXELS_HIGH: pa.array(pixels[:, 0]),
        PIXELS_LOW: pa.array(pixels[:, 1]),
        PHASH: pa.array(hashes),
        THUMBNAIL: pa.array(thumbnails, _THUMBNAIL_TYPE),
    }
    return StepResult(table=table, rejections=rejections, facts=facts)


def decoded(data: bytes) -> Any | None:
    """The image as RGBA, or ``None`` when it is damaged, truncated, too large to be honest, or no image at all."""
    pillow = require("PIL.Image", "images")
    operations = require("PIL.ImageOps", "images")
    try:
        with pillow.open(io.BytesIO(data)) as file:
            upright = operations.exif_transpose(file)
            if upright.mode.startswith(("I", "F")):
                upright = pillow.fromarray(_eight_bits(np.asarray(upright)))
            return upright.convert("RGBA")
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError, EOFError, MemoryError):
        return None  # what Pillow's readers raise on damaged files


def _eight_bits(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Deep grey values stretched over 0 to 255, as a viewer shows them."""
    values = np.nan_to_num(values.astype(np.float64))
    low, high = float(values.min()), float(values.max())
    return np.round((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


def facts_of(image: Any) -> tuple[np.ndarray[Any, np.dtype[np.uint64]], int, bytes]:
    """Of an RGBA image: a 128-bit hash of size and pixels (2), the perceptual hash, and the thumbnail's bytes."""
    pillow = require("PIL.Image", "images")
    digest = hashlib.blake2b(f"{image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    on_white = pillow.new("RGBA", image.size, "white")
    on_white.alpha_composite(image)
    colour = on_white.convert("RGB")
    small = np.asarray(colour.convert("L").resize((_DCT_SIDE, _DCT_SIDE), pillow.Resampling.BOX), np.float64)
    thumbnail = colour.resize((SIDE, SIDE), pillow.Resampling.BOX).tobytes()
    return np.frombuffer(digest.digest(), "<u8").astype(np.uint64), perceptual_hash(small), thumbnail


def perceptual_hash(grey: np.ndarray[Any, np.dtype[np.float64]]) -> int:
    """The 64-bit pHash of a grey image of 32 x 32 values."""
    cosines, chosen = _transform()
    values = (cosines @ grey @ cosines.T).ravel()[chosen]
    # rounded: where an image has nothing of a frequency, noise of the arithmetic must not decide
    bits = np.round(values, 6) > np.median(np.round(values, 6))
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@lru_cache(maxsize=1)
def _transform() -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """The matrix of the one-dimensional transform, and which 64 coefficients count: the lowest but the mean."""
    place = np.arange(_DCT_SIDE)
    cosines = np.cos(np.pi * np.outer(place, place + 0.5) / _DCT_SIDE)
    order = sorted((int(u + v), int(u), int(v)) for u in place for v in place)[1:65]
    return cosines, np.array([u * _DCT_SIDE + v for _, u, v in order])

"""Table steps over images: equal pixels, nearly equal pictures, and both across splits.

The rules are those for texts: within a split and label the first stays; a training image that a held-out set has, or
nearly has, is leakage and goes.

The thresholds were chosen on 1,906 emoji of 64 x 64 pixels (without skin tones) and 785 clip-art pictures, each against
changed copies of itself and all the others. With 8 bits and a difference of 9, of the copies are found: half size 99.7%
and 88%, JPEG at quality 50 99.0% and 97%, at quality 25 97% and 96%, brightness or contrast changed by a tenth 99% or
more, 2% cut off every side 80% and 55%, 5% cut off 13% and 7% (a crop that wide needs embeddings: ``vector``). Of the
1.8 million pairs of different emoji 187 are taken for each other, of the 308 thousand pairs of pictures 10: pictures
that differ in a detail, such as the digit on a key.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations, pairwise
from typing import TypeAlias

import numpy as np

from deepseek.data.cleaning.candidates import Candidates, Large, Measure
from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.images import CHANNELS, PHASH, PIXELS_HIGH, PIXELS_LOW, SIDE, THUMBNAIL
from deepseek.data.cleaning.leakage import equal_to_held_out
from deepseek.data.cleaning.near_duplicates import groups_of, held_out_of, repeats
from deepseek.data.cleaning.repeats import conflicts, equal_rows
from deepseek.data.cleaning.shingles import Bools, Hashes, Integers, mixed
from deepseek.data.cleaning.step import Columns, Rejection, RowNumbers, Rows

EXACT = "exact duplicate image"
CONFLICT = "conflicting labels of one image"
NEAR = "near duplicate image"
LEAK_EQUAL = "leakage: image equals a held-out one"
LEAK_SIMILAR = "leakage: image nearly equals a held-out one"
THUMBNAIL_DIFFERENCE = 9.0
"""The largest mean difference of two thumbnails' values (0 to 255), apart from overall brightness and contrast."""
BORDERS = (0.02, 0.05)
"""The borders, in parts of the side, that one of two copies may lack on every side."""
_BLOCK = 2048

Thumbnails: TypeAlias = "np.ndarray[tuple[int, int], np.dtype[np.float32]]"


def exact_images(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Keep the first of the images with equal pixels in each split and label, however they are encoded."""
    return equal_rows(rows, PIXELS_HIGH, PIXELS_LOW, EXACT)


def conflicting_images(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Reject the copies of an image whose labels differ: all of them, or all but the first."""
    return conflicts(rows, config, PIXELS_HIGH, PIXELS_LOW, CONFLICT)


def near_images(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Reject images that look like an earlier kept one of their split and label."""
    assert config.near_images is not None
    measure = ImageMeasure(rows, config.near_images, groups_of(rows))
    yield from repeats(measure.numbers, image_candidates(measure).first_similar(), NEAR)


def image_leakage(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Reject training images that equal, or look like, a held-out one."""
    equal = []
    for row, held_out_row in equal_to_held_out(rows, PIXELS_HIGH, PIXELS_LOW):
        equal.append(row)
        yield Rejection(row=row, reason=LEAK_EQUAL, duplicate_of=held_out_row)
    held_out = held_out_of(rows)
    if config.near_images is not None and held_out.any() and not held_out.all():
        measure = ImageMeasure(rows, config.near_images)
        candidates = image_candidates(measure, held_out)
        eligible = ~np.isin(measure.numbers, np.array(equal, np.int64))
        yield from repeats(measure.numbers, candidates.first_similar(eligible), LEAK_SIMILAR)


class ImageMeasure(Measure):
    """Perceptual hashes within ``bits`` bits of each other, and thumbnails that agree.

    Images of different ``groups`` (a number each) are never similar.
    """

    def __init__(self, rows: Rows, bits: int, groups: Hashes | None = None) -> None:
        self._rows, self.bits, self.groups = rows, bits, groups
        parts = [(numbers, batch.column(0).to_numpy()) for numbers, batch in rows.batches([PHASH])]
        self.numbers: RowNumbers = np.concatenate([*(numbers for numbers, _ in parts), np.empty(0, np.int64)])
        self.hashes: Hashes = np.concatenate([*(hashes for _, hashes in parts), np.empty(0, np.uint64)])
        self.count = len(self.numbers)

    def possible(self, left: Integers, right: Integers) -> Bools:
        """Which pairs' perceptual hashes are near each other."""
        near: Bools = np.bitwise_count(self.hashes[left] ^ self.hashes[right]) <= self.bits
        return near if self.groups is None else near & (self.groups[left] == self.groups[right])

    def similar(self, left: Integers, right: Integers) -> Bools:
        """Which pairs' thumbnails agree, too."""
        alike = self.possible(left, right)
        for at in range(0, len(left), _BLOCK):
            part = slice(at, at + _BLOCK)
            alike[part] &= difference(self._thumbnails(left[part]), self._thumbnails(right[part])) <= (
                THUMBNAIL_DIFFERENCE
            )
        return alike

    def _thumbnails(self, positions: Integers) -> Thumbnails:
        found, back = np.unique(positions, return_inverse=True)
        column = self._rows.take(self.numbers[found], [THUMBNAIL]).column(0)
        values = np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, SIDE * SIDE * CHANNELS)
        return values[back].astype(np.float32)

    def large(self, rows: Integers) -> Large:
        """Images of large buckets, compared by their hashes first."""
        return _LargeImages(self, rows)


class _LargeImages(Large):
    def __init__(self, measure: ImageMeasure, members: Integers) -> None:
        self._measure, self._members = measure, members

    def similar(self, row: int, open_: Bools) -> Integers:
        """Which open images look like ``row``."""
        others = self._members[open_[self._members]]
        left = np.full(len(others), row)
        near = self._measure.possible(left, others)
        others, left = others[near], left[near]
        return others[self._measure.similar(left, others)]


def difference(left: Thumbnails, right: Thumbnails) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Mean absolute difference of pairs of thumbnails, as alike as brightness, contrast and cropping can make them.

    Contrast is changed by a fifth at most, and the border that is taken off one of the two is a few hundredths wide:
    beyond that the pictures are not the same.
    """
    best = _after_exposure(left, right)
    for zoom in _zooms():
        best = np.minimum(best, _after_exposure(_zoomed(left, zoom), right))
        best = np.minimum(best, _after_exposure(left, _zoomed(right, zoom)))
    return best


def _after_exposure(left: Thumbnails, right: Thumbnails) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    left = left - left.mean(axis=1, keepdims=True)
    right = right - right.mean(axis=1, keepdims=True)
    spread = np.maximum(right.std(axis=1, keepdims=True), np.float32(1e-3))
    gain = np.clip(left.std(axis=1, keepdims=True) / spread, 0.8, 1.25)
    means: np.ndarray[tuple[int], np.dtype[np.float32]] = np.abs(left - right * gain).mean(axis=1)
    return means


@lru_cache(maxsize=1)
def _zooms() -> list[Thumbnails]:
    """Matrices that interpolate a line of a thumbnail's inner part, one for each border that may have been cut off."""
    matrices = []
    for border in BORDERS:
        centre = (np.arange(SIDE) + 0.5) / SIDE
        place = np.clip((border + centre * (1 - 2 * border)) * SIDE - 0.5, 0, SIDE - 1)
        below = np.minimum(place.astype(int), SIDE - 2)
        matrix = np.zeros((SIDE, SIDE), np.float32)
        matrix[np.arange(SIDE), below] = 1 - (place - below)
        matrix[np.arange(SIDE), below + 1] += place - below
        matrices.append(matrix)
    return matrices


def _zoomed(thumbnails: Thumbnails, zoom: Thumbnails) -> Thumbnails:
    squares = thumbnails.reshape(-1, SIDE, SIDE, CHANNELS)
    inner: Thumbnails = np.einsum("ij,njkc,lk->nilc", zoom, squares, zoom, optimize=True).reshape(len(thumbnails), -1)
    return inner


def image_candidates(measure: ImageMeasure, held_out: Bools | None = None) -> Candidates:
    """All pairs of hashes within the measure's bits of each other: none is missed.

    The hash is cut into ``bits + parts`` pieces. At most ``bits`` of them can differ, so ``parts`` of them are equal:
    each choice of so many pieces makes one band. More pieces make more bands of more bits each, and smaller buckets:
    there are enough of them for a bucket to have a few images by chance, whatever the number of images.
    """
    wanted = math.log2(max(measure.count, 4)) - 2  # bits a band
    parts = next((parts for parts in (1, 2, 3) if 64 * parts / (measure.bits + parts) >= wanted), 4)
    cuts = np.linspace(0, 64, measure.bits + parts + 1).round().astype(int).tolist()
    masks = [((1 << high) - 1) ^ ((1 << low) - 1) for low, high in pairwise(cuts)]
    candidates = Candidates(measure, held_out)
    for chosen in combinations(masks, parts):
        codes = measure.hashes & np.uint64(sum(chosen))
        candidates.add_band(mixed(codes) if measure.groups is None else mixed(codes) ^ measure.groups)
    return candidates

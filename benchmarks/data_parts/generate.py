"""The data that the contestants share, made from a seed: driver statistics, image-like blobs, short texts.

Nothing here is downloaded, and another seed gives other data of the same kind.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START = np.datetime64("2026-01-01T00:00:00", "us")
SPAN_US = 30 * 86_400 * 1_000_000
KEY = "driver_id"
FEATURES = ("conv_rate", "acc_rate", "rating", "avg_daily_trips", "late_minutes")
ZIPF_EXPONENT = 0.5
_CHUNK = 1_000_000


def driver_stats(folder: Path, rows: int, requests: int, keys: int, seed: int) -> tuple[Path, Path]:
    """Write ``features.parquet`` and ``requests.parquet`` in no order; return their paths.

    Keys are drawn with probability proportional to ``rank ** -0.5`` (some drivers have 300 times as many rows as
    others). No two rows have the same event time, so that every contestant must pick the same row. Rows become known
    after their event: most within minutes, 1% within a day.
    """
    rng = np.random.default_rng([seed, rows, requests])
    weights = np.arange(1, keys + 1) ** -ZIPF_EXPONENT
    chances = np.cumsum(weights / weights.sum())
    features, asked = folder / "features.parquet", folder / "requests.parquet"
    times = _distinct_times(rng, rows)
    schema = pa.schema(
        [(KEY, pa.int64()), ("event_timestamp", _TIME), ("created", _TIME)]
        + [(name, pa.float64()) for name in FEATURES[:3]]
        + [(name, pa.int64()) for name in FEATURES[3:]]
    )
    with pq.ParquetWriter(features, schema) as writer:
        for start in range(0, rows, _CHUNK):
            event = times[start : start + _CHUNK]
            n = len(event)
            late = np.where(rng.random(n) < 0.01, 86_400e6 * rng.random(n), rng.exponential(300e6, n)).astype(np.int64)
            columns = [
                pa.array(_keys(rng, chances, n)),
                pa.array(event).cast(_TIME),
                pa.array(event + late.astype("timedelta64[us]")).cast(_TIME),
                *(pa.array(rng.random(n)) for _ in FEATURES[:3]),
                *(pa.array(rng.integers(0, 1000, n)) for _ in FEATURES[3:]),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    event = _distinct_times(rng, requests)
    table = pa.table(
        {
            "request_id": pa.array(np.arange(requests)),
            KEY: pa.array(_keys(rng, chances, requests)),
            "event_timestamp": pa.array(event).cast(_TIME),
        }
    )
    pq.write_table(table, asked)
    return features, asked


_TIME = pa.timestamp("us", tz="UTC")


def _keys(rng: np.random.Generator, chances: np.ndarray, count: int) -> np.ndarray:
    """Driver numbers; the rank is scattered so that popular drivers are not neighbours."""
    ranks = np.minimum(np.searchsorted(chances, rng.random(count)), len(chances) - 1)
    return (ranks.astype(np.int64) * 7_919 + 13) % len(chances)


def _distinct_times(rng: np.random.Generator, count: int) -> np.ndarray:
    step = SPAN_US // count
    offsets = rng.permutation(count).astype(np.int64) * step + rng.integers(0, step, count)
    return START + offsets.astype("timedelta64[us]")


def blobs(count: int, seed: int, batch: int = 500) -> Iterator[pa.RecordBatch]:
    """Batches of ``id`` and ``image``: JPEG files of 10 to 75 kB, no two alike.

    Encoding tens of thousands of pictures would take minutes, so each is one of 64 pictures of smooth noise with a JPEG
    comment of random bytes behind its head: a decoder has its usual work, and compression finds nothing.
    """
    pictures = _pictures(np.random.default_rng([seed, 0]), 64)
    for start in range(0, count, batch):
        rng = np.random.default_rng([seed, 1, start])
        numbers = np.arange(start, min(start + batch, count))
        content = []
        for picture in rng.integers(len(pictures), size=len(numbers)):
            comment = rng.bytes(64)
            head = b"\xff\xd8\xff\xfe" + (len(comment) + 2).to_bytes(2, "big")
            content.append(head + comment + pictures[picture][2:])
        yield pa.record_batch({"id": pa.array(numbers), "image": pa.array(content, pa.large_binary())})


def _pictures(rng: np.random.Generator, count: int) -> list[bytes]:
    """JPEG files of 10 to 75 kB."""
    from PIL import Image

    pictures = []
    for size in np.linspace(150, 420, count).astype(int):
        coarse = Image.fromarray(rng.integers(0, 256, (size // 4, size // 4, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((int(size), int(size)), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        pictures.append(file.getvalue())
    return pictures


def short_texts(
    count: int, seed: int, *, copies: float = 0.1, words: int = 20
) -> tuple[list[str], list[tuple[int, int]]]:
    """Short texts and the planted pairs ``(copy, original)``.

    A tenth of the texts are copies of earlier ones with one word of about twenty changed, added or left out; the others
    are drawn from 50,000 made-up words with natural (Zipf) frequencies, and are as unlike as such texts are.
    """
    rng = np.random.default_rng([seed, count])
    vocabulary = _words(rng, 50_000)
    weights = 1 / np.arange(10, len(vocabulary) + 10)
    chances = np.cumsum(weights / weights.sum())
    texts: list[str] = []
    pairs: list[tuple[int, int]] = []
    originals: list[int] = []
    lengths = rng.integers(words - 6, words + 7, count)
    copied = rng.random(count) < copies
    drawn = np.minimum(np.searchsorted(chances, rng.random(int(lengths.sum()) + count)), len(vocabulary) - 1)
    position = 0
    for index in range(count):
        if copied[index] and originals:
            original = originals[int(rng.integers(len(originals)))]
            tokens = texts[original].split(" ")
            spot, fresh = int(rng.integers(len(tokens))), vocabulary[drawn[position]]
            edit = int(rng.integers(3))
            tokens[spot : spot + (edit != 1)] = [] if edit == 2 else [fresh]
            position += 1
            pairs.append((index, original))
        else:
            tokens = [vocabulary[word] for word in drawn[position : position + lengths[index]]]
            position += int(lengths[index])
            originals.append(index)
        texts.append(" ".join(tokens))
    return texts, pairs


def _words(rng: np.random.Generator, count: int) -> list[str]:
    consonants, vowels = "bcdfghjklmnprstvwz", "aeiou"
    words: dict[str, None] = {}
    while len(words) < count:
        syllables = int(rng.integers(1, 5))
        letters = zip(
            rng.integers(len(consonants), size=syllables), rng.integers(len(vowels), size=syllables), strict=True
        )
        words["".join(consonants[c] + vowels[v] for c, v in letters) + ("" if rng.random() < 0.5 else "n")] = None
    return list(words)

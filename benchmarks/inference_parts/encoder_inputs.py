"""The cells: batches that every contestant answers alike, and the texts of the mix.

Fixed shapes are random tokens without padding. The mix is real: held-out movie sentences, one at a time in the order in
which they came, and 32 at a time, sorted by length and padded to the longest of the 32.
"""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inference_parts.context import Context
from benchmarks.inference_parts.encoder_models import TOKENIZER, Encoder
from benchmarks.inference_parts.encoder_timing import NAMES

ROWS, TOKENS = (1, 8, 32), (32, 128, 512)
MIX = {1: 64, 32: 320}
"""Rows a batch to sentences."""
CALIBRATION = 300
MAX_LENGTH = 128


@dataclass(frozen=True)
class Cell:
    """A name, the file of its batches, how many rows they have; ``texts`` is the file of the mix's texts."""

    name: str
    file: str
    rows: int
    size: int
    texts: str = ""


def cells(context: Context, encoder: Encoder) -> list[Cell]:
    """All cells, written once a workspace."""
    from deepseek.models import tokenizer_for

    folder = context.workspace("inputs")
    tokenizer = tokenizer_for(TOKENIZER)
    shapes = [(2, 16)] if context.quick else list(itertools.product(ROWS, TOKENS))
    made = []
    for rows, tokens in shapes:
        file = folder / f"{rows}x{tokens}.npz"
        _write(file, [_random(rows, tokens, tokenizer)])
        made.append(Cell(f"{rows} x {tokens}", str(file), rows, rows))
    for size, count in MIX.items():
        texts = [row["text"] for row in encoder.held_out[: 2 * size if context.quick else count]]
        file, words = folder / f"mix-{size}.npz", folder / f"mix-{size}.json"
        _write(file, _padded(texts, size, tokenizer))
        words.write_text(json.dumps(texts), encoding="utf-8")
        made.append(Cell(f"sentences, {size} a batch", str(file), len(texts), size, str(words)))
    return made


def calibration(context: Context, encoder: Encoder) -> str:
    """The file of texts that peers calibrate int8 with, one a JSON line."""
    file = context.workspace("inputs") / "calibration.jsonl"
    count = 8 if context.quick else CALIBRATION
    file.write_text("\n".join(json.dumps(row["text"]) for row in encoder.calibration[:count]), encoding="utf-8")
    return str(file)


def _random(rows: int, tokens: int, tokenizer: Any) -> dict[str, np.ndarray]:
    drawn = random.Random(rows * tokens)  # noqa: S311 - no secret
    special = set(tokenizer.all_special_ids)
    usual = [i for i in range(len(tokenizer)) if i not in special]
    ids = [[tokenizer.cls_token_id, *drawn.choices(usual, k=tokens - 2), tokenizer.sep_token_id] for _ in range(rows)]
    array = np.array(ids, np.int64)
    return dict(zip(NAMES, (array, np.ones_like(array), np.zeros_like(array)), strict=True))


def _padded(texts: list[str], size: int, tokenizer: Any) -> list[dict[str, np.ndarray]]:
    features = [tokenizer(text, truncation=True, max_length=MAX_LENGTH) for text in texts]
    if size > 1:
        features.sort(key=lambda feature: len(feature["input_ids"]), reverse=True)
    starts = range(0, len(features), size)
    return [dict(tokenizer.pad(features[start : start + size], return_tensors="np")) for start in starts]


def _write(file: Path, batches: list[dict[str, np.ndarray]]) -> None:
    arrays = {f"{number}.{name}": batch[name] for number, batch in enumerate(batches) for name in NAMES}
    np.savez(file, **arrays)

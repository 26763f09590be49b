"""The texts of the generation benchmark: prompts and held-out windows, as token ids in files that every process reads.

Real prose: posts of 20 newsgroups, which no contestant has seen more of than another.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from benchmarks.inference_parts.context import Context
from deepseek.data import Table, ingest
from deepseek.models import resolve, tokenizer_for

MODEL = "smollm2-135m-instruct"
SOURCE = "20-newsgroups"
WINDOW = 512
TOKENS = 60_000


@dataclass(frozen=True)
class Inputs:
    """Files of token ids: one long list to draw prompts from, and windows to score."""

    model: Path
    tokens: str
    windows: str


def inputs(context: Context) -> Inputs:
    """Write the files, once a workspace."""
    folder = context.workspace("generation")
    tokens, windows = folder / "tokens.json", folder / "windows.json"
    model = resolve(MODEL).path
    if not windows.is_file():
        ingest(SOURCE, folder / "raw.lance", overwrite=True)
        texts = [row["text"] for row in Table.open(folder / "raw.lance").rows()]
        random.Random(0).shuffle(texts)  # noqa: S311 - a sample, not a secret
        tokenizer = tokenizer_for(MODEL)
        ids: list[int] = []
        for text in texts:
            ids += tokenizer(text + "\n\n")["input_ids"]
            if len(ids) > TOKENS:
                break
        count = 2 if context.quick else 12
        tokens.write_text(json.dumps(ids[count * WINDOW :]), encoding="utf-8")
        windows.write_text(json.dumps([ids[i * WINDOW : (i + 1) * WINDOW] for i in range(count)]), encoding="utf-8")
    return Inputs(model, str(tokens), str(windows))

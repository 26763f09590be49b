"""The two encoders, as bundles with int8 copies: what ours loads, and a plain transformers folder for the peers.

MiniLM is the quickstart's recipe, trained, with a tenth of the rows kept out of training: copies are calibrated and
checked on those, so that the held-out rows have no part in it. The other has BERT-base's size and random weights, for
speed alone; that its copies answer as well says nothing, so any drop is let through.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import say
from benchmarks.inference_parts.context import Context
from deepseek.bundles import Bundle, write_bundle
from deepseek.data import Table
from deepseek.inference import Quantized, quantize
from deepseek.recipe import Recipe, load_recipe, run_recipe

MINILM, BASE = "MiniLM", "BERT-base size"
TOKENIZER = "all-minilm-l6-v2"
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
FEW = 60
"""Rows of each split in a quick run."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A bundle with its copy, rows that copies are calibrated with, and rows that nothing was made with."""

    name: str
    folder: Path
    calibration: list[dict[str, Any]]
    held_out: list[dict[str, Any]]


def encoders(context: Context) -> dict[str, Encoder]:
    """Both, made once a workspace."""
    rows = _rows(context)
    made = {MINILM: _minilm(context, rows), BASE: _random(context, rows, "bert-base")}
    return {
        name: Encoder(name=name, folder=path, calibration=rows["validation"], held_out=rows["test"])
        for name, path in made.items()
    }


def _rows(context: Context) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split; the recipe's run makes them, and a quick run reads the data set itself."""
    if context.quick:
        from deepseek.data import open_source

        source = open_source(load_recipe("quickstart").data.source).rows()
        drawn = list(itertools.islice((row for row in source if row["label"]), 2 * FEW))
        return {"validation": drawn[:FEW], "test": drawn[FEW:]}
    table = _run(context) / "clean.lance"
    return {split: list(Table.open(table).rows(where=f"split = '{split}'")) for split in ("validation", "test")}


def _run(context: Context) -> Path:
    """The folder of the recipe's run."""
    folder = context.folder / "minilm"
    if not Bundle.is_bundle(folder / "bundle"):
        fields = load_recipe("quickstart").model_dump(mode="json")
        fields["data"]["split"]["validation"] = 0.1
        done = run_recipe(Recipe.model_validate(fields), folder)
        say(f"MiniLM trained: {done.metrics['accuracy']:.2%} held out, {done.rows}")
    return folder


def _minilm(context: Context, rows: dict[str, list[dict[str, Any]]]) -> Path:
    if context.quick:
        return _random(context, rows, "minilm")
    path = _run(context) / "bundle"
    if not Bundle.open(path).manifest.compiled:
        _said(MINILM, quantize(path, rows["validation"]))
    return path


def _random(context: Context, rows: dict[str, list[dict[str, Any]]], name: str) -> Path:
    """A bundle with random weights and the quickstart's task."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from deepseek.models import tokenizer_for

    path = context.folder / name
    if not Bundle.is_bundle(path):
        torch.manual_seed(0)
        recipe = load_recipe("quickstart")
        task = recipe.build_task().fitted(rows["validation"])
        config = BertConfig(**(TINY if context.quick else {}), num_labels=2)
        write_bundle(
            path,
            model=BertForSequenceClassification(config),
            tokenizer=tokenizer_for(TOKENIZER),
            task=task,
            name=name,
            base_model="random weights",
            license="Apache-2.0",
        )
    if not Bundle.open(path).manifest.compiled:
        _said(name, quantize(path, rows["validation"], max_drop=1.0, calibration=100))
    return path


def _said(name: str, made: Quantized) -> None:
    for runtime, copy in made.copies.items():
        found = copy.record
        say(f"{name}: int8 copy for {runtime}, {found.metric} {found.reference:.4f} to {found.value:.4f}")
    for runtime, reason in made.refused.items():
        say(f"{name}: no copy for {runtime}: {reason}")

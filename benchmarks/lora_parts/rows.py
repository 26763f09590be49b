"""The rows of a shipped recipe, cleaned and split as it says, and files of them that every process reads alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lora_parts.context import Context
from deepseek.data import Table, ingest
from deepseek.recipe import Recipe, load_recipe
from deepseek.recipe.preparation import prepare


@dataclass(frozen=True)
class Prepared:
    """Training and held-out rows, and how many the cleaner rejected for what reason."""

    train: list[dict[str, Any]]
    test: list[dict[str, Any]]
    rejected: dict[str, int]


def prepared(recipe: Recipe, context: Context) -> Prepared:
    """Ingest, clean and split as ``recipe`` says. A quick run keeps a few rows of each label."""
    folder = context.workspace(f"rows-{recipe.data.source}")
    ingest(recipe.data.source, folder / "raw.lance", overwrite=True)
    raw = Table.open(folder / "raw.lance")
    made = prepare(raw, folder, recipe.data.clean, recipe.data.split, text="text", label="label")
    train = list(made.table.rows(where="split = 'train'"))
    test = list(made.table.rows(where="split = 'test'"))
    if context.quick:
        train, test = _few(train, 24), _few(test, 12)
    return Prepared(train, test, made.reasons)


def recipe_for_lengths(source: str) -> Recipe:
    """The quickstart's recipe on another data set, near duplicates kept: where only the texts' lengths matter."""
    data = {"source": source, "clean": {"near_duplicates": None}}
    return Recipe.model_validate({**load_recipe("quickstart").model_dump(mode="json"), "data": data})


def written(rows: Iterable[Mapping[str, Any]], path: Path) -> str:
    """``text`` and ``label`` of rows as JSONL; returns the path."""
    lines = (json.dumps({"text": r["text"], "label": r["label"]}, ensure_ascii=False) for r in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def _few(rows: list[dict[str, Any]], each: int) -> list[dict[str, Any]]:
    seen: dict[str, int] = {}
    kept = []
    for row in rows:
        seen[row["label"]] = seen.get(row["label"], 0) + 1
        if seen[row["label"]] <= each:
            kept.append(row)
    return kept

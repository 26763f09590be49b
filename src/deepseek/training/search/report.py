"""A search for people and other tools: tables (CSV, JSON, text), the best recipe as YAML, plots as PNG."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deepseek.artifacts.cache import write_text
from deepseek.training.search.trials import SearchResult, Trial

if TYPE_CHECKING:
    from deepseek.training.recipe import TrainingRecipe

TABLE, RECORD, BEST = "trials.csv", "trials.json", "best.yaml"
ROWS = 10


def write_trials(trials: Sequence[Trial], folder: Path, metric: str) -> None:
    """Write ``trials.csv`` (a row a trial) and ``trials.json`` (with every report)."""
    names = list(dict.fromkeys(name for t in trials for name in t.parameters))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", "state", metric, *names, "seconds", "reason"])
    for t in trials:
        values = [_cell(t.parameters.get(name)) for name in names]
        writer.writerow([t.number, t.state, _cell(t.value), *values, f"{t.seconds:.3f}", t.reason or ""])
    write_text(folder / TABLE, text.getvalue())
    write_text(folder / RECORD, json.dumps([asdict(t) for t in trials], indent=1, ensure_ascii=False))


def write_best(recipe: TrainingRecipe, folder: Path) -> None:
    """Write the best recipe as ``best.yaml``, without what it leaves at its default."""
    settings = recipe.model_dump(mode="json", exclude_defaults=True)
    write_text(folder / BEST, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def table_text(result: SearchResult) -> str:
    """The best trials as an aligned table, best first."""
    sign = 1 if result.direction == "minimize" else -1
    order = {"complete": 0, "pruned": 1, "failed": 2}
    ranked = sorted(result.trials, key=lambda t: (order[t.state], sign * (t.value or 0.0), t.number))
    names = list(result.best.parameters)
    rows = [["trial", result.metric, *names, "state", "time"]]
    for t in ranked[:ROWS]:
        value = f"{t.value:.4f}" if t.value is not None else "-"
        cells = [_short(t.parameters.get(name)) for name in names]
        rows.append([str(t.number), value, *cells, t.state, f"{t.seconds:.1f} s"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    counts = [f"{sum(t.state == s for t in result.trials)} {s}" for s in order]
    more = [f"... and {len(ranked) - ROWS} more in {result.folder / TABLE}"] if len(ranked) > ROWS else []
    return "\n".join([*lines, *more, f"{', '.join(counts)}; best recipe: {result.folder / BEST}"])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return repr(value) if isinstance(value, float) else "" if value is None else value

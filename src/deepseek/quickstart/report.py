"""The quickstart's results as a file that a machine reads."""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.artifacts.cache import write_text
from deepseek.bundles.versions import library_versions

if TYPE_CHECKING:
    from deepseek.recipe import RunResult

LIBRARIES = ("deepseek", "torch", "transformers", "peft", "pylance", "granian", "grpcio", "scikit-learn")


def write_results(path: Path, result: RunResult, *, wall_seconds: float, command: str) -> None:
    """Write ``quickstart.json``: accuracy against the baseline, share of trainable weights, wall time in seconds."""
    peak = max(s.peak_bytes for s in result.steps.steps) / 1e6
    accuracy, baseline = result.metrics["accuracy"], result.baseline["accuracy"]
    share = result.trainable / result.parameters
    interval = f"95% interval {result.metrics['accuracy_low']:.4f} to {result.metrics['accuracy_high']:.4f}"
    figures = {
        "accuracy": _figure(accuracy, "fraction", baseline, "TF-IDF + logistic regression", interval),
        "trainable_share": _figure(share, "fraction", 1.0, "full fine-tuning", f"{result.trainable} weights"),
        "wall_s": _figure(
            wall_seconds, "s", 360.0, "promised at most", "without downloads; model loading and serving included"
        ),
        "peak_memory_mb": _figure(peak, "MB", None, "", "highest resident memory of any step"),
    }
    document = {
        "name": "quickstart",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "command": command,
        "hardware": _hardware(),
        "versions": {"python": platform.python_version(), **library_versions(LIBRARIES)},
        "figures": figures,
    }
    write_text(path, json.dumps(document, indent=2) + "\n")


def _figure(value: float, unit: str, baseline: float | None, name: str, note: str) -> dict[str, Any]:
    ratio = round(value / baseline, 4) if baseline else None
    return {
        "value": round(value, 6),
        "unit": unit,
        "baseline": round(baseline, 6) if baseline is not None else None,
        "baseline_name": name,
        "ratio": ratio,
        "note": note,
    }


def _hardware() -> dict[str, Any]:
    from deepseek.inference.hardware import examine

    return {f.subject: f.detail for f in examine() if f.subject in {"processor", "memory", "GPU"}}


def _commit() -> str:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)  # noqa: S607
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()

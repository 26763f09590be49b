"""Render results/*.json as docs/benchmarks.md, claim by claim: promised, measured, against what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TARGET = HERE.parent / "docs" / "benchmarks.md"

CLAIMS: tuple[tuple[str, str, str, str], ...] = (
    (
        "quickstart",
        "accuracy",
        "Held-out accuracy on movie-review sentences",
        "at least 3 points over TF-IDF + logistic regression",
    ),
    ("quickstart", "trainable_share", "Trainable weights with LoRA", "at most 10% of all weights"),
    ("quickstart", "wall_s", "Raw sentences to a served model, downloads apart", "under 360 s on 2 cores"),
    ("quickstart", "peak_memory_mb", "Peak memory of the whole run", "not promised"),
    ("lora", "time_ratio", "LoRA against full fine-tuning, time", "2.4x faster"),
    ("lora", "memory_ratio", "LoRA against full fine-tuning, memory", "83% less"),
    ("rest", "requests_per_s", "REST requests a second", "10,000 or more"),
    ("grpc", "requests_per_s", "gRPC requests a second", "10,000 or more"),
    ("attention", "exponent", "Sparse attention, scaling exponent", "O(n log n)"),
    ("glue", "average", "DeepSeek-Base on GLUE against BERT-base", "3.2 points more"),
)
"""Result file, figure, what it is, what was promised."""


def main() -> None:
    """Write docs/benchmarks.md."""
    results = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted((HERE / "results").glob("*.json"))}
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(render(results), encoding="utf-8")
    print(f"wrote {TARGET}")


def render(results: dict[str, Any]) -> str:
    """The page as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "Made by `make report` from `benchmarks/results/`. Each figure names the command that measures it again.",
        "Absolute times mean little on shared machines; compare the ratios.",
        "",
        "| claim | promised | measured | against | ratio | command |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, key, what, promised in CLAIMS:
        figure = results.get(name, {}).get("figures", {}).get(key)
        if figure is None:
            lines.append(f"| {what} | {promised} | not measured here: no benchmark of it yet | | | |")
            continue
        against = f"{_number(figure['baseline'])} ({figure['baseline_name']})" if figure["baseline"] is not None else ""
        ratio = _number(figure["ratio"]) if figure["ratio"] is not None else ""
        lines.append(
            f"| {what} | {promised} | {_number(figure['value'])} {figure['unit']} | {against} | {ratio} | "
            f"`{results[name]['command']}` |"
        )
    lines += ["", "## Where and when", ""]
    for name, result in results.items():
        hardware = ", ".join(f"{k}: {v}" for k, v in result["hardware"].items())
        versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
        lines += [f"**{name}**, {result['date']}, commit `{result['commit'][:12]}`: {hardware}. {versions}.", ""]
        notes = [f"- {key}: {figure['note']}" for key, figure in result["figures"].items() if figure["note"]]
        lines += [*notes, ""]
    return "\n".join(lines).rstrip() + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


if __name__ == "__main__":
    main()

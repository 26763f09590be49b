"""The report of a run, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepseek.recipe import RunResult
    from deepseek.resources import Steps


def print_run(result: RunResult) -> None:
    """Print scores, weights, rows, and time and memory of each step."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print()
    metrics, baseline = result.metrics, result.baseline
    if score := _score(result):
        console.print(score)
    if baseline:
        points = (metrics["accuracy"] - baseline["accuracy"]) * 100
        console.print(
            f"[bold]baseline[/]   {baseline['accuracy']:.1%} TF-IDF + logistic regression on the same rows: "
            f"{'+' if points >= 0 else ''}{points:.1f} points"
        )
    share = result.trainable / result.parameters
    console.print(f"[bold]trained[/]    {result.trainable:,} of {result.parameters:,} weights ({share:.2%})")
    rows = ", ".join(f"{count:,} {split}" for split, count in result.rows.items())
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in result.cleaning.items())
    console.print(f"[bold]rows[/]       {rows}; rejected: {rejected or 'none'}")
    print_steps(result.steps)
    console.print(f"[bold]bundle[/]     {result.bundle.path}")


SHARES = frozenset({"accuracy", "f1", "f1_micro", "f1_macro", "recall_at_1"})
"""Metrics that people read as percentages."""


def _score(result: RunResult) -> str:
    metrics, main = result.metrics, result.training.task.main_metric
    if main not in metrics:
        return ""

    def show(value: float) -> str:
        return f"{value:.1%}" if main in SHARES else f"{value:.4g}"

    text = (
        f"[bold]{main.replace('_', ' '):<10}[/] {show(metrics[main])} on {result.rows.get(result.held_out, 0):,} rows"
    )
    text += f" of split {result.held_out!r}"
    if f"{main}_low" in metrics:
        text += f" (95% interval {show(metrics[f'{main}_low'])} to {show(metrics[f'{main}_high'])})"
    others = [name for name in ("f1_macro", "spearman", "rmse") if name in metrics and name != main]
    return ", ".join([text, *(f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in others)])


def print_steps(steps: Steps) -> None:
    """Print a table of steps."""
    from deepseek.cli.output import print_table

    print_table(
        ("step", "seconds", "peak MB", ""),
        [(s.name, f"{s.seconds:.1f}", f"{s.peak_bytes / 1e6:,.0f}", s.note) for s in steps.steps]
        + [("total", f"{steps.seconds:.1f}", f"{max((s.peak_bytes for s in steps.steps), default=0) / 1e6:,.0f}", "")],
    )

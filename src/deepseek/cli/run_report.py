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
    if "accuracy" in metrics:
        console.print(
            f"[bold]accuracy[/]   {metrics['accuracy']:.1%} on {result.rows.get('test', 0):,} held-out rows "
            f"(95% interval {metrics['accuracy_low']:.1%} to {metrics['accuracy_high']:.1%}), "
            f"macro F1 {metrics['f1_macro']:.3f}"
        )
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


def print_steps(steps: Steps) -> None:
    """Print a table of steps."""
    from deepseek.cli.output import print_table

    print_table(
        ("step", "seconds", "peak MB", ""),
        [(s.name, f"{s.seconds:.1f}", f"{s.peak_bytes / 1e6:,.0f}", s.note) for s in steps.steps]
        + [("total", f"{steps.seconds:.1f}", f"{max((s.peak_bytes for s in steps.steps), default=0) / 1e6:,.0f}", "")],
    )

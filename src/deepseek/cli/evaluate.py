"""``deepseek evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

from deepseek.cli.options import Runtime


def command(
    model: Annotated[str, typer.Argument(help="A bundle, a model folder, a hub id or a catalogue name.")],
    data: Annotated[str, typer.Argument(help="A table, a CSV, TSV, JSONL or Parquet file, or a named data set.")],
    split: Annotated[str, typer.Option(help="Only rows of this split (tables with a split column).")] = "",
    where: Annotated[str, typer.Option(help="Only rows that this SQL condition selects.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    runtime: Runtime = "torch",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Score a model on rows with known answers.

    Example:

      deepseek evaluate runs/quickstart/bundle runs/quickstart/clean.lance --split test
    """
    from deepseek.cli.output import print_json_line, print_table
    from deepseek.cli.rows import of_split, rows_of
    from deepseek.inference import Predictor, evaluate

    condition = " AND ".join(filter(None, (of_split(split), f"({where})" if where else None)))
    predictor = Predictor.load(model, device=device, runtime=runtime)
    rows = list(rows_of(data, where=condition or None))
    metrics = evaluate(predictor, rows)
    if json:
        print_json_line({"rows": len(rows), **metrics})
    else:
        print_table(("metric", "value"), [("rows", f"{len(rows):,}"), *((k, f"{v:.4f}") for k, v in metrics.items())])

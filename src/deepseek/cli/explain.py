"""``deepseek explain``."""

from __future__ import annotations

from typing import Annotated

import typer

ROWS = 256
"""Rows of a source that are read to find those of middle length."""


def command(
    model: Annotated[str, typer.Argument(help="A bundle, a model folder, a hub id or a catalogue name.")],
    task: Annotated[str, typer.Option(help="What the model is for, if it does not say so itself.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=2, help="Rows of the large batch that is measured.")] = 32,
    input: Annotated[  # noqa: A002 - the option's name
        str, typer.Option("--input", "-i", help="A table, file or data set: measure with its rows.")
    ] = "",
    refresh: Annotated[bool, typer.Option("--refresh", help="Measure again.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say which runtime and precision is best for a model on this machine, and why: what --runtime auto takes.

    Every runtime that is installed runs the same batches in turn, one row and many, short and long. The fastest is
    chosen whose outputs are within 3% of PyTorch's in float32 ("off by": norm of the difference by norm). For text
    generation every core reads a prompt and writes with one stream and with several; "off by" is then the change of
    perplexity, of which 2% are allowed. What was measured is kept in the cache folder, for this model, this machine and
    these library versions; --runtime auto takes it from there. With --input it is measured anew, with those rows.

    Examples:

      deepseek explain runs/quickstart/bundle

      deepseek explain all-minilm-l6-v2 --task sentence-embedding --input reviews.jsonl

      deepseek explain runs/quickstart/bundle --refresh --json
    """
    from itertools import islice

    from deepseek.cli.output import print_json_line, print_table
    from deepseek.cli.rows import rows_of
    from deepseek.inference.choice import choose

    rows = list(islice(rows_of(input), ROWS)) if input else None
    choice = choose(
        model, task=task or None, device=device, dtype=dtype, batch_size=batch_size, rows=rows, refresh=refresh
    )
    if json:
        print_json_line(choice.model_dump(mode="json"))
    else:
        print_table(choice.header(), choice.rows(), title=choice.title())

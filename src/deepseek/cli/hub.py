"""``deepseek hub``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Models of the catalogue: list them, fetch them, convert them.", no_args_is_help=True)


@app.command("list")
def list_models(
    search: Annotated[str, typer.Argument(help="Only entries that contain this.")] = "",
) -> None:
    """List the catalogue. Any hub id (owner/name) works as well, listed or not."""
    from deepseek.cli.output import print_table
    from deepseek.hub import entries

    rows = [
        (
            e.card.name,
            e.card.title,
            f"{e.card.parameters / 1e6:,.0f}M",
            e.card.license,
            e.origin,
            "yes" if e.cached else "",
        )
        for e in entries(search)
    ]
    print_table(("name", "what it is", "weights", "licence", "fetched from", "here"), rows)


@app.command()
def pull(model: Annotated[str, typer.Argument(help="A catalogue name or a hub id (owner/name).")]) -> None:
    """Fetch a model into the cache and print its folder."""
    from deepseek.hub import pull as fetch

    typer.echo(fetch(model))


@app.command()
def convert(
    model: Annotated[str, typer.Argument(help="A BERT, RoBERTa or MiniLM: a catalogue name, a hub id or a folder.")],
    folder: Annotated[Path, typer.Argument(help="The folder to write.")],
    head: Annotated[
        str, typer.Option(help="none, masked-lm, token-classification or sequence-classification; the model's own.")
    ] = "",
    texts: Annotated[
        Path | None, typer.Option(help="A text file to fit positions on, one text a line; English texts if left out.")
    ] = None,
    layer_steps: Annotated[int, typer.Option(min=0, help="Steps of fitting for each layer by itself.")] = 40,
    joint_steps: Annotated[int, typer.Option(min=0, help="Steps of fitting for all layers together.")] = 150,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal models.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Convert a checkpoint into DeepSeek-Base, which reads long texts.

    Weights are carried over, positions fitted to the old ones: some minutes on a CPU. The table has the cosine of old
    and new outputs on texts that were not fitted to, with positions left out and with fitted ones. Train a while on
    long texts afterwards: the folder is a base like any other.

    Example:

      deepseek hub convert all-minilm-l6-v2 minilm-long
    """
    from dataclasses import asdict

    from deepseek.cli.output import print_json_line, print_table
    from deepseek.models import convert as run
    from deepseek.models.conversion.fitting import FittingConfig

    lines = None
    if texts is not None:
        if not texts.is_file():
            raise typer.BadParameter(f"expected a text file, received {texts}", param_hint="--texts")
        lines = _lines(texts)
    fitting = FittingConfig(layer_steps=layer_steps, joint_steps=joint_steps)
    report = run(model, folder, head=head or None, texts=lines, fitting=fitting, seed=seed, overwrite=overwrite)
    if json:
        print_json_line({**asdict(report), "folder": str(folder)})
        return
    print_table(report.header(), report.rows(), title=f"written to {folder}")
    if report.fresh_modules:
        typer.echo(f"to be trained: {', '.join(report.fresh_modules)}")


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as opened:
        for line in opened:
            if line.strip():
                yield line.strip()

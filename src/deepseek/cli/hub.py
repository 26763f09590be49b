"""``deepseek hub``."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Models of the catalogue: list them, fetch them.", no_args_is_help=True)


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

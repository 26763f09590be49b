"""The command's groups and its global options."""

from __future__ import annotations

from typing import Annotated

import typer

from deepseek.cli import (
    bench,
    data,
    doctor,
    evaluate,
    explain,
    export,
    hub,
    keys,
    monitoring,
    plugins,
    predict,
    profile,
    quantize,
    quickstart,
    serve,
    train,
    tune,
)

app = typer.Typer(
    help="From raw data to a served model: tables, fine-tuning, bundles, REST and gRPC.\n\n"
    "Start with [bold]deepseek quickstart[/], then copy its recipe and run [bold]deepseek train RECIPE[/].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
)


def _version(wanted: bool) -> None:
    if wanted:
        from deepseek import __version__

        typer.echo(f"deepseek {__version__}")
        raise typer.Exit


def _quiet(wanted: bool) -> None:
    if wanted:
        from deepseek import progress

        progress.silence()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", callback=_quiet, help="No progress bars.")] = False,
) -> None:
    """Options that come before the command. ``--debug`` anywhere shows tracebacks."""


app.command("quickstart")(quickstart.command)
app.command("train")(train.command)
app.command("tune")(tune.command)
app.command("evaluate")(evaluate.command)
app.command("predict")(predict.command)
app.command("serve")(serve.command)
app.command("explain")(explain.command)
app.command("profile")(profile.command)
app.command("quantize")(quantize.command)
app.command("export")(export.command)
app.add_typer(data.app, name="data")
app.add_typer(hub.app, name="hub")
app.add_typer(keys.app, name="keys")
app.add_typer(monitoring.app, name="monitoring")
app.add_typer(plugins.app, name="plugins")
app.command("doctor")(doctor.command)
app.add_typer(bench.app, name="bench")

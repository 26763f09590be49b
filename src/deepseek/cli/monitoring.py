"""``deepseek monitoring``."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Files for Prometheus and Grafana.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Files for Prometheus and Grafana."""


@app.command("export")
def export_files(
    folder: Annotated[str, typer.Argument(help="Folder to write to; it is made if need be.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that differ.")] = False,
) -> None:
    """Write alert and recording rules, a Grafana dashboard, and an example of prometheus.yml.

    The dashboard has a row for each axis: stability, resources, quality. Import it in Grafana under Dashboards, New,
    Import. Objectives are the server's; the rules read them from its metrics.

    Example:

      deepseek monitoring export monitoring
    """
    from deepseek.monitoring import export_rules

    for path in export_rules(folder, overwrite=overwrite):
        typer.echo(path)

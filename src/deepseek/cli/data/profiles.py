"""``deepseek data profile`` and ``deepseek data drift``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepseek.cli.data.tables import Engine, names_of, version_of


def profile(
    table: Annotated[str, typer.Argument(help="A table.")],
    columns: Annotated[str, typer.Option(help="Only these columns, separated by commas.")] = "",
    version: Annotated[str, typer.Option(help="A version number or tag; the newest by default.")] = "",
    json: Annotated[bool, typer.Option("--json", help="The whole profile as JSON, as a bundle keeps it.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write a readable HTML page here.")] = None,
    engine: Engine = "local",
) -> None:
    """Statistics of every column: counts, nulls, ranges, distributions, distinct and frequent values."""

    from deepseek.cli.output import print_json_line
    from deepseek.data import Table
    from deepseek.data import profile as describe
    from deepseek.data.profiles import profile_page, render_profile

    opened = Table.open(table, version_of(version))
    described = describe(opened, names_of(columns), engine=engine)
    if json:
        print_json_line(
            {"path": table, "version": opened.version, "metadata": opened.metadata, "statistics": described}
        )
    else:
        typer.echo(render_profile(described))
    if report is not None:
        report.write_text(profile_page(described, f"Profile of {Path(table).name}"), encoding="utf-8")
        typer.echo(f"report: {report}", err=json)


def drift(
    reference: Annotated[str, typer.Argument(help="A table, or the JSON of a profile.")],
    current: Annotated[str, typer.Argument(help="A table, a file or a named data set with the newer rows.")],
    reference_version: Annotated[str, typer.Option(help="Version or tag of the reference table.")] = "",
    current_version: Annotated[str, typer.Option(help="Version or tag of the current table.")] = "",
    columns: Annotated[str, typer.Option(help="Only these columns, separated by commas.")] = "",
    json: Annotated[bool, typer.Option("--json", help="The whole comparison as JSON.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write a readable HTML page here.")] = None,
    engine: Engine = "local",
) -> None:
    """Compare newer rows with reference ones, column by column. The exit code is 1 when a column has drifted."""
    from deepseek.cli.output import print_json_line
    from deepseek.cli.rows import rows_of
    from deepseek.data import Table
    from deepseek.data import drift as compare

    known = _profile_file(reference) if reference.endswith(".json") else None
    newer = Table.open(current, version_of(current_version)) if Path(current).is_dir() else rows_of(current)
    done = compare(
        known if known is not None else Table.open(reference, version_of(reference_version)),
        newer,
        names_of(columns),
        engine=engine,
    )
    if json:
        print_json_line(done.to_dict())
    else:
        typer.echo(done.render())
    if report is not None:
        report.write_text(done.to_html(f"Drift of {Path(current).name}"), encoding="utf-8")
        typer.echo(f"report: {report}", err=json)
    if done.drifted:
        raise typer.Exit(1)


def _profile_file(path: str) -> dict[str, object]:
    import json

    from deepseek.errors import DataError

    try:
        loaded = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable profile: {error}") from error
    if not isinstance(loaded, dict):
        raise DataError(f"{path}: expected the JSON object of a profile, received a {type(loaded).__name__}")
    found = loaded.get("statistics", loaded)
    return found if isinstance(found, dict) else loaded

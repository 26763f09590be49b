"""``deepseek data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Tables: ingest files and named data sets, look at rows, clean, list versions.", no_args_is_help=True
)


@app.command("list")
def list_datasets() -> None:
    """List the named data sets: real, fetched by pinned version and hash."""
    from deepseek.cli.output import print_table
    from deepseek.data import datasets

    print_table(
        ("name", "what it is", "rows", "language", "licence"),
        [(c.name, c.title, f"{c.rows:,}", c.language, c.license) for c in datasets.cards()],
    )


@app.command()
def ingest(
    source: Annotated[str, typer.Argument(help="A CSV, TSV, JSONL or Parquet file, or a named data set.")],
    table: Annotated[Path, typer.Argument(help="Folder of the new table, e.g. reviews.lance.")],
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first row that cannot be read.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write a new version if the table exists.")] = False,
    encoding: Annotated[str, typer.Option(help="Text encoding of a CSV, TSV or JSONL file; default UTF-8.")] = "",
) -> None:
    """Write a file or data set into a versioned table. Rows that cannot be read go to a rejects table beside it."""
    from deepseek.data import ingest as write

    options: dict[str, Any] = {"encoding": encoding} if encoding else {}
    report = write(source, table, strict=strict, overwrite=overwrite, **options)
    typer.echo(f"{report.rows:,} rows in {report.table}, version {report.version}")
    if report.rejected:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in report.reasons.items())
        typer.echo(f"{report.rejected:,} rows rejected ({reasons}); see {report.rejects_table}")


@app.command()
def show(
    table: Annotated[str, typer.Argument(help="A table, a file or a named data set.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Rows to show.")] = 10,
    where: Annotated[str, typer.Option(help="Only rows that this SQL condition selects (tables).")] = "",
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the first rows."""
    from itertools import islice

    from deepseek.cli.output import print_json_line, print_table
    from deepseek.cli.rows import rows_of

    rows = list(islice(rows_of(table, where=where or None), limit))
    if json:
        for row in rows:
            print_json_line(row)
    elif rows:
        print_table(list(rows[0]), [[_cell(v) for v in row.values()] for row in rows])
    else:
        typer.echo("no rows")


@app.command()
def describe(table: Annotated[Path, typer.Argument(help="A table.")]) -> None:
    """Describe a table: columns, rows, statistics, versions."""
    from deepseek.cli.output import print_json_line
    from deepseek.data import Table, profile

    opened = Table.open(table)
    print_json_line(
        {
            "path": str(table),
            "version": opened.version,
            "rows": len(opened),
            "metadata": opened.metadata,
            "statistics": profile(opened),
        }
    )


@app.command()
def versions(table: Annotated[Path, typer.Argument(help="A table.")]) -> None:
    """List a table's versions; any of them can be opened again."""
    from deepseek.cli.output import print_table
    from deepseek.data import Table

    rows = [
        (v.version, f"{v.timestamp:%Y-%m-%d %H:%M:%S}", v.rows, ", ".join(v.tags)) for v in Table.open(table).versions()
    ]
    print_table(("version", "written", "rows", "tags"), rows)


@app.command()
def clean(
    table: Annotated[Path, typer.Argument(help="The table to clean; it is not changed.")],
    output: Annotated[Path, typer.Argument(help="Folder of the cleaned table.")],
    text: Annotated[str, typer.Option(help="Column with the text.")] = "text",
    label: Annotated[str, typer.Option(help="Column with the label; '' if there is none.")] = "label",
    split: Annotated[str, typer.Option(help="Column with the split, for leakage; '' if there is none.")] = "",
    report: Annotated[Path | None, typer.Option(help="Also write a readable HTML report here.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write a new version if the output exists.")] = False,
) -> None:
    """Remove duplicates, conflicting labels, leakage and unusable rows; rejected rows are kept with their reasons."""
    from rich.console import Console

    from deepseek.data import CleaningConfig, Table, clean_table

    cleaned, done = clean_table(
        Table.open(table),
        output,
        CleaningConfig(),
        text=text,
        label=label or None,
        split=split or None,
        overwrite=overwrite,
    )
    Console().print(done.render())
    typer.echo(f"{done.rows_out:,} of {done.rows_in:,} rows kept in {cleaned.path}, version {cleaned.version}")
    if report is not None:
        typer.echo(f"report: {done.to_html(report)}")


def _cell(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."

"""``deepseek data``: tables. Import, look, query, versions, compaction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Engine = Annotated[str, typer.Option("--engine", help="Where the work runs: local (threads) or ray (a cluster).")]


def list_datasets() -> None:
    """List the named data sets: real, fetched by pinned version and hash."""
    from deepseek.cli.output import print_table
    from deepseek.data import datasets

    print_table(
        ("name", "what it is", "rows", "language", "licence"),
        [(c.name, c.title, f"{c.rows:,}", c.language, c.license) for c in datasets.cards()],
    )


def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="A file or folder (CSV, TSV, JSONL, Parquet, Arrow, images, DICOM, NIfTI, NRRD, save_to_disk), a glob "
            "pattern in quotes, a named data set, or a query with --format sql."
        ),
    ],
    table: Annotated[str, typer.Argument(help="Folder or s3:// address of the new table, e.g. reviews.lance.")],
    format: Annotated[str, typer.Option("--format", "-f", help="The format, where the suffix does not tell.")] = "",  # noqa: A002
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="An option of the format, as NAME=VALUE; repeatable.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Text encoding of a CSV, TSV or JSONL file; default UTF-8.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first row that cannot be read.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write a new version if the table exists.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget an interrupted import instead of going on.")
    ] = False,
    engine: Engine = "local",
) -> None:
    """Write rows into a versioned table; rows that cannot be read go to a rejects table beside it.

    Interrupted and run again, it goes on where it stopped.

    Examples:

      deepseek data import reviews.csv reviews.lance

      deepseek data import photos/ photos.lance

      deepseek data import "SELECT * FROM orders" orders.lance -f sql -o database=shop.sqlite
    """
    from deepseek.data import ingest as write

    options: dict[str, Any] = dict(_named_value(text) for text in option or ())
    if encoding:
        options["encoding"] = encoding
    if format:
        options["format"] = format
    report = write(source, table, strict=strict, overwrite=overwrite, engine=engine, resume=not restart, **options)
    went_on = " (an interrupted import was continued)" if report.continued else ""
    typer.echo(f"{report.rows:,} rows in {report.table}, version {report.version}{went_on}")
    if report.rejected:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in report.reasons.items())
        typer.echo(f"{report.rejected:,} rows rejected ({reasons}); see {report.rejects_table}")


def show(
    table: Annotated[str, typer.Argument(help="A table, a file or a named data set.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Rows to show.")] = 10,
    where: Annotated[str, typer.Option(help="Only rows that this SQL condition selects (tables).")] = "",
    columns: Annotated[str, typer.Option(help="Only these columns, separated by commas (tables).")] = "",
    version: Annotated[str, typer.Option(help="A version number or tag (tables); the newest by default.")] = "",
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the first rows."""
    from itertools import islice

    from deepseek.cli.output import print_rows
    from deepseek.cli.rows import rows_of

    rows = rows_of(table, where=where or None, columns=names_of(columns), version=version_of(version))
    print_rows(islice(rows, limit), json=json)


def sql(
    query: Annotated[
        str, typer.Argument(help='A SELECT over tables, e.g. "SELECT label, count(*) FROM reviews GROUP BY 1".')
    ],
    table: Annotated[
        list[str] | None,
        typer.Option("--table", "-t", help="NAME=PATH, or PATH alone: reviews.lance is called reviews; repeatable."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Rows to show.")] = 1000,
) -> None:
    """Query tables with SQL (DuckDB). A table of this folder can be named without its .lance: FROM reviews.

    The query sees the tables and nothing else: no files, no network.
    """
    from itertools import islice

    from deepseek.cli.output import print_rows
    from deepseek.data import Table
    from deepseek.data import sql as run

    paths = dict(_named_table(text) for text in table or ())
    if not paths:
        paths = {p.stem: str(p) for p in sorted(Path().glob("*.lance")) if p.stem.isidentifier()}
    with run(query, {name: Table.open(path) for name, path in paths.items()}, stream=True) as result:
        print_rows(islice((row for batch in result for row in batch.to_pylist()), limit), json=json)


def versions(table: Annotated[str, typer.Argument(help="A table.")]) -> None:
    """List a table's versions; any of them can be opened again."""
    from deepseek.cli.output import print_table
    from deepseek.data import Table

    rows = [
        (v.version, f"{v.timestamp:%Y-%m-%d %H:%M:%S}", v.rows, ", ".join(v.tags)) for v in Table.open(table).versions()
    ]
    print_table(("version", "written (UTC)", "rows", "tags"), rows)


def compact(
    table: Annotated[str, typer.Argument(help="A table.")],
    keep_days: Annotated[
        float | None, typer.Option("--keep-days", min=0, help="Also delete versions older than this; tagged ones stay.")
    ] = None,
    engine: Engine = "local",
) -> None:
    """Merge small fragments and drop deleted rows, as a new version; optionally delete old versions."""
    import datetime as dt

    from deepseek.data import Table

    opened = Table.open(table)
    done = opened.compact(engine=engine)
    typer.echo(
        f"version {done.version}: {done.fragments_before:,} fragments became {done.fragments_after:,}, "
        f"{done.bytes_before / 1e6:,.1f} MB became {done.bytes_after / 1e6:,.1f} MB"
    )
    if keep_days is not None:
        gone = opened.cleanup(older_than=dt.timedelta(days=keep_days))
        typer.echo(
            f"{gone.versions_removed:,} old versions deleted, {gone.files_removed:,} files, "
            f"{gone.bytes_removed / 1e6:,.1f} MB"
        )


def names_of(text: str) -> list[str] | None:
    """Names as a person types them, separated by commas; ``None`` when there are none."""
    return [name.strip() for name in text.split(",") if name.strip()] or None


def version_of(text: str) -> int | str | None:
    """A version as a person types it: a number, a tag, or nothing for the newest."""
    return int(text) if text.isdigit() else text or None


def _named_value(text: str) -> tuple[str, Any]:
    from deepseek.errors import ConfigError

    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--option: expected NAME=VALUE, received {text!r}")
    return name, {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)


def _named_table(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    return (name, path) if equals else (Path(text).name.removesuffix(".lance"), text)

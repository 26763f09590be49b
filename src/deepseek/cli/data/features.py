"""``deepseek data``: feature views. Register, history, materialise, read online."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deepseek.cli.data.tables import Engine

Store = Annotated[str, typer.Argument(help="Folder or s3:// address of the feature store.")]
Features = Annotated[
    list[str] | None,
    typer.Option("--feature", "-f", help="A view, or VIEW:FEATURE; repeatable; all views by default."),
]


def register(
    store: Store,
    definition: Annotated[Path, typer.Argument(help="A YAML or JSON file with one view, or a list of views.")],
) -> None:
    """Check a feature view against its table and keep its definition.

    A definition, as YAML:

      name: driver_stats

      source: driver_stats.lance

      entities: [driver_id]

      event_time: event_timestamp

      created_time: created

      ttl: P7D
    """
    import yaml
    from pydantic import ValidationError

    from deepseek.data import FeatureStore, FeatureView
    from deepseek.errors import ConfigError
    from deepseek.recipe.problems import RecipeError, problems_of

    try:
        loaded = yaml.safe_load(definition.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{definition} cannot be read: {error}") from error
    opened = FeatureStore(store)
    for values in loaded if isinstance(loaded, list) else [loaded]:
        try:
            view = FeatureView.model_validate(values)
        except ValidationError as error:
            raise RecipeError(str(definition), problems_of(error, FeatureView)) from error
        registered = opened.register(view)
        typer.echo(f"registered {registered.label}: {registered.source}")


def views(store: Store) -> None:
    """List the registered feature views."""
    from deepseek.cli.output import print_table
    from deepseek.data import FeatureStore

    print_table(
        ("view", "version", "entities", "event time", "ttl", "table"),
        [
            (v.name, v.version, ", ".join(v.entities), v.event_time, v.ttl or "", v.source)
            for v in FeatureStore(store).views()
        ],
    )


def history(
    store: Store,
    entities: Annotated[str, typer.Argument(help="Entity rows: a table or a file with key columns and a time column.")],
    output: Annotated[str, typer.Argument(help="Where the rows with their features go: NAME.lance or NAME.parquet.")],
    feature: Features = None,
    time: Annotated[str, typer.Option(help="The time column of the entity rows.")] = "event_time",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    engine: Engine = "local",
) -> None:
    """Add features to entity rows as they were known at each row's time: training data without leakage."""
    from deepseek.data import FeatureStore

    opened = FeatureStore(store)
    wanted = feature or [view.name for view in opened.views()]
    with opened.history_batches(_entity_rows(entities), wanted, time=time, engine=engine) as reader:
        count = _write(output, reader, overwrite)
    typer.echo(f"{count:,} rows with {len(reader.schema.names)} columns in {output}")


def materialize(
    store: Store,
    view: Annotated[list[str] | None, typer.Argument(help="Views; all of them by default.")] = None,
    online: Annotated[str, typer.Option(help="The online store: a folder, or redis://HOST:PORT/DB.")] = "",
    until: Annotated[str, typer.Option(help="ISO time up to which rows count; now by default.")] = "",
    engine: Engine = "local",
) -> None:
    """Bring the online store up to date with the views' tables: only what changed since the last run."""
    from deepseek.cli.output import print_table
    from deepseek.data import FeatureStore

    opened = FeatureStore(store, online=online) if online else FeatureStore(store)
    reports = [
        opened.materialize(name, until=_time(until), engine=engine) for name in view or [v.name for v in opened.views()]
    ]
    print_table(
        ("view", "table version", "rows read", "keys written", "keys removed", "seconds"),
        [
            (r.view, r.to_version, f"{r.rows_read:,}", f"{r.keys_written:,}", f"{r.keys_removed:,}", f"{r.seconds:.1f}")
            for r in reports
        ],
    )


def online(
    store: Store,
    key: Annotated[list[str], typer.Argument(help="Keys, as COLUMN=VALUE; several columns of one key with commas.")],
    feature: Features = None,
    online: Annotated[str, typer.Option(help="The online store: a folder, or redis://HOST:PORT/DB.")] = "",
    at: Annotated[str, typer.Option(help="ISO time at which the TTL counts; now by default.")] = "",
) -> None:
    """Read the latest features of keys, one JSON object a key.

    Example:

      deepseek data online features driver_id=1001 driver_id=1002
    """
    from deepseek.cli.output import print_json_line
    from deepseek.data import FeatureStore

    opened = FeatureStore(store, online=online) if online else FeatureStore(store)
    wanted = feature or [view.name for view in opened.views()]
    for row in opened.online(wanted, [_key(text) for text in key], at=_time(at)):
        print_json_line(row)


def _entity_rows(source: str) -> Any:
    from deepseek.data import Table, open_source

    if Path(source).is_dir() or "://" in source:
        return Table.open(source)
    opened = open_source(source)
    import pyarrow as pa

    return pa.RecordBatchReader.from_batches(opened.schema(), opened.batches())


def _write(output: str, reader: Any, overwrite: bool) -> int:
    from deepseek.data import Table
    from deepseek.errors import DataError

    if not output.endswith(".parquet"):
        return len(Table.create(output, reader, overwrite=overwrite))
    import pyarrow.parquet as pq

    target = Path(output)
    if target.exists() and not overwrite:
        raise DataError(f"{output} exists; choose another file or give --overwrite")
    partial = target.with_name(target.name + ".partial")
    count = 0
    try:
        with pq.ParquetWriter(partial, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
                count += batch.num_rows
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _key(text: str) -> dict[str, Any]:
    from deepseek.errors import ConfigError

    pairs = [part.partition("=") for part in text.split(",")]
    if any(not equals for _, equals, _ in pairs):
        raise ConfigError(f"expected a key as COLUMN=VALUE, received {text!r}")
    return {name: int(value) if value.lstrip("-").isdigit() else value for name, _, value in pairs}


def _time(text: str) -> Any:
    import datetime as dt

    from deepseek.errors import ConfigError

    if not text:
        return None
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"expected an ISO time such as 2026-01-31T12:00:00Z, received {text!r}") from error

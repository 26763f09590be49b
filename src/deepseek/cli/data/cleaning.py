"""``deepseek data clean``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deepseek.cli.data.tables import Engine


def clean(
    table: Annotated[str, typer.Argument(help="The table to clean; it is not changed.")],
    output: Annotated[str, typer.Argument(help="Folder of the cleaned table.")],
    text: Annotated[str, typer.Option(help="Column with the text; '' if there is none.")] = "text",
    label: Annotated[str, typer.Option(help="Column with the label; '' if there is none.")] = "label",
    split: Annotated[str, typer.Option(help="Column with the split, for leakage; '' if there is none.")] = "",
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="A YAML file with the steps and their settings (as data.clean in a recipe)."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="One setting, as NAME=VALUE in YAML, e.g. pii.action=mask; repeatable."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a readable HTML report here.")] = None,
    language: Annotated[str, typer.Option("--report-language", help="Language of the report: en or zh.")] = "en",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write a new version if the output exists.")] = False,
    engine: Engine = "local",
) -> None:
    """Remove duplicates, conflicting labels, leakage and unusable rows; rejected rows are kept with their reasons.

    Examples:

      deepseek data clean reviews.lance clean.lance --report report.html

      deepseek data clean reviews.lance clean.lance -s pii.action=mask -s 'language.languages=[en, zh]'
    """
    from rich.console import Console

    from deepseek.data import Table, clean_table

    cleaned, done = clean_table(
        Table.open(table),
        output,
        _config(config, setting or []),
        text=text or None,
        label=label or None,
        split=split or None,
        overwrite=overwrite,
        engine=engine,
    )
    Console().print(done.render())
    typer.echo(f"{done.rows_out:,} of {done.rows_in:,} rows kept in {cleaned.path}, version {cleaned.version}")
    if report is not None:
        typer.echo(f"report: {done.to_html(report, lang=language)}")


def _config(path: Path | None, settings: list[str]) -> Any:
    import yaml
    from pydantic import ValidationError

    from deepseek.cli.settings import overrides
    from deepseek.data import CleaningConfig
    from deepseek.errors import ConfigError
    from deepseek.recipe.problems import RecipeError, problems_of

    values: dict[str, Any] = {}
    try:
        if path is not None:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for name, value in overrides(settings).items():
            *parents, last = name.split(".")
            place = values
            for parent in parents:
                if not isinstance(place.get(parent), dict):
                    place[parent] = {}
                place = place[parent]
            place[last] = value
        return CleaningConfig.model_validate(values)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the cleaning settings cannot be read: {error}") from error
    except ValidationError as error:
        source = str(path) if path is not None else "the cleaning configuration"
        raise RecipeError(source, problems_of(error, CleaningConfig)) from error

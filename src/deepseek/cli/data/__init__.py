"""``deepseek data``: tables, cleaning, profiles and features. One thin file a concept."""

from __future__ import annotations

import typer

from deepseek.cli.data import cleaning, features, profiles, tables

app = typer.Typer(
    help="The feature store: tables, cleaning, profiles and drift, features in time.\n\n"
    "A first tour: [bold]deepseek data import reviews.csv reviews.lance[/], then [bold]show[/], [bold]sql[/], "
    "[bold]profile[/] and [bold]clean[/] it. Features: [bold]register[/] a view, then [bold]history[/], "
    "[bold]materialize[/] and [bold]online[/].",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_TABLES, _QUALITY, _FEATURES = "Tables", "Quality", "Features in time"
app.command("list", rich_help_panel=_TABLES)(tables.list_datasets)
app.command("import", rich_help_panel=_TABLES)(tables.import_)
app.command("show", rich_help_panel=_TABLES)(tables.show)
app.command("sql", rich_help_panel=_TABLES)(tables.sql)
app.command("versions", rich_help_panel=_TABLES)(tables.versions)
app.command("compact", rich_help_panel=_TABLES)(tables.compact)
app.command("clean", rich_help_panel=_QUALITY)(cleaning.clean)
app.command("profile", rich_help_panel=_QUALITY)(profiles.profile)
app.command("drift", rich_help_panel=_QUALITY)(profiles.drift)
app.command("register", rich_help_panel=_FEATURES)(features.register)
app.command("views", rich_help_panel=_FEATURES)(features.views)
app.command("history", rich_help_panel=_FEATURES)(features.history)
app.command("materialize", rich_help_panel=_FEATURES)(features.materialize)
app.command("online", rich_help_panel=_FEATURES)(features.online)

"""``deepseek plugins``."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Tasks, runtimes, export formats, sources, engines, online stores: what is installed here.",
    no_args_is_help=True,
)


@app.command("list")
def list_plugins() -> None:
    """List every part and where it comes from. Nothing is imported for it."""
    from deepseek.cli.output import print_table
    from deepseek.data import ENGINES, ONLINE_STORES, SOURCES
    from deepseek.inference import RUNTIMES
    from deepseek.inference.exporting import EXPORT_FORMATS
    from deepseek.plugins import discover
    from deepseek.tasks import TASKS

    origin = {
        (kind, name): f"{plugin.name} {plugin.version}"
        for plugin in discover()
        for kind, parts in plugin.contributes.items()
        for name in parts
    }
    print_table(
        ("name", "kind", "from", "defined in"),
        [
            (name, registry.kind, origin.get((registry.kind, name), "deepseek"), registry.target(name))
            for registry in (TASKS, RUNTIMES, EXPORT_FORMATS, SOURCES, ENGINES, ONLINE_STORES)
            for name in registry.names()
        ],
    )

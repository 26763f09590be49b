"""``deepseek keys``: API keys of servers, their plans and their usage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from deepseek.serving.access import AccessAdmin, AccessConfig, IssuedKey

T = TypeVar("T")

app = typer.Typer(
    help="API keys of servers: create, list, revoke, rotate; their plans, and what they used.\n\n"
    "A server that listens beyond loopback asks for one. Keys live in the user's data folder; servers on several "
    "machines share them through Redis (--store redis://host:6379/0, or $DEEPSEEK_KEYS).",
    no_args_is_help=True,
)

Store = Annotated[
    str | None,
    typer.Option(
        help="Where keys live: sqlite:///path, redis://host:6379/0. Default: $DEEPSEEK_KEYS, or the config's."
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help="The server's settings (deepseek serve --config), or a YAML file of those under its 'access'."),
]
Key = Annotated[str, typer.Argument(help="The key's id, or its name if no other key has it.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for; shown in lists and in usage.")],
    plan: Annotated[str | None, typer.Option(help="See deepseek keys plans. Default: free.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model that the key covers, or a pattern; repeatable; all by default.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="After a time (30d, 12h), or at a day (2027-01-31, UTC).")] = None,
    owner: Annotated[str, typer.Option(help="Who has it.")] = "",
    note: Annotated[str, typer.Option(help="Anything to remember.")] = "",
    store: Store = None,
    config: Config = None,
) -> None:
    """Make a key and print it, this once: only a hash of it is stored.

    Examples:

      deepseek keys create website

      deepseek keys create evaluation --plan unlimited --expires 30d --model sentiment --model 'llm-*'

      KEY=$(deepseek keys create ci --store redis://localhost:6379/0)
    """
    from deepseek.serving.access.lifetimes import lifetime

    async def work(admin: AccessAdmin) -> IssuedKey:
        length = None if expires is None else lifetime(expires, admin.now)
        return await admin.create(name, plan=plan, models=model or ["*"], owner=owner, note=note, lifetime=length)

    _show_key(_run(store, config, work), "created")


@app.command("list")
def list_keys(
    everything: Annotated[bool, typer.Option("--all", help="Also keys that were revoked or have expired.")] = False,
    store: Store = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List the keys, without their secrets."""
    from deepseek.cli.output import print_json_line, print_table

    async def work(admin: AccessAdmin) -> list[dict[str, Any]]:
        return [record.public(admin.now) for record in await admin.keys()]

    keys = [key for key in _run(store, config, work) if everything or key["state"] == "active"]
    if json:
        for key in keys:
            print_json_line(key)
        return
    print_table(
        ("id", "name", "state", "plan", "models", "owner", "created", "expires", "note"),
        [
            (
                key["id"],
                key["name"],
                _state(key),
                key["plan"],
                " ".join(key["models"]),
                key["owner"],
                key["created_at"],
                key["expires_at"] or "never",
                key["note"],
            )
            for key in keys
        ],
    )


@app.command()
def revoke(key: Key, store: Store = None, config: Config = None) -> None:
    """End a key at once; running servers refuse it within a second.

    Example:

      deepseek keys revoke website
    """
    record = _run(store, config, lambda admin: admin.revoke(key))
    typer.echo(f"revoked {record.id} ({record.name})")


@app.command()
def rotate(
    key: Key,
    overlap: Annotated[str, typer.Option(help="How long the current secret still works: 24h, 7d, 0.")] = "24h",
    store: Store = None,
    config: Config = None,
) -> None:
    """Give a key a new secret and print it; id, plan, limits and usage stay.

    Example:

      deepseek keys rotate website --overlap 7d
    """
    from deepseek.serving.access.lifetimes import duration

    length = duration(overlap)
    _show_key(_run(store, config, lambda admin: admin.rotate(key, length)), "rotated")


@app.command()
def usage(
    since: Annotated[
        str | None, typer.Option("--from", help="First day (UTC). Default: 30 days before the last.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last day. Default: today.")] = None,
    key: Annotated[str, typer.Option(help="Only this key: its id or name.")] = "",
    model: Annotated[str, typer.Option(help="Only this model.")] = "",
    csv: Annotated[bool, typer.Option("--csv", help="CSV with a header line, as the admin port exports it.")] = False,
    store: Store = None,
    config: Config = None,
) -> None:
    """What keys used, by day and model: answered requests, inferences, tokens, and refused requests.

    Examples:

      deepseek keys usage --key website

      deepseek keys usage --from 2026-11-01 --to 2026-11-30 --csv > november.csv
    """
    from dataclasses import astuple

    from deepseek.cli.output import print_table
    from deepseek.serving.access.admin import Usage, usage_csv
    from deepseek.serving.access.lifetimes import day

    first, last = (None if text is None else day(text) for text in (since, until))

    async def work(admin: AccessAdmin) -> list[Usage]:
        return await admin.usage(first, last, key=key, model=model)

    rows = _run(store, config, work)
    if csv:
        typer.echo(usage_csv(rows), nl=False)
        return
    print_table(
        ("day", "key", "name", "model", "requests", "inferences", "input tokens", "output tokens", "refused"),
        [[f"{cell:,}" if isinstance(cell, int) else cell for cell in astuple(row)] for row in rows],
    )


@app.command()
def plans(config: Config = None, json: Json = False) -> None:
    """List the plans: what is built in, and what a configuration adds.

    A configuration, as YAML:

      store: redis://localhost:6379/0

      plans: {gold: {requests_per_minute: 6000, tokens_per_day: 50000000}}
    """
    from deepseek.cli.output import print_json_line, print_table

    settings = _settings(None, config)
    if json:
        for name, plan in settings.all_plans.items():
            print_json_line({"plan": name, **plan.model_dump()})
        return
    print_table(
        ("plan", "requests a minute", "inferences a day", "tokens a day", ""),
        [
            (
                name,
                *("no limit" if most is None else f"{most:,}" for most in plan.model_dump().values()),
                "default" if name == settings.default_plan else "",
            )
            for name, plan in settings.all_plans.items()
        ],
    )


def _settings(store: str | None, config: Path | None) -> AccessConfig:
    from deepseek.serving.access import AccessConfig

    settings = AccessConfig() if config is None else AccessConfig.read(config)
    return settings if store is None else settings.model_copy(update={"store": store})


def _run(store: str | None, config: Path | None, work: Callable[[AccessAdmin], Awaitable[T]]) -> T:
    """Do some work over the store."""
    from deepseek.serving.access import AccessAdmin, open_store

    settings = _settings(store, config)

    async def all_of_it() -> T:
        opened = open_store(settings.store, keep_usage_days=settings.keep_usage_days)
        await opened.open()
        try:
            return await work(AccessAdmin(opened, settings))
        finally:
            await opened.close()

    return asyncio.run(all_of_it())


def _show_key(issued: IssuedKey, done: str) -> None:
    """The key goes to standard output alone, so that a shell can catch it; what to know about it, beside it."""
    from deepseek.progress import console
    from deepseek.serving.access.keys import iso

    record = issued.record
    typer.echo(issued.key)
    notes = [f"{done} key {record.id} ({record.name}), plan {record.plan}, models {' '.join(record.models)}"]
    if record.expires_at is not None:
        notes.append(f"it expires at {iso(record.expires_at)}")
    if len(record.secrets) > 1:
        notes.append(f"the secret before it works until {iso(record.secrets[1].until)}")
    notes.append("keep it now: it is not shown again. Send it as 'Authorization: Bearer KEY'")
    for note in notes:
        console().print(note, highlight=False, markup=False, soft_wrap=True)


def _state(key: dict[str, Any]) -> str:
    until = key["previous_secret_until"]
    return f"{key['state']}, old secret until {until}" if until else str(key["state"])

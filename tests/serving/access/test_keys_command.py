"""``deepseek keys`` as a person uses it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path

import pytest
from access_helpers import ask, bearer, opened
from typer.testing import CliRunner, Result

from deepseek.cli.app import app
from deepseek.errors import DeepSeekError
from deepseek.serving.errors import AuthenticationError


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments], catch_exceptions=False)


def listed(store: str, *options: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in keys("list", "--json", "--store", store, *options).stdout.splitlines()]


def test_a_key_from_creation_to_its_end(store: str) -> None:
    made = keys("create", "website", "--plan", "unlimited", "--model", "llm-*", "--expires", "30d", "--store", store)
    key = made.stdout.strip()
    assert key.startswith("ds_")
    assert "not shown again" in made.stderr
    assert key not in made.stderr
    (row,) = listed(store)
    assert (row["name"], row["plan"], row["models"], row["state"]) == ("website", "unlimited", ["llm-*"], "active")
    assert key.rpartition("_")[2] not in json.dumps(row)

    async def use(text: str) -> None:
        async with opened(store) as control:
            await ask(control, text, "llm-7b", rows=1234)

    asyncio.run(use(key))
    second = keys("rotate", "website", "--overlap", "1h", "--store", store).stdout.strip()
    asyncio.run(use(key))
    asyncio.run(use(second))
    shown = keys("usage", "--store", store).stdout
    assert "website" in shown
    assert "3,702" in shown
    (line,) = csv.DictReader(io.StringIO(keys("usage", "--csv", "--key", "website", "--store", store).stdout))
    assert (line["model"], line["requests"], line["inferences"]) == ("llm-7b", "3", "3702")
    assert "revoked" in keys("revoke", "website", "--store", store).stdout
    assert listed(store) == []
    assert [row["state"] for row in listed(store, "--all")] == ["revoked"]
    assert "website" in keys("list", "--all", "--store", store).stdout

    async def refused() -> None:
        async with opened(store) as control:
            for text in (key, second):
                with pytest.raises(AuthenticationError):
                    control.authenticate(bearer(text))

    asyncio.run(refused())


def test_plans_and_settings_from_a_file(tmp_path: Path) -> None:
    config = tmp_path / "access.yaml"
    store = f"sqlite:///{tmp_path / 'keys.sqlite3'}"
    config.write_text(f"store: {store}\nplans: {{gold: {{tokens_per_day: 5000000}}}}\ndefault_plan: gold\n")
    shown = keys("plans", "--config", str(config)).stdout
    assert "5,000,000" in shown
    assert "free" in shown
    found = [json.loads(line) for line in keys("plans", "--json").stdout.splitlines()]
    assert [plan["plan"] for plan in found] == ["free", "unlimited"]
    keys("create", "k", "--config", str(config))
    assert [row["plan"] for row in listed(store)] == ["gold"]


def test_the_environment_names_the_store(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_KEYS", sqlite_url)
    keys("create", "k")
    assert [row["name"] for row in listed(sqlite_url)] == ["k"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "k", "--plan", "unlimitted"], "unlimited"),
        (["create", "k", "--expires", "soon"], "30d"),
        (["create", ""], "name"),
        (["revoke", "nobody"], "nobody"),
        (["rotate", "nobody"], "nobody"),
        (["rotate", "nobody", "--overlap", "x"], "24h|30d"),
        (["usage", "--from", "2026-13-01"], "2027-01-31"),
        (["list", "--store", "mysql://x"], "sqlite:///"),
        (["list", "--config", "absent.yaml"], "absent.yaml"),
    ],
)
def test_mistakes_say_what_was_expected(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setenv("DEEPSEEK_KEYS", sqlite_url)
    with pytest.raises(DeepSeekError) as raised:
        keys(*arguments)
    assert any(part in str(raised.value) for part in said.split("|"))

"""Keys in a real browser: a console that asks for one, and the admin port's page that makes, rotates and revokes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from console_page import ConsolePage
from console_traffic import QUICK
from headless_chromium import Browser
from serving_fakes import FakeClassifier

from deepseek.serving import Server
from deepseek.serving.access.config import AccessConfig

TOKEN = "an admin token of many characters"
TASK = "/v1/tasks/text-classification"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = f"sqlite:///{tmp_path_factory.mktemp('keys') / 'keys.sqlite3'}"
    access = AccessConfig.model_validate({"mode": "required", "store": store, "admin_token": TOKEN})
    config = QUICK.model_copy(update={"access": access, "admin_port": 0})
    with Server(config, [FakeClassifier(), FakeClassifier("other")]) as server:
        yield server


def admin(server: Server, method: str, path: str, **fields: Any) -> Any:
    headers = {"authorization": f"Bearer {TOKEN}"}
    return httpx.request(method, f"{server.admin_url}{path}", json=fields or None, headers=headers).json()


def admin_page(browser: Browser, server: Server) -> ConsolePage:
    assert server.admin_url is not None
    return ConsolePage(browser, server.admin_url.removesuffix("/admin"), expected=(400, 401))


def enter(page: ConsolePage, key: str) -> None:
    page.wait("document.querySelector('dialog input[type=password]')")
    page.write("dialog input", key)
    page.run("window.asked = document.querySelector('dialog'); 0")
    page.press("Use it", "dialog")
    page.wait("!window.asked.isConnected")


def opened(page: ConsolePage) -> None:
    page.press("Use it", "main")
    enter(page, TOKEN)
    page.wait_for("Create a key")


def test_a_key_is_asked_for_and_kept_for_the_tab_only(browser: Browser, locked: Server) -> None:
    key = admin(locked, "POST", "/keys", name="viewer", models=["senti*"])["key"]
    with ConsolePage(browser, locked.http_url, expected=(401, 403)) as page:
        page.wait_for("API key", "dialog")
        assert page.text(".state") == "A key is needed"
        enter(page, "ds_0000000000000000_wrong")
        page.wait_for("API key", "dialog")
        page.wait("document.querySelector('dialog .problem')?.textContent.length > 5")
        page.press("Cancel", "dialog")
        page.wait("!document.querySelector('dialog')")
        page.wait_for("only to holders of a key", ".banner")
        page.run("document.getElementById('key').click()")
        enter(page, key)
        page.wait_for("Serving", ".state")
        page.wait("document.querySelectorAll('main tbody tr').length === 1")
        assert "other" not in page.text("main"), "the key does not cover it"
        assert page.run("sessionStorage.getItem('deepseek.console.key')") == key
        assert key not in page.run(
            "JSON.stringify(localStorage) + document.cookie + document.documentElement.outerHTML"
        )
        page.go("playground")
        page.run("document.querySelector('form').requestSubmit()")
        page.wait("document.querySelector('.output .raw')")
        assert 'authorization: Bearer $DEEPSEEK_KEY"' in page.text(".snippets")
        page.go("keys")
        page.wait_for("Keys are required here")
        assert page.run("document.querySelector('a.primary').href").startswith("http://127.0.0.1:")
        assert page.run("document.querySelector('a.primary').href").endswith("/console")


def test_a_key_is_made_shown_once_and_works(browser: Browser, locked: Server) -> None:
    with admin_page(browser, locked) as page:
        assert page.text("h1") == "Keys & usage"
        page.wait_for("The admin port asks for the token")
        opened(page)
        page.press("Create a key", "main")
        page.press("Create a key", "dialog")
        page.wait_for("Name: expected a value", "dialog .problem")
        page.write("dialog input[name=name]", "my <b>app</b>")
        page.write("dialog input[name=models]", "sentiment, llm-*")
        page.write("dialog input[name=expires]", "soon")
        page.press("Create a key", "dialog")
        page.wait_for("expected a duration", "dialog .problem")
        page.write("dialog input[name=expires]", "30d")
        page.press("Create a key", "dialog")
        page.wait_for("This is the only time", "dialog")
        key = page.run("document.querySelector('dialog pre').textContent")
        page.press("Close", "dialog")
        page.wait("!document.querySelector('dialog')")
        assert key not in page.run("document.documentElement.outerHTML")
        assert "my <b>app</b>" in page.text("tbody tr:first-child")
        assert "sentiment, llm-*" in page.text("tbody tr:first-child")
        answer = httpx.post(locked.http_url + TASK, json={"inputs": "a"}, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200


def test_a_key_is_rotated_and_revoked(browser: Browser, locked: Server) -> None:
    old = admin(locked, "POST", "/keys", name="turning")["key"]
    with admin_page(browser, locked) as page:
        opened(page)
        row = "tbody tr:first-child"
        page.press("Rotate", row)
        page.wait_for("New secret for turning", "dialog")
        page.write("dialog select", "0s")
        page.press("Rotate", "dialog")
        page.wait_for("This is the only time", "dialog")
        new = page.run("document.querySelector('dialog pre').textContent")
        page.press("Close", "dialog")

        def status(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            return httpx.post(locked.http_url + TASK, json={"inputs": "a"}, headers=headers).status_code

        assert (status(old), status(new)) == (401, 200)
        page.press("Revoke", row)
        page.wait_for("Revoke turning?", "dialog")
        page.press("Cancel", "dialog")
        page.wait("!document.querySelector('dialog')")
        assert status(new) == 200
        page.press("Revoke", row)
        page.press("Revoke", "dialog")
        page.wait_for("Revoked", row)
        assert status(new) == 401
        assert not page.exists(f"{row} button")


def test_usage_is_drawn_listed_and_exported(browser: Browser, locked: Server, tmp_path: Path) -> None:
    key = admin(locked, "POST", "/keys", name="user")["key"]
    for count in (1, 3):
        body = {"inputs": ["a"] * count, "model": "sentiment"}
        httpx.post(locked.http_url + TASK, json=body, headers={"authorization": f"Bearer {key}"})
    with admin_page(browser, locked) as page:
        opened(page)
        page.wait("document.querySelectorAll('section.card').length === 2")
        rows = "[...document.querySelectorAll('section:nth-of-type(2) tbody tr')]"
        mine = f"{rows}.map((row) => [...row.cells].map((cell) => cell.textContent)).find((row) => row[1] === 'user')"
        found: list[str] | None = None
        for _ in range(40):  # usage is stored every half second
            found = page.run(mine)
            if found is not None and found[2:5] == ["sentiment", "2", "4"]:
                break
            page.press("7 days", "main")
            page.run("new Promise((done) => setTimeout(done, 250))")
        assert found is not None
        assert found[2:5] == ["sentiment", "2", "4"]
        page.wait("document.querySelector('.columns rect')")
        assert "user" in page.texts(".legend span")
        page.browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        page.press("CSV", "main")
        for _ in range(100):
            if list(tmp_path.glob("usage-*.csv")):
                break
            page.run("new Promise((done) => setTimeout(done, 50))")
        (file,) = tmp_path.glob("usage-*.csv")
        assert file.read_text().splitlines()[0].startswith("day,key_id,key_name,model,requests")
        assert ",user,sentiment,2,4," in file.read_text()


def test_a_wrong_token_is_told(browser: Browser, locked: Server) -> None:
    with admin_page(browser, locked) as page:
        page.press("Use it", "main")
        enter(page, "a wrong token of many characters")
        page.wait_for("The keys could not be read")
        page.wait_for("Admin token", "dialog")
        enter(page, TOKEN)
        page.wait_for("Create a key")
        assert page.run("sessionStorage.getItem('deepseek.console.key')") == TOKEN
        assert TOKEN not in page.run("JSON.stringify(localStorage)")


def test_a_server_without_keys_says_how_they_come(browser: Browser) -> None:
    with Server(QUICK, [FakeClassifier()]) as server, ConsolePage(browser, server.http_url) as page:
        page.go("keys")
        page.wait_for("This server asks nobody for a key")
        assert "deepseek keys create" in page.text("main")
        assert json.loads(page.run("JSON.stringify(document.querySelectorAll('a.primary').length)")) == 0

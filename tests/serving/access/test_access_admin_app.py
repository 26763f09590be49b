"""The admin port as a client sees it, through a real HTTP server on loopback."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from access_helpers import PLANS, ask, opened

from deepseek.errors import ConfigError
from deepseek.serving.access import AccessConfig, AccessControl, AdminApp
from deepseek.serving.http_server import HttpServer, bind

TOKEN = "the token of the admin port"


class Running:
    """An access control and its admin port on a loop in a thread."""

    def __init__(self, store: str) -> None:
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(store)), daemon=True)
        self._thread.start()
        assert self._started.wait(30)

    async def _serve(self, store: str) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with opened(store) as self.control:
            listener = bind("127.0.0.1", 0, socket.AF_INET)
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            server = HttpServer(AdminApp(self.control.admin, TOKEN), listener)
            server.start()
            self._started.set()
            await self._stop.wait()
            await server.stop(5)

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(f"sqlite:///{tmp_path_factory.mktemp('admin') / 'access.sqlite3'}")
    yield made
    made.stop()


@pytest.fixture
def admin(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=30) as client:
        yield client


def test_nothing_without_the_token(running: Running, admin: httpx.Client) -> None:
    key = admin.post("/admin/keys", json={"name": "no admin"}).json()["key"]
    with httpx.Client(base_url=running.url, timeout=30) as client:
        for headers in (
            {},
            {"authorization": "Bearer x"},
            {"authorization": f"Bearer {TOKEN[:-1]}"},
            {"authorization": f"Bearer {TOKEN}x"},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": f"Bearer {key}"},
            {"x-api-key": TOKEN},
        ):
            for method, path in (("GET", "/admin/keys"), ("POST", "/admin/keys"), ("GET", "/nowhere")):
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Bearer")
    assert admin.get("/admin/keys").status_code == 200


def test_the_life_of_a_key(running: Running, admin: httpx.Client) -> None:
    made = admin.post(
        "/admin/keys",
        json={"name": "life", "plan": "ten-rows", "models": ["llm-*"], "owner": "o", "note": "n", "expires": "30d"},
    )
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    body = made.json()
    key, key_id = body.pop("key"), body["id"]
    assert key.startswith(f"ds_{key_id}_")
    assert (body["state"], body["plan"], body["models"], body["owner"]) == ("active", "ten-rows", ["llm-*"], "o")
    running.run(ask(running.control, key, "llm-7b", rows=3))
    (listed,) = [k for k in admin.get("/admin/keys").json()["keys"] if k["id"] == key_id]
    assert listed == body
    rotated = admin.post(f"/admin/keys/{key_id}/rotate").json()
    assert rotated["key"].startswith(f"ds_{key_id}_")
    assert rotated["key"] != key
    assert rotated["previous_secret_until"] is not None
    running.run(ask(running.control, key, "llm-7b"))
    again = admin.post(f"/admin/keys/{key_id}/rotate", json={"overlap": "0"}).json()
    assert again["previous_secret_until"] is None
    running.run(ask(running.control, again["key"], "llm-7b"))
    assert admin.delete("/admin/keys/life").json()["state"] == "revoked"
    assert admin.delete(f"/admin/keys/{key_id}").json()["state"] == "revoked"
    assert admin.post(f"/admin/keys/{key_id}/rotate").status_code == 400


def test_usage_as_json_and_csv(running: Running, admin: httpx.Client) -> None:
    key = admin.post("/admin/keys", json={"name": 'naïve, "quoted"', "plan": "unlimited"}).json()["key"]
    running.run(ask(running.control, key, "llm-7b", rows=3, tokens=(5, 6)))
    running.run(running.control.sync())
    today = dt.datetime.now(dt.UTC).date().isoformat()
    parameters = {"from": today, "to": today, "key": 'naïve, "quoted"'}
    (row,) = admin.get("/admin/usage", params=parameters).json()["usage"]
    assert (row["day"], row["model"], row["inferences"], row["output_tokens"]) == (today, "llm-7b", 3, 6)
    exported = admin.get("/admin/usage", params={**parameters, "format": "csv"})
    assert exported.headers["content-type"].startswith("text/csv")
    (line,) = csv.DictReader(io.StringIO(exported.text))
    assert line["key_name"] == 'naïve, "quoted"'
    assert line == {name: str(value) for name, value in row.items()}
    assert admin.get("/admin/usage").status_code == 200


def test_plans_of_the_server(admin: httpx.Client) -> None:
    plans = admin.get("/admin/plans").json()["plans"]
    assert plans["three"]["requests_per_minute"] == 3
    assert set(plans) == {"free", "unlimited", *PLANS}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/admin/keys", b"{", 400, "body"),
        ("POST", "/admin/keys", b"{}", 400, "name"),
        ("POST", "/admin/keys", b'{"name": 1}', 400, "name"),
        ("POST", "/admin/keys", b'{"name": "x", "colour": 1}', 400, "colour"),
        ("POST", "/admin/keys", b'{"name": "x", "plan": "fre"}', 404, "free"),
        ("POST", "/admin/keys", b'{"name": "x", "expires": "soon"}', 400, "30d"),
        ("POST", "/admin/keys", b'{"name": "%s"}' % (b"x" * 70_000), 413, "65536"),
        ("DELETE", "/admin/keys/nobody", b"", 404, "nobody"),
        ("POST", "/admin/keys/nobody/rotate", b"", 404, "nobody"),
        ("POST", "/admin/keys/nobody/rotate", b'{"overlap": "-1h"}', 400, "24h|30d"),
        ("PUT", "/admin/keys", b"", 405, "GET, POST"),
        ("GET", "/admin/keys/x", b"", 405, "DELETE"),
        ("GET", "/admin/keys/x/y", b"", 404, "rotate"),
        ("GET", "/admin/usage?from=yesterday", b"", 400, "2027-01-31"),
        ("GET", "/admin/usage?format=xml", b"", 400, "csv"),
        ("GET", "/admin/usage?form=csv", b"", 404, "format"),
        ("GET", "/admin", b"", 404, "/admin/keys"),
    ],
)
def test_mistakes(admin: httpx.Client, method: str, path: str, body: bytes, status: int, said: str) -> None:
    headers = {"content-type": "application/json"} if body else {}
    answer = admin.request(method, path, content=body or None, headers=headers)
    assert answer.status_code == status
    assert any(part in answer.json()["error"] for part in said.split("|"))


def test_no_token_no_port(tmp_path: Path) -> None:
    async def make(token: str | None) -> None:
        control = await AccessControl.open(AccessConfig(store=str(tmp_path / "a.sqlite3")))
        try:
            AdminApp(control.admin, token)
        finally:
            await control.close()

    for token in (None, "", "short"):
        with pytest.raises(ConfigError, match="DEEPSEEK_ADMIN_TOKEN"):
            asyncio.run(make(token))

"""The console's routes as any client sees them: files, policy, validation, who is told what."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import ValidationError
from serving_fakes import CONFIG, FakeClassifier, fake_models

from deepseek.serving import Server
from deepseek.serving.access.config import AccessConfig
from deepseek.serving.console.assets import CONTENT_SECURITY_POLICY, FOLDER, Assets
from deepseek.serving.console.config import ConsoleConfig

TOKEN = "an admin token of many characters"
TASK = "/v1/tasks/text-classification"


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with Server(CONFIG, fake_models()) as server, httpx.Client(base_url=server.http_url) as client:
        yield client


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    access = AccessConfig.model_validate(
        {
            "mode": "required",
            "store": f"sqlite:///{tmp_path_factory.mktemp('keys') / 'keys.sqlite3'}",
            "admin_token": TOKEN,
        }
    )
    config = CONFIG.model_copy(update={"access": access, "admin_port": 0})
    with Server(config, [FakeClassifier(), FakeClassifier("other")]) as server:
        yield server


def key(server: Server, **fields: Any) -> dict[str, str]:
    body = {"name": "test"} | fields
    answer = httpx.post(f"{server.admin_url}/keys", json=body, headers={"authorization": f"Bearer {TOKEN}"})
    return {"authorization": f"Bearer {answer.json()['key']}"}


def test_every_file_is_served_under_the_policy_and_nothing_comes_from_elsewhere(http: httpx.Client) -> None:
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    names = Assets().names
    assert {f"{path.relative_to(FOLDER)}" for path in FOLDER.rglob("*.*")} == set(names)
    for name in names:
        answer = http.get("/console" if name == "index.html" else f"/console/{name}")
        assert answer.status_code == 200
        assert answer.content == (FOLDER / name).read_bytes()
        assert answer.headers["content-type"].startswith(kinds[Path(name).suffix])
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        elsewhere = [url for url in re.findall(r"https?://[^\s\"'`]+", answer.text) if "www.w3.org" not in url]
        assert elsewhere == [] or name == "keys/view.js"
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "default-src 'self'" in CONTENT_SECURITY_POLICY


def test_the_page_itself_has_nothing_inline() -> None:
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    linked = re.findall(r'(?:href|src)="console/([^"]+)"', page)
    assert linked
    assert set(linked) <= set(Assets().names)


def test_files_are_validated_and_compressed(http: httpx.Client) -> None:
    first = http.get("/console/app.js", headers={"accept-encoding": "identity"})
    assert first.headers["cache-control"] == "no-cache"
    assert "content-encoding" not in first.headers
    tag = first.headers["etag"]
    for condition in (tag, f'"other", {tag}', tag.removeprefix("W/")):
        again = http.get("/console/app.js", headers={"if-none-match": condition})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert http.get("/console/app.js", headers={"if-none-match": '"other"'}).status_code == 200
    with http.stream("GET", "/console/app.js", headers={"accept-encoding": "br, gzip;q=0.8"}) as small:
        raw = b"".join(small.iter_raw())
    assert small.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == first.content
    assert len(raw) < len(first.content) / 2
    for refusing in ("gzip;q=0", "gzip; q=0.000", "br"):
        assert "content-encoding" not in http.get("/console/app.js", headers={"accept-encoding": refusing}).headers


def test_only_known_paths_and_methods_are_answered(http: httpx.Client) -> None:
    moved = http.get("/console/")
    assert (moved.status_code, moved.headers["location"]) == (308, "../console")
    assert http.get("/console/", follow_redirects=True).status_code == 200
    assert http.head("/console").status_code == 200
    assert http.post("/console", json={}).status_code == 405
    for path in ("/console/nope.js", "/console/..%2fconfig.py", "/console/__init__.py", "/console/assets/app.js"):
        refused = http.get(path)
        assert refused.status_code == 404
        assert ".js'," not in refused.json()["error"]
    assert http.get("/console/about").json() == {"page": "server"}


def test_one_document_has_what_the_page_shows(http: httpx.Client) -> None:
    http.post(TASK, json={"inputs": "a"})
    http.post(TASK, json={"inputs": "bad"})
    answer = http.get("/console/data")
    assert answer.headers["cache-control"] == "no-store"
    page = answer.json()
    assert page["format"] == "deepseek.console/1"
    assert page["server"]["phase"] == "serving"
    assert (page["server"]["keys"], page["server"]["model_control"]) == (False, False)
    names = [(entry["name"], entry["version"], entry["state"]) for entry in page["repository"]]
    assert ("sentiment", "10", "READY") in names
    signature = page["signatures"]["sentiment/10"]
    assert signature["task"] == "text-classification"
    assert [field["name"] for field in signature["outputs"]] == ["label", "score", "scores"]
    assert [field["name"] for field in signature["parameters"]] == ["temperature", "top_k"]
    assert {model["name"] for model in page["monitor"]["models"]} == {"sentiment", "org/topic", "arrays"}
    assert ["rest", "task", "200", 1] in page["requests"]
    assert ["rest", "task", "400", 1] in page["requests"]


def test_looking_is_no_traffic(http: httpx.Client) -> None:
    before = http.get("/metrics").text.count("operation=")
    for _ in range(5):
        assert http.get("/console/data/recent").status_code == 200
    assert http.get("/console/data").json()["monitor"]["in_flight"] == 0
    assert http.get("/metrics").text.count("operation=") == before


def test_who_asks_often_is_given_the_same(http: httpx.Client) -> None:
    answers = {http.get("/console/data/recent").content for _ in range(20)}
    assert len(answers) <= 2  # a second may end meanwhile


def test_files_need_no_key_but_all_that_they_show_does(locked: Server) -> None:
    with httpx.Client(base_url=locked.http_url) as http:
        for path in ("/console", "/console/app.js", "/console/about"):
            assert http.get(path).status_code == 200
        for path in ("/console/data", "/console/data/recent"):
            for headers in ({}, {"authorization": "Bearer ds_0000000000000000_wrong"}):
                refused = http.get(path, headers=headers)
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"] == "Bearer"
                assert "sentiment" not in refused.text


def test_a_key_sees_the_models_that_it_covers(locked: Server) -> None:
    all_models, one = key(locked), key(locked, models=["senti*"])
    with httpx.Client(base_url=locked.http_url) as http:
        http.post(TASK, json={"inputs": "a", "model": "other"}, headers=all_models)
        for path in ("/console/data", "/console/data/recent"):
            everything = http.get(path, headers=all_models).json()
            assert {entry["name"] for entry in everything["repository"]} == {"sentiment", "other"}
            assert everything["server"]["keys"] is True
            assert everything["server"]["admin_url"] == locked.admin_url.replace("/admin", "/console")  # type: ignore[union-attr]
            assert "other" not in http.get(path, headers=one).text


def test_the_admin_port_has_the_page_and_keeps_its_api_to_the_token(locked: Server) -> None:
    assert locked.admin_url is not None
    with httpx.Client(base_url=locked.admin_url.removesuffix("/admin")) as http:
        assert "<main" in http.get("/console").text
        assert http.get("/console/").status_code == 308
        assert http.get("/console/about").json() == {"page": "admin"}
        assert http.get("/console/app.js").headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        for path in ("/admin/keys", "/console/data", "/console/nope"):
            assert http.get(path).status_code == 401
        assert http.post("/console", json={}).status_code == 401
        assert http.get("/admin/keys", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_it_is_answered_while_models_warm_up() -> None:
    class Slow(FakeClassifier):
        began = threading.Event()

        def predict(self, rows: Any, parameters: Any = None) -> Any:
            self.began.set()
            return super().predict(rows, parameters)

    model = Slow()
    model.gate = threading.Event()
    server = Server(CONFIG, [model])
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        assert model.began.wait(30)
        page = httpx.get(f"{server.http_url}/console/data").json()
        assert page["server"]["phase"] == "starting"
        assert page["repository"][0]["state"] == "LOADING"
    finally:
        model.gate.set()
        starting.join()
        server.stop()


def test_without_monitoring_models_are_shown_all_the_same() -> None:
    with Server(CONFIG.model_copy(update={"monitoring": None}), [FakeClassifier()]) as server:
        page = httpx.get(f"{server.http_url}/console/data").json()
    assert page["monitor"] is None
    assert page["requests"] == []
    assert list(page["signatures"]) == ["sentiment/1"]


@pytest.mark.parametrize(
    ("mode", "loopback", "keys", "offered"),
    [
        ("auto", True, False, True),
        ("auto", False, True, True),
        ("auto", False, False, False),
        ("on", False, False, True),
        ("off", True, True, False),
    ],
)
def test_where_it_is_offered(mode: Any, loopback: bool, keys: bool, offered: bool) -> None:
    assert ConsoleConfig(mode=mode).offered(loopback=loopback, keys=keys) is offered
    from_yaml = ConsoleConfig.model_validate(yaml.safe_load(f"mode: {mode}"))  # where off is false
    assert from_yaml == ConsoleConfig(mode=mode)


def test_a_server_for_everybody_has_none_unless_told_so() -> None:
    anyone = {"host": "0.0.0.0", "access": AccessConfig(mode="off")}
    for mode, status in (("auto", 404), ("on", 200)):
        config = CONFIG.model_copy(update={**anyone, "console": ConsoleConfig(mode=mode)})  # type: ignore[arg-type]
        with Server(config, [FakeClassifier()]) as server:
            assert httpx.get(f"{server.http_url}/console").status_code == status
            assert server.console_url == (f"{server.http_url}/console" if status == 200 else None)
    with Server(CONFIG.model_copy(update={"console": ConsoleConfig(mode="off")}), [FakeClassifier()]) as server:
        for path in ("/console", "/console/data", "/console/app.js"):
            assert httpx.get(server.http_url + path).status_code == 404
    with pytest.raises(ValidationError):
        ConsoleConfig.model_validate({"mode": "maybe"})

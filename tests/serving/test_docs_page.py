"""The page at /docs in a real browser: what it lists and sends, in both languages and schemes, under its own policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from feature_fakes import feature_store
from headless_chromium import Browser
from serving_fakes import CONFIG, FakeClassifier
from upload_fakes import FakeImages, answer

from deepseek.serving import Server
from deepseek.serving.features.config import FeatureServingConfig
from deepseek.serving.rest.docs_page import CONTENT_SECURITY_POLICY

READY = "document.querySelectorAll('.operation').length > 10"
TEXT = "post__v1__tasks__text_2d_classification"
IMAGE = "post__v1__tasks__image_2d_classification"
SEGMENTATION = "post__v1__tasks__segmentation"
CUSTOMERS = "get__v1__features__customers"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = feature_store(tmp_path_factory.mktemp("features"))
    config = CONFIG.model_copy(update={"features": FeatureServingConfig(path=store.path)})
    with Server(config, [FakeClassifier(), FakeImages(), FakeImages(HOSTILE, "segmentation")]) as running:
        yield running


@pytest.fixture(scope="module")
def english(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("english")) as browser:
        browser.open(server.http_url + "/docs")
        browser.wait(READY)
        yield browser


def inside(identifier: str, selector: str) -> str:
    return f"document.getElementById({identifier!r}).querySelector({selector!r})"


def opened(browser: Browser, identifier: str) -> None:
    browser.run(f"document.getElementById({identifier!r}).open = true; 0")
    browser.wait(inside(identifier, ".send"))


def sent(browser: Browser, identifier: str) -> tuple[str, Any]:
    """Press the button; the status and the body that the page then shows."""
    browser.run(f"{inside(identifier, '.outcome')}.replaceChildren()")
    browser.run(f"{inside(identifier, '.send')}.click()")
    browser.wait(inside(identifier, ".result"))
    status = browser.run(f"{inside(identifier, '.outcome strong')}.textContent")
    return status, browser.run(f"JSON.parse({inside(identifier, '.result')}.textContent)")


def test_every_file_has_the_policy_and_nothing_comes_from_elsewhere(server: Server) -> None:
    page = httpx.get(server.http_url + "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    scripts = ["docs", "elements", "requests", "schemas", "texts"]
    for path in ("/docs", "/docs/docs.css", *(f"/docs/{name}.js" for name in scripts)):
        found = httpx.get(server.http_url + path)
        assert found.status_code == 200
        assert found.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert found.headers["x-content-type-options"] == "nosniff"
        assert "http://" not in found.text
        assert "https://" not in found.text
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert httpx.get(server.http_url + "/docs/../app.py").status_code == 404
    assert httpx.get(server.http_url + "/docs/__init__.py").status_code == 404


def test_it_lists_every_operation_by_group(server: Server, english: Browser) -> None:
    document = httpx.get(server.http_url + "/openapi.json").json()
    expected = {each["operationId"] for item in document["paths"].values() for each in item.values()}
    assert set(english.run("[...document.querySelectorAll('.operation')].map((each) => each.id)")) == expected
    groups = english.run("[...document.querySelectorAll('#routes h2')].map((each) => each.textContent)")
    assert groups == ["Tasks", "Features", "Models", "OpenAI", "Server"]
    assert english.complaints == []


def test_names_never_become_markup(english: Browser) -> None:
    opened(english, SEGMENTATION)
    assert HOSTILE in english.run(f"{inside(SEGMENTATION, 'p')}.textContent")
    assert english.run("document.querySelectorAll('img').length") == 0
    assert english.complaints == []


def test_it_sends_the_example(english: Browser) -> None:
    opened(english, TEXT)
    status, body = sent(english, TEXT)
    assert status == "200 OK"
    assert body["outputs"][0]["label"] == "A MOVING AND FUNNY FILM"
    command = english.run(f"{inside(TEXT, '.command')}.textContent")
    assert command.startswith("curl -X POST -H 'content-type: application/json' -d '{")
    english.run(f"{inside(TEXT, 'textarea')}.value = '{{'")
    english.run(f"{inside(TEXT, '.send')}.click()")
    english.wait(inside(TEXT, ".outcome [role=alert]"))
    assert "This is not JSON" in english.run(f"{inside(TEXT, '.outcome')}.textContent")
    english.run(f"{inside(TEXT, 'textarea')}.value = '{{}}'")
    status, body = sent(english, TEXT)
    assert status == "400 Bad Request"
    assert "not a task request" in body["error"]


def test_it_uploads_files(english: Browser, tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]) * 100)
    opened(english, IMAGE)
    english.run(f"{inside(IMAGE, '[role=tab]:nth-child(2)')}.click()")
    english.upload(f"#{IMAGE} input[name=image]", files)
    english.run(f"{inside(IMAGE, 'input[name=top_k]')}.value = '3'")
    status, body = sent(english, IMAGE)
    assert status == "200 OK"
    assert [row["digest"] for row in body["outputs"]] == [answer(file.read_bytes())["digest"] for file in files]
    assert "-F 'image=@a.png' -F 'image=@b.png'" in english.run(f"{inside(IMAGE, '.command')}.textContent")


def test_it_asks_with_parameters_and_with_a_key(english: Browser) -> None:
    opened(english, CUSTOMERS)
    english.run(f"{inside(CUSTOMERS, 'input[name=entity]')}.value = '1, 2'")
    english.run(f"{inside(CUSTOMERS, 'input[name=feature]')}.value = 'city'")
    english.run("document.getElementById('key').value = 'sk-secret'")
    status, body = sent(english, CUSTOMERS)
    assert (status, body["rows"]) == ("200 OK", [{"customer": 1, "city": "Paris"}, {"customer": 2, "city": None}])
    command = english.run(f"{inside(CUSTOMERS, '.command')}.textContent")
    assert "authorization: Bearer $KEY" in command
    assert "sk-secret" not in english.run("document.body.textContent")


def test_it_filters(english: Browser) -> None:
    def filtered(words: str) -> list[str]:
        english.run(f"document.getElementById('filter').value = {words!r}")
        english.run("document.getElementById('filter').dispatchEvent(new Event('input'))")
        return english.run("[...document.querySelectorAll('.operation')].filter((e) => !e.hidden).map((e) => e.id)")

    assert filtered("post features/customers") == ["post__v1__features__customers"]
    assert english.run("document.querySelectorAll('main section:not([hidden])').length") == 1
    assert filtered("nothing like it") == []
    assert english.run("document.getElementById('state').textContent") == "No route matches."
    assert len(filtered("")) > 10


def test_chinese_and_dark(server: Server, tmp_path: Path, english: Browser) -> None:
    with Browser(tmp_path, language="zh-CN", dark=True) as browser:
        browser.open(f"{server.http_url}/docs#{TEXT}")
        browser.wait(READY)
        browser.wait(inside(TEXT, ".send"))  # the one that the address names is open
        assert browser.run("document.documentElement.lang") == "zh-CN"
        assert browser.run("document.querySelector('#routes h2').textContent") == "任务"
        assert browser.run(f"{inside(TEXT, '.send')}.textContent") == "发送"
        dark = browser.run("getComputedStyle(document.body).backgroundColor")
        assert dark != english.run("getComputedStyle(document.body).backgroundColor")
        browser.run("document.getElementById('language').click()")
        assert browser.run(f"{inside(TEXT, '.send')}.textContent") == "Send"
        assert browser.run("document.querySelector('#routes h2').textContent") == "Tasks"
        assert browser.complaints == []

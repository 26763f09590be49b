"""Which web pages of other origins may use the server: none, unless they are listed."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from pydantic import ValidationError
from serving_fakes import CONFIG, FakeClassifier

from deepseek.serving import Server
from deepseek.serving.rest.cors import CorsConfig

APP = "https://app.example.com"
OTHER = "https://app.example.com.evil.example"
TASK = "/v1/tasks/text-classification"
ASKING = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}


@pytest.fixture(scope="module")
def listed() -> Iterator[httpx.Client]:
    config = CONFIG.model_copy(update={"cors": CorsConfig(allow_origins=(APP, "http://localhost:3000"))})
    with Server(config, [FakeClassifier()]) as server, httpx.Client(base_url=server.http_url) as client:
        yield client


def test_off_by_default(http: httpx.Client) -> None:
    for answer in (
        http.options(TASK, headers=ASKING | {"origin": APP}),
        http.post(TASK, json={"inputs": "a"}, headers={"origin": APP}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_preflight_of_a_listed_origin(listed: httpx.Client) -> None:
    answer = listed.options(TASK, headers=ASKING | {"origin": APP})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == APP
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert {"authorization", "content-type", "x-api-key"} <= set(
        answer.headers["access-control-allow-headers"].split(", ")
    )
    assert answer.headers["access-control-max-age"] == "600"
    assert answer.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in answer.headers


def test_answers_and_refusals_are_readable_for_a_listed_origin(listed: httpx.Client) -> None:
    for body, status in ({"inputs": "a"}, 200), ({}, 400):
        answer = listed.post(TASK, json=body, headers={"origin": APP})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == APP
        assert "retry-after" in answer.headers["access-control-expose-headers"]
    large = listed.post(TASK, content=iter([b"a" * 20_000] * 6), headers={"origin": APP})
    assert (large.status_code, large.headers["access-control-allow-origin"]) == (413, APP)
    assert "access-control-allow-origin" in listed.get("/nowhere", headers={"origin": APP}).headers


@pytest.mark.parametrize("origin", [OTHER, "http://app.example.com", "null", "*", APP.upper()])
def test_other_origins_get_nothing(listed: httpx.Client, origin: str) -> None:
    preflight = listed.options(TASK, headers=ASKING | {"origin": origin})
    assert preflight.status_code == 403
    answer = listed.post(TASK, json={"inputs": "a"}, headers={"origin": origin})
    assert answer.status_code == 200
    for each in (preflight, answer):
        assert "access-control-allow-origin" not in each.headers
        assert each.headers["vary"] == "origin"


def test_requests_without_an_origin_are_as_before(listed: httpx.Client) -> None:
    assert listed.post(TASK, json={"inputs": "a"}).status_code == 200
    assert listed.options(TASK).status_code == 405


@pytest.mark.parametrize("origin", ["*", "null", "app.example.com", APP + "/", APP.upper(), "https://*.example.com"])
def test_only_origins_can_be_listed(origin: str) -> None:
    with pytest.raises(ValidationError, match="expected an origin"):
        CorsConfig(allow_origins=(origin,))

"""The OpenAPI document: valid, complete, and true to what the server answers."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from feature_fakes import feature_store
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from serving_fakes import CONFIG, FakeArrays, FakeClassifier
from upload_fakes import FakeImages

from deepseek.serving import Server
from deepseek.serving.features.config import FeatureServingConfig
from deepseek.serving.models.repository import ModelRepository
from deepseek.serving.rest.openapi import openapi_document

IMAGE = "/v1/tasks/image-classification"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    store = feature_store(tmp_path_factory.mktemp("features"))
    config = CONFIG.model_copy(update={"features": FeatureServingConfig(path=store.path)})
    models = [FakeClassifier(), FakeClassifier("org/topic"), FakeArrays(), FakeImages(), FakeImages("a b?{c}#", "x/y")]
    with Server(config, models) as server, httpx.Client(base_url=server.http_url, timeout=30) as http:
        yield http


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    return dict(client.get("/openapi.json").json())


def validator(document: dict[str, Any], schema: Any) -> Draft202012Validator:
    registry: Any = Registry().with_resource(
        "urn:doc", Resource.from_contents(document, default_specification=DRAFT202012)
    )
    return Draft202012Validator(_absolute(schema), registry=registry)


def _absolute(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: f"urn:doc{each}" if key == "$ref" else _absolute(each) for key, each in schema.items()}
    return [_absolute(each) for each in schema] if isinstance(schema, list) else schema


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, each) for path, item in document["paths"].items() for method, each in item.items()]


def test_it_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()
    names = [each["operationId"] for _, _, each in operations(document)]
    assert len(set(names)) == len(names)


def test_with_keys_it_is_valid_too(document: dict[str, Any]) -> None:
    guarded = openapi_document(ModelRepository(CONFIG), keys=True)
    OpenAPIV31SpecValidator(guarded).validate()
    assert guarded["security"] == [{"bearer": []}, {"apiKey": []}]
    assert guarded["paths"]["/v2/health/live"]["get"]["security"] == []
    index = guarded["paths"]["/v2/repository/index"]["post"]
    assert {"401", "403"} <= set(index["responses"])
    assert "security" not in document


def test_every_route_is_described(client: httpx.Client, document: dict[str, Any]) -> None:
    """Of each path of the index there is one in the document, and each of the document's paths is routed."""
    described = {(method.upper(), path) for method, path, _ in operations(document)}
    for url in client.get("/").json()["urls"]:
        method, _, pattern = url.partition(" ")
        prefix = pattern.split("[")[0].split("{")[0].split("?")[0]
        assert any(verb == method and path.startswith(prefix) for verb, path in described), url
    for method, path in described:
        answer = client.request(method, path, json={} if method == "POST" else None)
        assert answer.status_code not in (405, 500), (method, path)
        assert answer.status_code != 404 or "unknown URL" not in answer.text, (method, path)


def test_every_status_has_a_description(client: httpx.Client, document: dict[str, Any]) -> None:
    for method, path, each in operations(document):
        for kind, body in (("application/json", b"{"), ("text/plain", b"x"), ("application/json", b"{}")):
            answer = client.request(method, path, content=body, headers={"content-type": kind})
            assert str(answer.status_code) in each["responses"], (method, path, answer.status_code)


def test_the_examples_are_accepted(client: httpx.Client, document: dict[str, Any]) -> None:
    tried = 0
    for method, path, each in operations(document):
        content = each.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None or "example" not in content or path.endswith(("/load", "/unload")):  # not allowed here
            continue
        if "visits" in path or "visits" in str(content["example"].get("features")):
            continue
        example = content["example"]
        assert list(validator(document, content["schema"]).iter_errors(example)) == [], path
        if path.startswith("/v1/features/sales"):
            example = {"entities": [{"shop": "a", "day": "2026-01-01", "code": "b", "limit": 1.0}]}
        answer = client.request(method, path, json=example)
        assert answer.status_code == 200, (path, answer.text)
        schema = each["responses"]["200"]["content"]["application/json"]["schema"]
        assert list(validator(document, schema).iter_errors(answer.json())) == [], path
        tried += 1
    assert tried > 10


@pytest.mark.parametrize("value", [{"base64": "AQID"}, "data:image/png;base64,AQID", "text"])
def test_forms_of_bytes_fit_the_schema(client: httpx.Client, document: dict[str, Any], value: Any) -> None:
    schema = document["paths"][IMAGE]["post"]["requestBody"]["content"]["application/json"]["schema"]
    check = validator(document, schema)
    for inputs in ({"image": value}, [{"image": value}], [{"image": value, "box": [1, 2, 3, 4], "caption": "x"}]):
        body = {"inputs": inputs, "parameters": {"top_k": 3}, "model": "pictures"}
        assert list(check.iter_errors(body)) == []
        assert client.post(IMAGE, json=body).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": []},
        {"inputs": {"imgae": "a"}},
        {"inputs": {"image": {"base65": "AQID"}}},
        {"inputs": {"image": "a", "box": [1, 2]}},
        {"inputs": {"image": "a"}, "parameters": {"top_k": 2**31}},
        {"inputs": {"image": "a"}, "parameters": {"nope": 1}},
        {"inputs": {"image": "a"}, "model": "nope"},
        {"inputs": {"image": "a"}, "more": 1},
    ],
)
def test_what_the_schema_refuses_the_server_refuses(client: httpx.Client, document: dict[str, Any], body: Any) -> None:
    schema = document["paths"][IMAGE]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert list(validator(document, schema).iter_errors(body)) != []
    assert client.post(IMAGE, json=body).status_code in (400, 404)


def test_forms_name_their_files_and_fields(document: dict[str, Any]) -> None:
    form = document["paths"][IMAGE]["post"]["requestBody"]["content"]["multipart/form-data"]
    fields = form["schema"]["properties"]
    assert list(fields) == ["image", "caption", "box", "top_k", "exact", "mode", "model"]
    assert fields["image"]["items"] == {"type": "string", "contentMediaType": "application/octet-stream"}
    assert form["schema"]["required"] == ["image"]
    assert form["encoding"]["image"] == {"contentType": "application/octet-stream"}
    assert form["encoding"]["box"] == {"contentType": "application/json"}


def test_features_have_the_columns_that_are_online(client: httpx.Client, document: dict[str, Any]) -> None:
    item = document["paths"]["/v1/features/customers"]
    row = item["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    columns = row["properties"]["rows"]["items"]["properties"]
    assert columns["count"] == {"type": ["integer", "null"], "minimum": 0, "maximum": 2**64 - 1}
    assert columns["photo"] == {"type": ["string", "null"], "contentEncoding": "base64"}
    assert columns["vector"]["type"] == ["array", "object", "null"]
    answer = client.post("/v1/features/customers", json={"entities": {"customer": [1, 2, 3, 99]}})
    assert list(validator(document, row).iter_errors(answer.json())) == []
    assert [each["name"] for each in item["get"]["parameters"]] == ["entity", "feature", "at", "full_feature_names"]


def test_bytes_come_back_as_base64(client: httpx.Client, document: dict[str, Any]) -> None:
    schema = document["paths"][IMAGE]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    thumbnail = schema["properties"]["outputs"]["items"]["properties"]["thumbnail"]
    assert thumbnail == {"type": "string", "contentEncoding": "base64"}
    outputs = client.post(IMAGE, files={"image": b"abcdef"}).json()["outputs"]
    assert base64.b64decode(outputs[0]["thumbnail"]) == b"abcd"


def test_names_that_are_no_addresses_are_escaped(client: httpx.Client, document: dict[str, Any]) -> None:
    path = "/v2/models/a%20b%3F%7Bc%7D%23"
    assert path in document["paths"]
    assert client.get(path).json()["name"] == "a b?{c}#"
    assert "/v1/tasks/x/y" in document["paths"]
    assert client.post("/v1/tasks/x/y", files={"image": b"a"}).status_code == 200

"""The paths that every server has: index, descriptions, list of models, probes; and the repository extension."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from deepseek.serving.rest.openapi.operations import BODY, Schema, failures, json_content, operation, ref

_TEXT: Schema = {"text/plain": {"schema": {"type": "string"}}}
_UNWATCHED: Schema = {"404": ref("responses", "NotFound")}
_HTML: Schema = {"text/html": {"schema": {"type": "string"}}}


def _flag(name: str) -> Schema:
    return json_content({"type": "object", "required": [name], "properties": {name: {"type": "boolean"}}})


def _object(*required: str) -> Schema:
    return json_content({"type": "object", "required": list(required)})


def server_paths(console: bool = False) -> Schema:
    """Path items of the server itself."""
    unready = {"503": {"description": "Loading or shutting down", "content": _flag("ready")}}
    return {
        path: operation("get", path, summary=summary, tag="server", answer=answer, others=others)
        for path, summary, answer, others in (
            ("/", "Index of URLs and models", _object("name", "version", "models", "urls"), None),
            ("/docs", "A page to look through the API and to try it", _HTML, None),
            *((("/console", "The server's console", _HTML, None),) if console else ()),
            ("/openapi.json", "This description", _object("openapi", "paths"), None),
            ("/metrics", "Prometheus metrics", _TEXT, _UNWATCHED),
            ("/v2/models/stats", "What all models have answered", _object("model_stats"), None),
            ("/v2", "Server metadata", _object("name", "version", "extensions"), None),
            ("/v2/health/live", "Liveness", _flag("live"), None),
            ("/v2/health/ready", "Readiness", _flag("ready"), unready),
        )
    }


def repository_paths(models: Iterable[str]) -> Schema:
    """Path items of the model repository extension (Triton's ``extension_model_repository.md``)."""
    index = "/v2/repository/index"
    entry: Schema = {
        "type": "object",
        "required": ["name"],
        "properties": {name: {"type": "string"} for name in ("name", "version", "state", "reason")},
    }
    only_ready: Schema = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    paths = {
        index: operation(
            "post",
            index,
            summary="List the models of the repository",
            tag="models",
            body=json_content(only_ready, {}),
            answer=json_content({"type": "array", "items": entry}),
            statuses=BODY,
        )
    }
    body = json_content({"type": "object", "properties": {"parameters": {"type": "object"}}}, {})
    for name in models:
        for action in ("load", "unload"):
            path = f"/v2/repository/models/{quote(name)}/{action}"
            paths[path] = operation(
                "post",
                path,
                summary=f"{action.capitalize()} {name}",
                tag="models",
                body=body,
                answer=json_content({}),
                statuses=BODY,
                others=failures(("403",)),
            )
    return paths


def watching_paths(models: Iterable[str]) -> Schema:
    """Path items of a model's statistics (Triton's ``extension_statistics.md``) and of its true answers."""
    label: Schema = {
        "type": "object",
        "required": ["id", "truth"],
        "properties": {
            "id": {"type": "string", "description": "The request's id, or its x-request-id."},
            "row": {"type": "integer", "minimum": 0, "default": 0},
            "truth": {"type": ["string", "number", "boolean"]},
        },
        "additionalProperties": False,
    }
    labels: Schema = {
        "type": "object",
        "required": ["labels"],
        "properties": {"labels": {"type": "array", "items": label}},
        "additionalProperties": False,
    }
    paths: Schema = {}
    for name in models:
        stats, path = f"/v2/models/{quote(name)}/stats", f"/v2/models/{quote(name)}/labels"
        answer = _object("model_stats")
        summary = f"What {name} has answered"
        paths[stats] = operation("get", stats, summary=summary, tag="models", answer=answer, statuses=("404",))
        paths[path] = operation(
            "post",
            path,
            summary=f"Tell {name} true answers, for its live accuracy",
            tag="models",
            body=json_content(labels, {"labels": [{"id": "order-17", "truth": "positive"}]}),
            answer=_object("joined"),
            statuses=BODY,
        )
    return paths

"""The paths of feature reads, with the columns that each view has at this moment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepseek.serving.rest.openapi.operations import BODY, Schema, json_content, operation

if TYPE_CHECKING:
    from deepseek.serving.features.catalogue import ServedView

_ROOT = "/v1/features"
_ARROW: Schema = {"application/vnd.apache.arrow.stream": {"schema": {"type": "string"}}}
_BOUNDS = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
_VECTOR = re.compile(r"\[\d+\]$")
_NUMBERS = ("float", "double", "halffloat", "float16", "float32", "float64")
_READ_FAILURES = ("400", "404", "429", "500", "503")
_VIEW: Schema = {
    "type": "object",
    "required": ["name", "version", "entities", "request", "features"],
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "integer"},
        "description": {"type": "string"},
        "ttl_seconds": {"type": ["number", "null"]},
        **{
            name: {"type": "object", "additionalProperties": {"type": "string"}, "description": "Arrow types by name."}
            for name in ("entities", "request", "features")
        },
    },
}


def feature_paths(views: Sequence[ServedView]) -> Schema:
    """The list of views, a read of several, and one path a view."""
    everything = {name: kind for served in views for name, kind in (served.entities | served.request).items()}
    names = [served.view.name for served in views]
    listing: Schema = {
        "type": "object",
        "required": ["views"],
        "properties": {"views": {"type": "array", "items": _VIEW}},
    }
    paths: Schema = {
        _ROOT: operation(
            "get", _ROOT, summary="Feature views", tag="features", answer=json_content(listing), statuses=_READ_FAILURES
        )
        | operation(
            "post",
            _ROOT,
            summary="Read features of several views",
            tag="features",
            body=json_content(_body(everything, ["features"]), {"entities": [_example(everything)], "features": names}),
            answer=json_content(_rows({})) | _ARROW,
            statuses=BODY,
        )
    }
    for served in views:
        path = f"{_ROOT}/{served.view.name}"
        columns = served.entities | served.request
        answer = _rows(columns | served.features)
        paths[path] = operation(
            "get",
            path,
            summary=f"Read {served.view.name} for some keys, or describe it",
            description=served.view.description,
            tag="features",
            parameters=_query(served),
            answer=json_content({"anyOf": [answer, _VIEW]}) | _ARROW,
            statuses=_READ_FAILURES,
        ) | operation(
            "post",
            path,
            summary=f"Read {served.view.name}",
            description=served.view.description,
            tag="features",
            body=json_content(_body(columns, []), {"entities": [_example(columns)]}),
            answer=json_content(answer) | _ARROW,
            statuses=BODY,
        )
    return paths


def _query(served: ServedView) -> list[Schema]:
    def many(name: str, items: Schema, description: str) -> Schema:
        schema = {"type": "array", "items": items}
        return {"name": name, "in": "query", "description": description, "schema": schema}

    keys = list(served.entities)
    kind = _json_type(served.entities[keys[0]]) if len(keys) == 1 else {"type": "string"}
    how = f"A value of {keys[0]}." if len(keys) == 1 else f"A JSON object with {', '.join(keys)}."
    return [
        many("entity", kind, f"{how} May be repeated; without it the view is described."),
        many("feature", {"enum": list(served.features)} if served.features else {"type": "string"}, "All by default."),
        {
            "name": "at",
            "in": "query",
            "description": "The time at which features must not be older than their time to live; by default now.",
            "schema": {"type": "string", "format": "date-time"},
        },
        {
            "name": "full_feature_names",
            "in": "query",
            "description": "Call all features view__feature.",
            "schema": {"type": "boolean"},
        },
    ]


def _body(columns: Mapping[str, str], required: list[str]) -> Schema:
    values = {name: _nullable(_json_type(kind)) for name, kind in columns.items()}
    entity = {"type": "object", "properties": values, "additionalProperties": False}
    by_column = {name: {"type": "array", "items": each} for name, each in values.items()}
    table = {"type": "object", "properties": by_column, "additionalProperties": False, "minProperties": 1}
    return {
        "type": "object",
        "required": ["entities", *required],
        "properties": {
            "entities": {"anyOf": [{"type": "array", "items": entity, "minItems": 1}, table]},
            "features": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "at": {"type": ["string", "null"], "format": "date-time"},
            "full_feature_names": {"type": "boolean"},
        },
        "additionalProperties": False,
    }


def _rows(columns: Mapping[str, str]) -> Schema:
    values = {name: _nullable(_json_type(kind)) for name, kind in columns.items()}
    rows = {"type": "array", "items": {"type": "object", "properties": values}}
    return {"type": "object", "required": ["rows"], "properties": {"rows": rows}}


def _json_type(kind: str) -> Schema:
    """The schema of an Arrow type's values in JSON; of nested types only that they are nested."""
    if kind in _BOUNDS:
        return {"type": "integer", "minimum": _BOUNDS[kind][0], "maximum": _BOUNDS[kind][1]}
    if kind in _NUMBERS:
        return {"type": "number"}
    if kind == "bool":
        return {"type": "boolean"}
    if kind.startswith(("date32", "date64")):
        return {"type": "string", "format": "date"}
    if kind.startswith("timestamp"):
        return {"type": "string", "description": kind}  # without a zone it is no RFC 3339 date-time
    if "binary" in kind:
        return {"type": "string", "contentEncoding": "base64"}
    if "list" in kind or _VECTOR.search(kind) or kind.startswith(("struct", "map")):
        return {"type": ["array", "object"], "description": kind}
    return {"type": "string", "description": kind} if kind not in ("", "string", "large_string") else {"type": "string"}


def _nullable(schema: Schema) -> Schema:
    kinds = schema["type"]
    return schema | {"type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}


def _example(columns: Mapping[str, str]) -> dict[str, Any]:
    samples = {"integer": 1, "number": 0.5, "boolean": True}
    return {name: samples.get(str(_json_type(kind)["type"]), "a") for name, kind in columns.items()}

"""What a task request asks for, out of JSON or out of a form: the same rows either way.

In a form, a field that is called like an input gives the input of one row; several of the same name give as many rows.
A field that is called like a parameter sets it, and ``model`` names the model. Values of bytes inputs are the bytes of
the file; strings are UTF-8; all others are written as in JSON: ``3``, ``true``, ``[[1, 2], [3, 4]]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from deepseek.errors import nearest
from deepseek.serving.errors import RequestError
from deepseek.serving.models.served_model import Row
from deepseek.serving.oip.codec import Codec
from deepseek.serving.oip.tensor_field import TensorField
from deepseek.serving.rest.bodies import decoded
from deepseek.serving.rest.forms import FormPart

MODEL = "model"


class TaskRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a JSON request."""

    inputs: Any
    model: str | None = None
    parameters: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(TaskRequest)


def decode_json(body: bytes) -> TaskRequest:
    """Decode a JSON body; raises :class:`RequestError`."""
    return decoded(_decoder.decode, body, "the body is not a task request")


def rows_of(codec: Codec, request: TaskRequest) -> list[Row]:
    """The rows of a JSON request; an error says at which of several inputs it is."""
    items = request.inputs
    if not isinstance(items, list):
        return [codec.row(items)]
    rows: list[Row] = []
    for item in items:
        try:
            rows.append(codec.row(item))
        except RequestError as error:
            if len(items) == 1:
                raise
            raise RequestError(f"inputs[{len(rows)}]: {error}") from error
    return rows


def model_of(parts: Sequence[FormPart]) -> str | None:
    """The model that a form names."""
    named = [part for part in parts if part.name == MODEL]
    if len(named) > 1:
        raise RequestError(f"form field {MODEL!r}: expected it once, received it {len(named)} times")
    return _text(named[0]) if named else None


def form_rows(codec: Codec, parts: Sequence[FormPart]) -> tuple[list[Row], dict[str, Any]]:
    """The rows and the parameters of a form; raises :class:`RequestError` naming the field."""
    columns: dict[str, list[Any]] = {}
    parameters: dict[str, Any] = {}
    for part in parts:
        name = part.name
        if (field := codec.inputs.get(name)) is not None:
            columns.setdefault(name, []).append(field.parse_value(_value(field, part)))
        elif (field := codec.parameters.get(name)) is not None:
            if name in parameters:
                raise RequestError(f"{field.where}: expected it once, received it several times")
            parameters[name] = field.parse_value(_value(field, part))
        elif name != MODEL:
            raise _unknown(name, codec)
    return codec.rows(columns), parameters


def _value(field: TensorField, part: FormPart) -> Any:
    if field.dtype == "bytes" and not field.row_shape:
        return part.data
    if field.dtype == "string" and not field.row_shape:
        return _text(part)
    try:
        return msgspec.json.decode(part.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(
            f"{field.where}: expected a value of {field.datatype} written as in JSON, received {part.data[:40]!r}"
        ) from error


def _text(part: FormPart) -> str:
    try:
        return part.data.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"form field {part.name!r:.80}: expected text in UTF-8: {error}") from error


def _unknown(name: str, codec: Codec) -> RequestError:
    known = [*codec.inputs, *codec.parameters, MODEL]
    close = nearest(name, known)
    guess = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(known)}"
    return RequestError(f"unknown form field {name!r:.80}; {guess}")

"""A signature compiled for serving: columns become rows, rows are checked, parameters and outputs are looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from deepseek.errors import nearest
from deepseek.serving.errors import RequestError
from deepseek.serving.models.served_model import Row
from deepseek.serving.oip.tensor_field import TensorField
from deepseek.tasks.signature import Signature

PROTOCOL_PARAMETERS = frozenset({"binary_data_output", "priority", "timeout", "triton_enable_empty_final_response"})
"""Request parameters that speak to the protocol layer rather than to the model; Triton's clients set them."""


class Named(Protocol):
    """A requested output, in any protocol."""

    @property
    def name(self) -> str:
        """The output's name."""


class Inference(msgspec.Struct, gc=False):
    """A decoded request: what to run, and which outputs to return."""

    rows: list[Row]
    parameters: dict[str, Any]
    outputs: list[TensorField]
    id: str = ""
    raw: bool = False
    """gRPC: whether the inputs came as raw bytes; the outputs then go back the same way."""
    binary: frozenset[str] = frozenset()
    """REST: outputs that go back as binary tensors."""
    priority: int = 0
    """1 is the most urgent; 0: the default."""
    timeout: float | None = None
    """How long the client waits, in seconds."""


class Codec:
    """Checks requests against one :class:`Signature`; every failure is a :class:`RequestError` that says what to do."""

    def __init__(self, signature: Signature) -> None:
        self.inputs = {field.name: TensorField(field, "input") for field in signature.inputs}
        self.outputs = {field.name: TensorField(field, "output") for field in signature.outputs}
        self.parameters = {field.name: TensorField(field, "parameter") for field in signature.parameters}
        self.required = [name for name, field in self.inputs.items() if not field.field.optional]
        self._all_outputs = list(self.outputs.values())

    def input(self, name: str) -> TensorField:
        """Return the input called ``name``."""
        return _look_up("input", name, self.inputs)

    def select(self, requested: Sequence[Named]) -> list[TensorField]:
        """Return the requested outputs in the requested order; all of them when none is named."""
        if not requested:
            return self._all_outputs
        return [_look_up("output", output.name, self.outputs) for output in requested]

    def rows(self, columns: Mapping[str, list[Any]]) -> list[Row]:
        """Join columns of equal length into rows; optional inputs that are absent are absent in the rows too."""
        for name in self.required:
            if name not in columns:
                raise RequestError(f"missing input {name!r} ({self.inputs[name].datatype})")
        if not columns:
            raise RequestError("expected at least one input, received none")
        if len(columns) == 1:
            ((name, values),) = columns.items()
            return [{name: value} for value in values]
        sizes = {name: len(values) for name, values in columns.items()}
        if len(set(sizes.values())) > 1:
            received = ", ".join(f"{name!r} {size}" for name, size in sizes.items())
            raise RequestError(f"expected the same number of rows in every input, received {received}")
        names = list(columns)
        return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def row(self, item: Any) -> dict[str, Any]:
        """Check one row of plain JSON: an object of input values, or the bare value of the only required input."""
        if not isinstance(item, dict):
            if len(self.required) != 1:
                raise RequestError(
                    f"expected an object with the inputs {', '.join(self.required)}, received a bare value"
                )
            item = {self.required[0]: item}
        for name in self.required:
            if item.get(name) is None:
                raise RequestError(f"missing input {name!r} ({self.inputs[name].datatype})")
        return {name: self.input(name).parse_value(value) for name, value in item.items() if value is not None}

    def check_parameters(self, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
        """Check parameters against the declared ones; ``None`` values mean "the default" and are dropped."""
        if not parameters:
            return {}
        return {
            name: _look_up("parameter", name, self.parameters).parse_value(value)
            for name, value in parameters.items()
            if value is not None and name not in PROTOCOL_PARAMETERS
        }


def urgency(parameters: Mapping[str, Any] | None) -> tuple[int, float | None]:
    """Triton's request parameters ``priority`` and ``timeout`` (there in microseconds), as a number and seconds."""
    if not parameters:
        return 0, None
    priority, timeout = parameters.get("priority", 0), parameters.get("timeout")
    if type(priority) is not int or not 0 <= priority <= 255:
        raise RequestError(f"parameter 'priority': expected an integer from 0 to 255, received {priority!r:.60}")
    if timeout is None or timeout == 0:
        return priority, None
    if type(timeout) is not int or timeout < 0:
        raise RequestError(f"parameter 'timeout': expected microseconds, at least 0, received {timeout!r:.60}")
    return priority, timeout / 1e6


def _look_up(kind: str, name: str, known: Mapping[str, TensorField]) -> TensorField:
    field = known.get(name)
    if field is None:
        close = nearest(name, known)
        guess = (
            f"did you mean {' or '.join(map(repr, close))}?"
            if close
            else f"known: {', '.join(sorted(known)) or 'none'}"
        )
        raise RequestError(f"unknown {kind} {name!r}; {guess}")
    return field

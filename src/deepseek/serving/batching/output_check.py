"""What a model returned, held against its signature where it ran, before anybody is answered.

An answer of another shape than was promised would go out over JSON as if it were right, and over gRPC under a wrong
shape. It is the model's fault and never the client's; and as its batch then runs again request by request, only the
guilty one fails.

Names and shapes are checked, at the cost of some hundred nanoseconds a value. Dtypes are not: the encoders find most
wrong ones, and a value of every element would have to be looked at for the others. Of the innermost lists the first
element alone is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.serving.batching.answering import Predict
from deepseek.serving.models.served_model import Outputs, Parameters, Row, ServedModel
from deepseek.tasks.signature import Signature

_PLAIN = frozenset({str, float, int, bool, bytes})
_NESTED = (list, tuple, dict, set)


class OutputError(RuntimeError):
    """A model returned something else than its signature promises."""


class OutputCheck:
    """Checks the output rows of the model ``name``; more than the signature names may be in them."""

    def __init__(self, name: str, signature: Signature) -> None:
        self._name = name
        self._fields = [(field.name, field.shape, field.optional) for field in signature.outputs]

    def __call__(self, outputs: Sequence[Any]) -> None:
        """Raise :class:`OutputError` for a value that is missing or has another shape."""
        fields = self._fields
        for row in outputs:
            if type(row) is not dict and not isinstance(row, Mapping):
                raise OutputError(
                    f"model {self._name!r} returned a row of {type(row).__name__}, expected a mapping of names"
                )
            for name, shape, optional in fields:
                value = row.get(name)
                if value is None:
                    if not optional:
                        raise OutputError(f"model {self._name!r} returned a row without {name!r}")
                elif not (_fits(value, shape) if shape else type(value) in _PLAIN or _is_scalar(value)):
                    raise OutputError(
                        f"model {self._name!r}: expected the output {name!r} of shape {_told(shape)}, "
                        f"received {_described(value)}"
                    )


def checked(model: ServedModel) -> Predict:
    """A model's ``predict`` whose outputs are checked; without parameters it is given ``None``."""
    check = OutputCheck(model.name, model.signature)

    def predict(rows: Sequence[Row], parameters: Parameters) -> Outputs:
        outputs = model.predict(rows, parameters or None)
        check(outputs)
        return outputs

    return predict


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, _NESTED) and not getattr(value, "ndim", 0)


def _fits(value: Any, shape: Sequence[int]) -> bool:
    sizes = None if type(value) is list else getattr(value, "shape", None)
    if sizes is not None:
        return len(sizes) == len(shape) and all(want in (-1, got) for want, got in zip(shape, sizes, strict=True))
    if not isinstance(value, list | tuple) or shape[0] not in (-1, len(value)):
        return False
    if len(shape) > 1:
        return all(_fits(item, shape[1:]) for item in value)
    return not value or type(value[0]) in _PLAIN or _is_scalar(value[0])


def _told(shape: Sequence[int]) -> str:
    return f"[{', '.join('any' if size < 0 else str(size) for size in shape)}]" if shape else "[] (one value)"


def _described(value: Any) -> str:
    """Type and sizes, never the value, which may be a client's."""
    sizes = getattr(value, "shape", None)
    if sizes is None and isinstance(value, list | tuple):
        sizes = [len(value)]
    return type(value).__name__ if sizes is None else f"{type(value).__name__} of {list(sizes)}"

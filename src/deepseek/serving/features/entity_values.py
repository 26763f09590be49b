"""Values of key columns as clients write them, where JSON and query strings lack a type that Arrow has.

Dates are ISO 8601 text, decimals text or numbers, binary keys the forms of :mod:`deepseek.serving.oip.byte_value`;
everything else is what it is in JSON. An integer beyond its column's range, which no row can have, is an error rather
than an unknown key. In a query string all values are text, read by the column's type.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from deepseek.errors import nearest
from deepseek.serving.errors import RequestError
from deepseek.serving.oip.byte_value import decode_bytes

Convert = Callable[[Any], Any]
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


class EntityReader:
    """Checks the entities of a request: their columns, and the values of keys."""

    def __init__(self, keys: Mapping[str, pa.DataType], request: Mapping[str, str]) -> None:
        self.keys = list(keys)
        self._known = {*keys, *request}
        self._kinds = dict(keys)
        self._converters = {name: each for name, kind in keys.items() if (each := _converter(name, kind)) is not None}

    def check(self, entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The entities with the values that JSON lacks converted; raises :class:`RequestError`."""
        known = self._known
        for number, entity in enumerate(entities):
            if not known.issuperset(entity):
                raise self._unknown(number, next(name for name in entity if name not in known))
        for name, convert in self._converters.items():
            for entity in entities:
                if (value := entity.get(name)) is not None:
                    entity[name] = convert(value)
        return entities

    def parse(self, text: str) -> dict[str, Any]:
        """The key that a query string's value stands for; only views with one key column have such."""
        if len(self.keys) != 1:
            raise RequestError(
                f"entity: these views have the key columns {', '.join(self.keys)}; "
                f'write a JSON object such as {{"{self.keys[0]}": ...}}, or send a POST'
            )
        name = self.keys[0]
        kind = self._kinds[name]
        try:
            if pa.types.is_integer(kind):
                return {name: int(text)}
            if pa.types.is_boolean(kind):
                return {name: _BOOLEANS[text.lower()]}
        except (ValueError, KeyError) as error:
            raise RequestError(f"entity: expected a value of {name!r} ({kind}), received {text!r:.80}") from error
        return {name: text}

    def _unknown(self, number: int, name: str) -> RequestError:
        close = nearest(name, self._known)
        guess = (
            f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(sorted(self._known))}"
        )
        return RequestError(f"entities[{number}]: unknown column {name!r:.80}; {guess}")


def _converter(name: str, kind: pa.DataType) -> Convert | None:
    types = pa.types
    where = f"entity column {name!r}"
    if types.is_integer(kind):
        low, high = (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
        if types.is_unsigned_integer(kind):
            low, high = 0, 2**kind.bit_width - 1
        return lambda value: _within(where, kind, low, high, value)
    if types.is_date(kind):
        return lambda value: _read(where, kind, dt.date.fromisoformat, value)
    if types.is_decimal(kind):
        return lambda value: _read(where, kind, lambda each: Decimal(str(each)), value)
    if (
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    ):
        return lambda value: decode_bytes(value, where)
    return None


def _within(where: str, kind: pa.DataType, low: int, high: int, value: Any) -> Any:
    if type(value) is int and not low <= value <= high:
        raise RequestError(f"{where}: expected {kind} ({low} to {high}), received {value!r:.40}")
    return value  # of another type: the feature store says what is wrong


def _read(where: str, kind: pa.DataType, read: Convert, value: Any) -> Any:
    if isinstance(value, dt.date | Decimal):
        return value
    try:
        return read(value)
    except (TypeError, ValueError, InvalidOperation) as error:
        raise RequestError(f"{where}: expected {kind} written as text, received {value!r:.80}") from error

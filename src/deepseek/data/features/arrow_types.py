"""Arrow types as short readable text, for definitions that are stored as JSON.

Covers every type that Arrow itself has an alias for (``int64``, ``string``, ``timestamp[us, tz=UTC]``, ...), and lists:
``list<float32>`` and vectors of a fixed length, ``float32[384]``.
"""

from __future__ import annotations

import re

import pyarrow as pa

from deepseek.errors import ConfigError

_LIST = re.compile(r"list<(.+)>")
_VECTOR = re.compile(r"(.+)\[(\d+)\]")
_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), (?:tz=)?(.+)\]")


def parse_type(text: str) -> pa.DataType:
    """The Arrow type that ``text`` names.

    Raises:
        ConfigError: it names none.
    """
    text = text.strip()
    if match := _LIST.fullmatch(text):
        return pa.list_(parse_type(match[1]))
    if match := _ZONED.fullmatch(text):
        return pa.timestamp(match[1], tz=match[2])
    if match := _VECTOR.fullmatch(text):
        return pa.list_(parse_type(match[1]), int(match[2]))
    try:
        return pa.type_for_alias(text)
    except ValueError:
        raise ConfigError(
            f"expected an Arrow type such as 'int64', 'float64', 'string', 'bool', 'timestamp[us, tz=UTC]', "
            f"'list<string>' or 'float32[384]'; received {text!r}"
        ) from None


def type_text(kind: pa.DataType | str) -> str:
    """The text that :func:`parse_type` reads back as ``kind``.

    Raises:
        ConfigError: the type has no such text (structs, maps, dictionaries).
    """
    if isinstance(kind, str):
        parse_type(kind)
        return kind.strip()
    if pa.types.is_fixed_size_list(kind):
        return f"{type_text(kind.value_type)}[{kind.list_size}]"
    if pa.types.is_list(kind):
        return f"list<{type_text(kind.value_type)}>"
    text = str(kind)
    if parse_type(text) != kind:
        raise ConfigError(f"the Arrow type {kind} cannot be used here; use scalars, lists and vectors")
    return text

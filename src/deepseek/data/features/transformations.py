"""On-demand transformations: one Python function that computes features offline and online.

The contract: the function takes a dict of input name to Arrow array, all of one length, and returns a dict of output
name to Arrow array (or NumPy array or list) of that length; with a single output the bare array will do. It is
vectorised, so a million rows cost one call, and it must treat every row by itself: the value of a row may depend on
that row's inputs alone. Arrow arrays, not NumPy, because a null stays a null and an integer stays an integer whatever
else is in the batch; types are declared, inputs and outputs are cast to them on both paths. Offline, a few rows of each
batch are computed again alone and must give the very same bits; a function that looks at other rows is an error, not
a skew.

Deliberately not here: chains of transformations (one reads columns of its view and of the request, not the outputs of
another), and storing code: a definition names its function as ``module:function``.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from deepseek.data.features.arrow_types import parse_type, type_text
from deepseek.errors import ConfigError, DataError, TransformationError, nearest

_CHECKED_ROWS = 3


class OnDemand(BaseModel):
    """A transformation of a feature view.

    Args:
        name: how it is called in messages; the function's name by default.
        function: a function, or where it is: ``"package.module:function"``.
        inputs: columns of the view's table.
        request: columns that come with the request (the entity rows offline, the keys online): name to Arrow type.
        outputs: features that it computes: name to Arrow type, as ``{"ratio": "float64"}``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    function: str
    inputs: tuple[str, ...] = ()
    request: dict[str, str] = Field(default_factory=dict)
    outputs: dict[str, str]
    _callable: Callable[..., Any] | None = PrivateAttr(default=None)

    def __init__(self, **values: Any) -> None:
        function = values.get("function")
        if callable(function):
            values["function"] = f"{function.__module__}:{function.__qualname__}"
        super().__init__(**values)
        if callable(function):
            self._callable = function

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("name") and isinstance(values.get("function"), str):
            return values | {"name": values["function"].rpartition(":")[2].rpartition(".")[2]}
        return values

    @field_validator("request", "outputs", mode="before")
    @classmethod
    def _types(cls, types: Any) -> Any:
        return {name: type_text(kind) for name, kind in types.items()} if isinstance(types, Mapping) else types

    @model_validator(mode="after")
    def _complete(self) -> OnDemand:
        if self.function.count(":") != 1 or not all(self.function.split(":")):
            raise ValueError(f"function: expected 'package.module:function', received {self.function!r}")
        if not self.outputs:
            raise ValueError(f"transformation {self.name!r}: expected at least one output")
        if not self.inputs and not self.request:
            raise ValueError(f"transformation {self.name!r}: expected at least one input or request column")
        if both := sorted(set(self.inputs) & set(self.request)):
            raise ValueError(f"transformation {self.name!r}: {both[0]!r} is both an input and a request column")
        return self

    def __eq__(self, other: object) -> bool:
        """Equal definitions, whether the function was given or is yet to be imported."""
        return isinstance(other, OnDemand) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.name, self.function, self.inputs, tuple(self.outputs)))

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the plain function, so that a decorated one stays usable as it was."""
        return self.resolve()(*arguments, **named)

    def resolve(self) -> Callable[..., Any]:
        """The function itself, imported at first use.

        Raises:
            ConfigError: there is no such module or function.
        """
        return self._callable or _find(self.function)

    def require_registrable(self) -> None:
        """Raise :class:`ConfigError` unless another process can import the function and gets the same one."""
        module, _, function = self.function.partition(":")
        if module == "__main__" or "<" in function:
            where = "the script that is running" if module == "__main__" else "another function"
            raise ConfigError(
                f"transformation {self.name!r}: {function!r} is defined in {where}, where no other process can import "
                f"it. Move it to the top level of a module on the Python path, and give 'module:function'."
            )
        found = _find(self.function)
        if self._callable is not None and found is not self._callable:
            raise ConfigError(
                f"transformation {self.name!r}: {self.function!r} names another function than the one given; "
                f"a registered function must be importable under its own name"
            )

    def apply(self, columns: Mapping[str, pa.Array], *, check: bool = False) -> dict[str, pa.Array]:
        """Compute the outputs for all rows.

        Args:
            columns: the inputs and request columns by name, of one length; others are left alone.
            check: compute a few rows again alone, and fail if that gives other values.

        Raises:
            DataError: the function failed, returned something else than declared, or is not row by row.
        """
        given = {name: _whole(columns[name]) for name in self.inputs}
        for name, kind in self.request.items():
            given[name] = self._cast(_whole(columns[name]), parse_type(kind), f"request column {name!r}")
        rows = len(next(iter(given.values())))
        results = self._run(given, rows)
        if check and rows > 1:
            self._check(given, results, rows)
        return results

    def _run(self, given: dict[str, pa.Array], rows: int) -> dict[str, pa.Array]:
        kinds = {name: parse_type(kind) for name, kind in self.outputs.items()}
        if rows == 0:
            return {name: pa.array([], kind) for name, kind in kinds.items()}
        try:
            result = self.resolve()(dict(given))
        except Exception as error:
            raise TransformationError(f"transformation {self.name!r} ({self.function}) failed: {error!r}") from error
        if not isinstance(result, Mapping) and len(kinds) == 1:
            result = {next(iter(kinds)): result}
        if not isinstance(result, Mapping) or set(result) != set(kinds):
            got = sorted(result) if isinstance(result, Mapping) else type(result).__name__
            raise TransformationError(
                f"transformation {self.name!r}: expected the outputs {sorted(kinds)}, received {got}"
            )
        return {name: self._output(name, result[name], kind, rows) for name, kind in kinds.items()}

    def _output(self, name: str, values: Any, kind: pa.DataType, rows: int) -> pa.Array:
        if isinstance(values, pa.Array | pa.ChunkedArray):
            array = _whole(values)
        else:
            try:
                array = pa.array(values, None if hasattr(values, "dtype") else kind)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise TransformationError(
                    f"transformation {self.name!r}, output {name!r}: expected {kind}: {error}"
                ) from error
        if len(array) != rows:
            raise TransformationError(
                f"transformation {self.name!r}, output {name!r}: expected {rows} values, received {len(array)}"
            )
        return self._cast(array, kind, f"output {name!r}")

    def _cast(self, array: pa.Array, kind: pa.DataType, what: str) -> pa.Array:
        if array.type == kind:
            return array
        try:
            return array.cast(kind)
        except pa.ArrowException as error:
            raise DataError(
                f"transformation {self.name!r}, {what}: expected {kind}, received {array.type}: {error}"
            ) from error

    def _check(self, given: dict[str, pa.Array], results: dict[str, pa.Array], rows: int) -> None:
        for row in sorted({0, rows // 2, rows - 1})[:_CHECKED_ROWS]:
            alone = self._run({name: pa.concat_arrays([array.slice(row, 1)]) for name, array in given.items()}, 1)
            for name, array in results.items():
                if not _same(alone[name], array.slice(row, 1)):
                    raise DataError(
                        f"transformation {self.name!r} ({self.function}), output {name!r}: row {row} gives "
                        f"{array[row].as_py()!r} among {rows} rows and {alone[name][0].as_py()!r} alone. A "
                        f"transformation must treat every row by itself, or its values differ online."
                    )


def on_demand(
    *,
    outputs: Mapping[str, Any],
    inputs: tuple[str, ...] | list[str] = (),
    request: Mapping[str, Any] | None = None,
    name: str = "",
) -> Callable[[Callable[..., Any]], OnDemand]:
    """Decorate a function to make it an :class:`OnDemand` transformation, which can still be called as a function."""

    def decorate(function: Callable[..., Any]) -> OnDemand:
        return OnDemand(name=name, function=function, inputs=tuple(inputs), request=request or {}, outputs=outputs)

    return decorate


@functools.lru_cache(maxsize=256)
def _find(reference: str) -> Callable[..., Any]:
    module_name, _, path = reference.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"transformation function {reference!r}: the module {module_name!r} cannot be imported ({error}); "
            f"put it on the Python path"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            close = nearest(part, [name for name in vars(found) if not name.startswith("_")])
            guess = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise ConfigError(f"transformation function {reference!r}: {module_name!r} has no {part!r}.{guess}")
        found = getattr(found, part)
    if isinstance(found, OnDemand):
        return found.resolve()
    if not callable(found):
        raise ConfigError(f"transformation function {reference!r}: expected a function, found {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _whole(values: Any) -> pa.Array:
    """One contiguous array that starts at its buffer's start, so that a function sees the same layout on both paths."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ChunkedArray):  # combine_chunks keeps chunks where offsets would overflow
        array = pa.concat_arrays(array.chunks)
    return pa.concat_arrays([array]) if array.offset else array


def _same(left: pa.Array, right: pa.Array) -> bool:
    if left.equals(right):
        return True
    return bool(repr(left.to_pylist()) == repr(right.to_pylist()))  # NaN equals NaN here

"""Feature views: which columns of a table are features of which entity, and from when on they may be seen.

A definition is a small frozen model that reads and writes as JSON. What it says is checked twice: its own consistency
when it is made, and against the table's schema when it is registered.
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from deepseek.data.features.transformations import OnDemand
from deepseek.data.table import Table
from deepseek.errors import ConfigError, UnknownNameError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class FeatureView(BaseModel):
    """Features of an entity, in time.

    Args:
        name: letters, digits, ``_`` and ``-``; no ``__``, which joins view and feature in results.
        source: the path of the table with the rows.
        entities: the key columns, of integer, text, binary, boolean, date or decimal type.
        event_time: the timestamp column that says when a row became true; without a zone it is UTC.
        created_time: the timestamp column that says when a row became known, for data that arrives late.
        ttl: a row older than this at the time asked for gives nulls; a row of exactly this age is valid.
        features: the columns that are features; by default all that are neither key nor time.
        transformations: features computed on demand.
        version: definitions are immutable; a changed one gets a new version.
        description: for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    entities: tuple[str, ...]
    event_time: str
    created_time: str | None = None
    ttl: dt.timedelta | None = None
    features: tuple[str, ...] | None = None
    transformations: tuple[OnDemand, ...] = ()
    version: int = Field(default=1, ge=1)
    description: str = ""

    @field_validator("source", mode="before")
    @classmethod
    def _path(cls, source: Any) -> Any:
        if isinstance(source, Table):
            return source.path
        return str(source) if isinstance(source, Path) else source

    @field_validator("entities", "features", mode="before")
    @classmethod
    def _several(cls, names: Any) -> Any:
        if isinstance(names, str):
            raise ValueError(f"expected a list of column names, received the text {names!r}; write [{names!r}]")
        return names

    @model_validator(mode="after")
    def _consistent(self) -> FeatureView:
        if not _NAME.fullmatch(self.name) or "__" in self.name:
            raise ValueError(
                f"name: expected letters, digits, '-' and single '_', starting with a letter; received {self.name!r}"
            )
        if not self.entities:
            raise ValueError(f"view {self.name!r}: expected at least one entity column")
        if self.ttl is not None and self.ttl <= dt.timedelta(0):
            raise ValueError(f"view {self.name!r}: expected a ttl above zero, received {self.ttl}")
        roles = [*self.entities, self.event_time, *([self.created_time] if self.created_time else [])]
        if twice := _repeated(roles):
            raise ValueError(f"view {self.name!r}: the column {twice!r} has two roles among entities and times")
        outputs = [name for step in self.transformations for name in step.outputs]
        names = [*(self.features or ()), *outputs]
        if twice := _repeated(names):
            raise ValueError(f"view {self.name!r}: two features are called {twice!r}")
        if taken := [name for name in outputs if name in roles]:
            raise ValueError(f"view {self.name!r}: the transformation output {taken[0]!r} is a key or time column")
        if taken := [name for name in self.features or () if name in self.entities]:
            raise ValueError(f"view {self.name!r}: the entity column {taken[0]!r} cannot be a feature as well")
        if self.features == () and not self.transformations:
            raise ValueError(f"view {self.name!r}: expected at least one feature")
        return self

    @property
    def label(self) -> str:
        """Name and version, for messages and metadata: ``customer_stats@2``."""
        return f"{self.name}@{self.version}"

    def columns(self, schema: pa.Schema) -> tuple[str, ...]:
        """The stored features, given the table's ``schema``; transformations' outputs are not among them."""
        if self.features is not None:
            return self.features
        keys = {*self.entities, self.event_time, self.created_time}
        return tuple(name for name in schema.names if name not in keys)

    def feature_names(self, schema: pa.Schema) -> tuple[str, ...]:
        """All features in the order of results: the stored ones, then the transformations' outputs."""
        return (*self.columns(schema), *(name for step in self.transformations for name in step.outputs))

    def transformations_for(self, features: tuple[str, ...]) -> tuple[OnDemand, ...]:
        """The transformations that compute any of ``features``."""
        wanted = set(features)
        return tuple(step for step in self.transformations if wanted & set(step.outputs))

    def stored_for(self, features: tuple[str, ...]) -> tuple[str, ...]:
        """The table's columns that ``features`` need: those stored among them, and inputs of transformations."""
        steps = self.transformations_for(features)
        computed = {name for step in steps for name in step.outputs}
        needed = [name for name in features if name not in computed] + [name for step in steps for name in step.inputs]
        return tuple(dict.fromkeys(needed))

    def request_columns(self, features: tuple[str, ...]) -> dict[str, str]:
        """The request-time columns that ``features`` need: name to Arrow type, as text."""
        return {name: kind for step in self.transformations_for(features) for name, kind in step.request.items()}

    def open(self, version: int | str | None = None) -> Table:
        """The table with the rows, at its newest version, a version number or a tag."""
        return Table.open(self.source, version)

    def validate_schema(self, schema: pa.Schema) -> None:
        """Check the definition against the table's columns.

        Raises:
            UnknownNameError: the table lacks a column; the nearest names are in the message.
            ConfigError: a column is of a type that its role does not allow.
        """
        for role, names in self._roles().items():
            for name in names:
                if name not in schema.names:
                    raise UnknownNameError(
                        "column", name, schema.names, hint=f"It is {role} of view {self.name!r}; table: {self.source}."
                    )
        for name in self.entities:
            if not is_key_type(schema.field(name).type):
                raise ConfigError(
                    f"view {self.name!r}: the entity column {name!r} is {schema.field(name).type}; expected an "
                    f"integer, text, binary, boolean, date or decimal column"
                )
        for name in filter(None, (self.event_time, self.created_time)):
            if not pa.types.is_timestamp(schema.field(name).type):
                raise ConfigError(
                    f"view {self.name!r}: the time column {name!r} is {schema.field(name).type}; expected a "
                    f"timestamp. Cast it when the table is written."
                )
        if not self.feature_names(schema):
            raise ConfigError(f"view {self.name!r}: {self.source} has no columns beside keys and times: no features")
        if twice := _repeated(list(self.feature_names(schema))):
            raise ConfigError(f"view {self.name!r}: the output {twice!r} of a transformation is a stored feature, too")

    def _roles(self) -> dict[str, tuple[str, ...]]:
        return {
            "an entity column": self.entities,
            "the event time": (self.event_time,),
            "the created time": (self.created_time,) if self.created_time else (),
            "a feature": self.features or (),
            "an input of a transformation": tuple(name for step in self.transformations for name in step.inputs),
        }


def is_key_type(kind: pa.DataType) -> bool:
    """Whether values of the type compare equal exactly, so that they can be keys; floating point does not."""
    checks = (
        pa.types.is_integer,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
        pa.types.is_boolean,
        pa.types.is_date,
        pa.types.is_decimal,
    )
    return any(check(kind) for check in checks)


def _repeated(names: list[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None

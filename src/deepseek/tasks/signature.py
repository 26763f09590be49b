"""The typed inputs and outputs of a task, in the vocabulary of the Open Inference Protocol.

A signature describes one row. Servers add the batch dimension in front; ``-1`` in a shape is a size that varies.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

DType = Literal["string", "bool", "int32", "int64", "float32", "float64", "bytes"]

OIP_DATATYPES: dict[DType, str] = {
    "string": "BYTES",
    "bytes": "BYTES",
    "bool": "BOOL",
    "int32": "INT32",
    "int64": "INT64",
    "float32": "FP32",
    "float64": "FP64",
}
"""Datatype names of the Open Inference Protocol v2 (KServe, "Required API, Tensor Data Types")."""


class Field(BaseModel):
    """One named value of a row: its dtype, and the shape of one row's value (``()`` for a scalar)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dtype: DType
    shape: tuple[int, ...] = ()
    description: str = ""
    optional: bool = False

    @property
    def oip_datatype(self) -> str:
        """The Open Inference Protocol's name of the dtype."""
        return OIP_DATATYPES[self.dtype]


class Signature(BaseModel):
    """What a task takes and returns, row by row, and the parameters that a call may set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    parameters: tuple[Field, ...] = ()

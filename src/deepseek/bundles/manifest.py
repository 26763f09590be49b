"""``deepseek.json``: what a bundle says of itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deepseek.tasks.signature import Signature

FILE = "deepseek.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskRecord(_Part):
    """The task's name and its configuration, labels included."""

    name: str
    config: dict[str, Any]


class DataRecord(_Part):
    """Which rows the model was trained and scored on."""

    source: str
    license: str = ""
    table_version: int | None = None
    fingerprint: str = ""
    rows: dict[str, int] = Field(default_factory=dict, description="Rows per split.")


class FileRecord(_Part):
    """Size in bytes and SHA-256 of one file of the bundle."""

    size: int
    sha256: str


class CompiledRecord(_Part):
    """A copy of the model for one runtime, and how it was found to be as good."""

    folder: str = Field("", pattern=r"^(compiled/[A-Za-z0-9][\w.-]*)?$", description="Inside the bundle.")
    metric: str = Field(description="The metric that both were scored with.")
    reference: float = Field(description="The plain model's score.")
    value: float = Field(description="This copy's score, on the same rows.")
    rows: int
    versions: dict[str, str] = Field(default_factory=dict, description="Versions of the libraries that made it.")


class Manifest(_Part):
    """Everything that a reader needs before it loads a weight."""

    format: Literal[1] = 1
    name: str
    version: str = "1"
    created: datetime
    task: TaskRecord
    signature: Signature
    base_model: str
    license: str
    parameters: int
    adapters: dict[str, str] = Field(default_factory=dict, description="Adapter name -> folder inside the bundle.")
    compiled: dict[str, CompiledRecord] = Field(
        default_factory=dict, description="Copies for a runtime, by its name and the precision: 'openvino-int8'."
    )
    metrics: dict[str, float] = Field(default_factory=dict)
    data: DataRecord | None = None
    reference: dict[str, Any] = Field(
        default_factory=dict, description="Statistics of the training columns, which drift is measured against."
    )
    recipe: dict[str, Any] = Field(default_factory=dict, description="The recipe that made the bundle.")
    versions: dict[str, str] = Field(default_factory=dict, description="Versions of the libraries that made it.")
    files: dict[str, FileRecord] = Field(default_factory=dict)

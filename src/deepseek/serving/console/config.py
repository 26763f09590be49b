"""Whether a server offers the console."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class ConsoleConfig(BaseModel):
    """The switch of the page at ``/console``; raises ``pydantic.ValidationError`` for unknown or impossible values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="The page at /console. auto: on loopback, and elsewhere only where requests need a key; on: also "
        "for everybody who can reach the server.",
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _switched(cls, mode: object) -> object:
        return ("off", "on")[mode] if isinstance(mode, bool) else mode  # how YAML 1.1 reads a bare off and on

    def offered(self, *, loopback: bool, keys: bool) -> bool:
        """Whether there is a console on a server that listens on loopback, or asks for keys."""
        return self.mode == "on" or (self.mode == "auto" and (loopback or keys))

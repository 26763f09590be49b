"""Settings of access control, and when it applies."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from deepseek.errors import ConfigError
from deepseek.serving.access.plans import BUILT_IN, Plan

ADMIN_TOKEN_VARIABLE = "DEEPSEEK_ADMIN_TOKEN"  # noqa: S105  its name
STORE_VARIABLE = "DEEPSEEK_KEYS"
SHORTEST_ADMIN_TOKEN = 16


def default_store() -> str:
    """``$DEEPSEEK_KEYS`` if set, else a SQLite file in the user's data folder for this platform."""
    chosen = os.environ.get(STORE_VARIABLE)
    if chosen:
        return chosen
    return f"sqlite:///{Path(platformdirs.user_data_dir('deepseek', appauthor=False)) / 'access.sqlite3'}"


class AccessConfig(BaseModel):
    """Who may use a server, and how much; raises ``pydantic.ValidationError`` for unknown or impossible values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["auto", "off", "required"] = Field(
        default="auto",
        description="Whether requests need a key. auto: not on loopback, where only this machine's users come; "
        "everywhere else.",
    )
    store: str = Field(
        default_factory=default_store,
        description="Where keys and counts live: sqlite:///path for one machine, redis://host:6379/0 for fleets.",
    )
    plans: dict[str, Plan] = Field(
        default_factory=dict, description="Plans by name, besides free and unlimited or in their place."
    )
    default_plan: str = Field(default="free", description="Plan of keys that are created without one.")
    fail_open: bool = Field(
        default=False,
        description="Whether requests are let through uncounted while Redis does not answer; otherwise they are "
        "refused (503, UNAVAILABLE). Keys are checked against those known last in both cases.",
    )
    keep_usage_days: int = Field(default=400, ge=2, description="Days for which usage is kept.")
    admin_token: SecretStr | None = Field(
        default=None,
        description=f"What the admin port asks for, at least {SHORTEST_ADMIN_TOKEN} characters; "
        f"${ADMIN_TOKEN_VARIABLE} if not given. Without one there is no admin port.",
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _of_yaml(cls, mode: object) -> object:
        """YAML reads a bare ``off`` as false."""
        return "off" if mode is False else mode

    @model_validator(mode="after")
    def _check(self) -> AccessConfig:
        if self.default_plan not in self.all_plans:
            raise ValueError(
                f"default_plan: expected one of {', '.join(self.all_plans)}, received {self.default_plan!r}"
            )
        if self.admin_token is not None and len(self.admin_token) < SHORTEST_ADMIN_TOKEN:
            received = len(self.admin_token)
            raise ValueError(f"admin_token: expected at least {SHORTEST_ADMIN_TOKEN} characters, received {received}")
        return self

    @property
    def all_plans(self) -> Mapping[str, Plan]:
        """The built-in plans and the configured ones."""
        return {**BUILT_IN, **self.plans}

    @property
    def token(self) -> str | None:
        """The admin token, from here or the environment."""
        if self.admin_token is not None:
            return self.admin_token.get_secret_value()
        return os.environ.get(ADMIN_TOKEN_VARIABLE) or None

    def applies_to(self, host: str) -> bool:
        """Whether a server that listens on ``host`` asks for keys."""
        if self.mode == "auto":
            return not is_loopback(host)
        return self.mode == "required"

    @classmethod
    def read(cls, path: str | Path) -> AccessConfig:
        """The settings in a YAML file of their own, or under ``access`` in a server's; raises :class:`ConfigError`."""
        import yaml

        try:
            loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            if isinstance(loaded, dict) and "access" in loaded:
                loaded = loaded["access"]
            return cls.model_validate({} if loaded is None else loaded)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, found['loc'])) or 'the file'}: {found['msg'].removeprefix('Value error, ')}"
                for found in error.errors()
            )
            raise ConfigError(f"{path}: {problems}. Expected keys: {', '.join(cls.model_fields)}") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than ``localhost`` may be anything."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"

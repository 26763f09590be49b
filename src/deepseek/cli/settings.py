"""Settings given on the command line as ``dotted.path=value``."""

from __future__ import annotations

from typing import Any


def overrides(settings: list[str]) -> dict[str, Any]:
    """``["a.b=1"]`` as ``{"a.b": 1}``; values are YAML, so that lists, null and numbers are what they look like.

    Raises:
        ConfigError: a setting has no ``=``, or its value is not YAML.
    """
    import yaml

    from deepseek.errors import ConfigError

    found: dict[str, Any] = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set: expected NAME=VALUE, received {setting!r}")
        try:
            found[path.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of {setting!r} is not YAML: {error}") from error
    return found

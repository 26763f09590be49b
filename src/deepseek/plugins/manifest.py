"""Plugins: a Python package with an entry point and a static manifest. Nothing is imported at discovery.

A package joins by an entry point in the group ``deepseek.plugins`` whose value is ``package:manifest.json``, the file
lying inside the package::

    [project.entry-points."deepseek.plugins"]
    my-plugin = "my_package:deepseek_plugin.json"

The manifest names what the package contributes::

    {"name": "my-plugin", "description": "...", "license": "Apache-2.0",
     "contributes": {"task": {"my-task": "my_package.tasks:MyTask"}}}
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from deepseek.errors import ConfigError

Kind = Literal["task", "runtime", "source", "online-store", "engine", "export-format"]
KINDS: tuple[str, ...] = get_args(Kind)
_TARGET = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


class Plugin:
    """One installed plugin, as its manifest describes it."""

    def __init__(self, manifest: dict[str, object], package: str, version: str) -> None:
        self.package = package
        self.version = version
        self.name = str(manifest.get("name") or package)
        self.description = str(manifest.get("description", ""))
        self.license = str(manifest.get("license", ""))
        self.contributes: dict[str, dict[str, str]] = {}
        contributes = manifest.get("contributes", {})
        if not isinstance(contributes, dict):
            raise ConfigError(f"plugin {self.name!r}: 'contributes' must be an object, received {contributes!r}")
        for kind, parts in contributes.items():
            if kind not in KINDS:
                raise ConfigError(
                    f"plugin {self.name!r} contributes the unknown kind {kind!r}; kinds: {', '.join(KINDS)}"
                )
            for name, target in parts.items():
                if not _TARGET.match(str(target)):
                    raise ConfigError(
                        f"plugin {self.name!r}, {kind} {name!r}: expected 'module:attribute', received {target!r}"
                    )
            self.contributes[kind] = dict(parts)


def _manifest_path(package: str, file: str) -> Path:
    spec = importlib.util.find_spec(package)  # a top-level package is located without being imported
    locations = list(spec.submodule_search_locations or []) if spec else []
    for location in locations:
        if (path := Path(location) / file).is_file():
            return path
    raise ConfigError(f"plugin package {package!r} has no manifest file {file!r}; looked in {locations}")


@cache
def discover() -> tuple[Plugin, ...]:
    """All installed plugins, read from their manifests without importing them.

    Raises:
        ConfigError: a manifest is missing, is not JSON, or names an unknown kind or a malformed target.
    """
    found = []
    for entry in sorted(importlib.metadata.entry_points(group="deepseek.plugins"), key=lambda e: e.name):
        package, _, file = entry.value.partition(":")
        path = _manifest_path(package.strip(), file.strip())
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"plugin manifest {path} is not JSON: {error}") from error
        version = entry.dist.version if entry.dist else "?"
        found.append(Plugin(manifest, package.strip(), version))
    return tuple(found)

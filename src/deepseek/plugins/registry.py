"""A registry of named parts that imports a part only when it is used.

Three ways lead into a registry, all of them checked for duplicates: the table of parts that ship (``name ->
"module:attribute"``), the manifests of installed plugins, and the :meth:`Registry.register` decorator for code that is
already running. Listing names imports nothing (design: napari's static manifests).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

from deepseek.errors import ConfigError, UnknownNameError

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Names of one ``kind`` of part (``"task"``, ``"runtime"``, ``"source"``) mapped to the parts."""

    def __init__(self, kind: str, shipped: Mapping[str, str]) -> None:
        self.kind = kind
        self._targets: dict[str, str] = dict(shipped)
        self._loaded: dict[str, T] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[C], C]:
        """Decorator that adds a part under ``name``; raises :class:`ConfigError` when the name is taken."""

        def add(part: C) -> C:
            self._check_free(name)
            self._targets[name] = f"{part.__module__}:{part.__qualname__}"
            self._loaded[name] = cast(T, part)
            return part

        return add

    def _check_free(self, name: str) -> None:
        if name in self._targets:
            raise ConfigError(f"{self.kind} {name!r} is registered already, by {self._targets[name]}")

    def _scan(self) -> None:
        if self._scanned:
            return
        self._scanned = True
        from deepseek.plugins.manifest import discover

        for plugin in discover():
            for name, target in plugin.contributes.get(self.kind, {}).items():
                self._check_free(name)
                self._targets[name] = target

    def names(self) -> list[str]:
        """All known names, sorted; imports no part."""
        self._scan()
        return sorted(self._targets)

    def target(self, name: str) -> str:
        """Where ``name`` is defined, as ``"module:attribute"``."""
        self._scan()
        if name not in self._targets:
            raise UnknownNameError(self.kind, name, self._targets)
        return self._targets[name]

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def get(self, name: str) -> T:
        """Import and return the part called ``name``; raises :class:`UnknownNameError` with the nearest names."""
        target = self.target(name)
        if name not in self._loaded:
            module, _, attribute = target.partition(":")
            self._loaded[name] = cast(T, getattr(importlib.import_module(module), attribute))
        return self._loaded[name]

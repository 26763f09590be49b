"""The feature store: registered views, and the features of entities at any time."""

from __future__ import annotations

from pathlib import Path

from deepseek.data.features.definitions import Definitions
from deepseek.data.features.view import FeatureView


class FeatureStore:
    """A folder (or object-store prefix) with the definitions of feature views; the features stay in their tables.

    Args:
        path: made at the first :meth:`register`.
    """

    def __init__(self, path: str | Path) -> None:
        self._definitions = Definitions(path)

    def __repr__(self) -> str:
        return f"FeatureStore({self.path!r})"

    @property
    def path(self) -> str:
        """Where the definitions are, as an address or an absolute path."""
        return self._definitions.path

    def register(self, view: FeatureView) -> FeatureView:
        """Check a view against its table and keep its definition; registering the same again changes nothing.

        Returns:
            The view as it is registered, with an absolute source.

        Raises:
            UnknownNameError: the table lacks a column; the nearest names are in the message.
            ConfigError: a column has the wrong type, a transformation cannot be imported by another process, or this
                version is registered with another definition (the difference is in the message).
            TableError: there is no table at ``source``.
        """
        view.validate_schema(view.open().schema)
        for step in view.transformations:
            step.require_registrable()
        return self._definitions.write(view)

    def view(self, name: str, version: int | None = None) -> FeatureView:
        """A registered view, at its highest version by default.

        Raises:
            UnknownNameError: there is no such view or version.
        """
        return self._definitions.read(name, version)

    def views(self) -> list[FeatureView]:
        """All registered views, each at its highest version, by name."""
        return [self._definitions.read(name) for name in self._definitions.names()]

    def versions(self, name: str) -> list[int]:
        """The registered versions of a view, ascending; empty when there is no such view."""
        return self._definitions.versions(name)

    def delete(self, name: str, version: int | None = None) -> None:
        """Remove a version of a view, or all of them, from the registry; the table stays.

        Raises:
            UnknownNameError: there is no such view or version.
        """
        self._definitions.delete(name, version)

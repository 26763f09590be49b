"""Versions of installed libraries, as bundles and results record them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version


def library_versions(libraries: Iterable[str]) -> dict[str, str]:
    """The installed version of each library; one that is not installed is left out."""
    found = {}
    for library in libraries:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found

"""The version that the server tells its clients."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def server_version() -> str:
    """The installed package's version; ``"0"`` when it runs from a source tree that is not installed."""
    try:
        return version("deepseek")
    except PackageNotFoundError:
        return "0"

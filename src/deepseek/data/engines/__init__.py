"""Where the data layer's work runs: threads of this process, or a Ray cluster."""

from __future__ import annotations

from deepseek.data.engines.engine import Engine, Shared
from deepseek.data.engines.local import LocalEngine
from deepseek.plugins.registry import Registry

ENGINES: Registry[type[Engine]] = Registry(
    "engine",
    {"local": "deepseek.data.engines.local:LocalEngine", "ray": "deepseek.data.engines.ray_engine:RayEngine"},
)
"""Engines by name; ``engine=`` arguments take a name or an :class:`Engine`."""

__all__ = ["ENGINES", "Engine", "LocalEngine", "Shared", "get_engine"]


def get_engine(engine: str | Engine = "local") -> Engine:
    """The engine of that name, or the one that is given.

    Raises:
        UnknownNameError: there is no such engine.
        MissingExtraError: it is ``"ray"``, and Ray is not installed.
    """
    return engine if isinstance(engine, Engine) else ENGINES.get(engine)()

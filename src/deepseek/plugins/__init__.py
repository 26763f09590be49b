"""Extension points: lazy registries, and plugins found by their static manifests."""

from deepseek.plugins.manifest import Plugin, discover
from deepseek.plugins.registry import Registry

__all__ = ["Plugin", "Registry", "discover"]

"""The model directory that everything hands over: written by training, read by inference, the hub and monitoring."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.bundles.bundle import Bundle
    from deepseek.bundles.manifest import DataRecord, Manifest
    from deepseek.bundles.writer import write_bundle

_PUBLIC = {
    "Bundle": "deepseek.bundles.bundle",
    "DataRecord": "deepseek.bundles.manifest",
    "Manifest": "deepseek.bundles.manifest",
    "write_bundle": "deepseek.bundles.writer",
}

__all__ = ["Bundle", "DataRecord", "Manifest", "write_bundle"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

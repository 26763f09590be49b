"""The model directory that everything hands over: written by training, read by inference, the hub and monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

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


__getattr__ = names_of(__name__, _PUBLIC)

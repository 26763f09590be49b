"""The model directory that everything hands over: written by training, read by inference, the hub and monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.bundles.bundle import Bundle
    from deepseek.bundles.compiled import add_compiled
    from deepseek.bundles.manifest import CompiledRecord, DataRecord, Manifest
    from deepseek.bundles.writer import write_bundle

_PUBLIC = {
    "Bundle": "deepseek.bundles.bundle",
    "CompiledRecord": "deepseek.bundles.manifest",
    "DataRecord": "deepseek.bundles.manifest",
    "Manifest": "deepseek.bundles.manifest",
    "add_compiled": "deepseek.bundles.compiled",
    "write_bundle": "deepseek.bundles.writer",
}

__all__ = ["Bundle", "CompiledRecord", "DataRecord", "Manifest", "add_compiled", "write_bundle"]


__getattr__ = names_of(__name__, _PUBLIC)

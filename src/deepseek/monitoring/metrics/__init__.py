"""Counts and histograms of a server: written on the event loop, merged across processes, read by Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.monitoring.metrics.exposition import Exposition, render
    from deepseek.monitoring.metrics.families import FAMILIES, Family
    from deepseek.monitoring.metrics.models import ModelMeter, ModelState
    from deepseek.monitoring.metrics.requests import RequestMeter, RequestMeters
    from deepseek.monitoring.metrics.samples import Merged, Sample, Snapshot, merge, take

_HOMES = {
    "FAMILIES": "families",
    "Exposition": "exposition",
    "Family": "families",
    "Merged": "samples",
    "ModelMeter": "models",
    "ModelState": "models",
    "RequestMeter": "requests",
    "RequestMeters": "requests",
    "Sample": "samples",
    "Snapshot": "samples",
    "merge": "samples",
    "render": "exposition",
    "take": "samples",
}

__all__ = [
    "FAMILIES",
    "Exposition",
    "Family",
    "Merged",
    "ModelMeter",
    "ModelState",
    "RequestMeter",
    "RequestMeters",
    "Sample",
    "Snapshot",
    "merge",
    "render",
    "take",
]

__getattr__ = names_of(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})

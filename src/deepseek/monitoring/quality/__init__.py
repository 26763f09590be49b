"""Quality of a served model: drift against the bundle's reference, confidence, labels that come later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.monitoring.quality.live_scores import LiveResult
    from deepseek.monitoring.quality.monitor import Label, QualityConfig, QualityMonitor

_HOMES = {"Label": "monitor", "LiveResult": "live_scores", "QualityConfig": "monitor", "QualityMonitor": "monitor"}

__all__ = ["Label", "LiveResult", "QualityConfig", "QualityMonitor"]

__getattr__ = names_of(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})

"""Stability of a server: objectives, and how fast their error budgets are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.monitoring.stability.burn import ALERTS, StabilityMonitor
    from deepseek.monitoring.stability.objectives import DEFAULT_OBJECTIVES, Objective

_HOMES = {
    "ALERTS": "burn",
    "DEFAULT_OBJECTIVES": "objectives",
    "Objective": "objectives",
    "StabilityMonitor": "burn",
}

__all__ = ["ALERTS", "DEFAULT_OBJECTIVES", "Objective", "StabilityMonitor"]

__getattr__ = names_of(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})

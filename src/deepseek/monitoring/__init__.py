"""Monitoring of a server on three axes: the quality of its models, the resources that it uses, its stability.

:class:`ServerMonitor` is what a server holds. It knows nothing of serving: a server tells it what happens through
meters, and is asked for its state by callables. Importing this package imports nothing heavy; public names load on
first use (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.monitoring.config import MonitoringConfig
    from deepseek.monitoring.metrics.models import ModelMeter, ModelState
    from deepseek.monitoring.quality.monitor import Label
    from deepseek.monitoring.rules.files import export_rules
    from deepseek.monitoring.server_monitor import ServerMonitor
    from deepseek.monitoring.stability.objectives import Objective

_HOMES = {
    "Label": "quality.monitor",
    "ModelMeter": "metrics.models",
    "ModelState": "metrics.models",
    "MonitoringConfig": "config",
    "Objective": "stability.objectives",
    "ServerMonitor": "server_monitor",
    "export_rules": "rules.files",
}

__all__ = ["Label", "ModelMeter", "ModelState", "MonitoringConfig", "Objective", "ServerMonitor", "export_rules"]

__getattr__ = names_of(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})

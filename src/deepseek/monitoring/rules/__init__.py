"""Files for Prometheus and Grafana. ``deepseek monitoring export DIR`` writes them."""

from __future__ import annotations

from deepseek.lazy import names_of

__all__ = ["FILES", "export_rules"]

__getattr__ = names_of(__name__, dict.fromkeys(__all__, f"{__name__}.files"))

"""OpenTelemetry traces of requests (``pip install 'deepseek[telemetry]'``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.monitoring.tracing.tracer import RequestTrace, Tracer, TracingConfig

__all__ = ["RequestTrace", "Tracer", "TracingConfig"]

__getattr__ = names_of(__name__, dict.fromkeys(__all__, f"{__name__}.tracer"))

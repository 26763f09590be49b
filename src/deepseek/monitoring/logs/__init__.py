"""Structured logs of a server: lines or JSON, request ids, an access line a request, repeats held back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.monitoring.logs.access import AccessLog
    from deepseek.monitoring.logs.request_ids import request_id
    from deepseek.monitoring.logs.setup import LogConfig, Logs

_HOMES = {"AccessLog": "access", "LogConfig": "setup", "Logs": "setup", "request_id": "request_ids"}

__all__ = ["AccessLog", "LogConfig", "Logs", "request_id"]

__getattr__ = names_of(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})

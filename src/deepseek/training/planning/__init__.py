"""Plan a training run: settings that fit a memory and a time budget, with both foretold."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.training.planning.budgets import available_memory, parse_memory, parse_time
    from deepseek.training.planning.candidates import suggest_after_oom
    from deepseek.training.planning.config import PlanConfig
    from deepseek.training.planning.outcome import Candidate, Parts, Plan
    from deepseek.training.planning.search import plan as plan
    from deepseek.training.planning.settings import Settings

_PUBLIC = {
    "Candidate": "deepseek.training.planning.outcome",
    "Parts": "deepseek.training.planning.outcome",
    "Plan": "deepseek.training.planning.outcome",
    "PlanConfig": "deepseek.training.planning.config",
    "Settings": "deepseek.training.planning.settings",
    "available_memory": "deepseek.training.planning.budgets",
    "parse_memory": "deepseek.training.planning.budgets",
    "parse_time": "deepseek.training.planning.budgets",
    "plan": "deepseek.training.planning.search",
    "suggest_after_oom": "deepseek.training.planning.candidates",
}

__all__ = [
    "Candidate",
    "Parts",
    "Plan",
    "PlanConfig",
    "Settings",
    "available_memory",
    "parse_memory",
    "parse_time",
    "plan",
    "suggest_after_oom",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

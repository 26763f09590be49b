"""Plan a training run: settings that fit a memory and a time budget, with both foretold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.memory import available_memory
    from deepseek.training.planning.budgets import parse_memory, parse_time
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
    "available_memory": "deepseek.memory",
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


__getattr__ = names_of(__name__, _PUBLIC)

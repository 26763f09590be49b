"""Search over the settings of a recipe, pruned and resumable: Optuna here, Ray Tune on a cluster."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.training.search.config import Choices, Range, SearchConfig
    from deepseek.training.search.objective import FitObjective, fit_objective
    from deepseek.training.search.overrides import with_overrides
    from deepseek.training.search.report import table_text
    from deepseek.training.search.searching import search
    from deepseek.training.search.trials import Pruned, SearchError, SearchResult, Trial

_PUBLIC = {
    "Choices": "config",
    "FitObjective": "objective",
    "Pruned": "trials",
    "Range": "config",
    "SearchConfig": "config",
    "SearchError": "trials",
    "SearchResult": "trials",
    "Trial": "trials",
    "fit_objective": "objective",
    "search": "searching",
    "table_text": "report",
    "with_overrides": "overrides",
}

__all__ = [
    "Choices", "FitObjective", "Pruned", "Range", "SearchConfig", "SearchError", "SearchResult", "Trial",
    "fit_objective", "search", "table_text", "with_overrides",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

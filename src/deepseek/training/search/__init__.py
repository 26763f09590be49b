"""Search over the settings of a recipe, pruned and resumable: Optuna here, Ray Tune on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.training.search.config import Choices, Range, SearchConfig
    from deepseek.training.search.objective import FitObjective, fit_objective
    from deepseek.training.search.overrides import with_overrides
    from deepseek.training.search.report import table_text
    from deepseek.training.search.searching import search
    from deepseek.training.search.trials import Pruned, SearchError, SearchResult, Trial

_PUBLIC = {
    "Choices": "deepseek.training.search.config",
    "FitObjective": "deepseek.training.search.objective",
    "Pruned": "deepseek.training.search.trials",
    "Range": "deepseek.training.search.config",
    "SearchConfig": "deepseek.training.search.config",
    "SearchError": "deepseek.training.search.trials",
    "SearchResult": "deepseek.training.search.trials",
    "Trial": "deepseek.training.search.trials",
    "fit_objective": "deepseek.training.search.objective",
    "search": "deepseek.training.search.searching",
    "table_text": "deepseek.training.search.report",
    "with_overrides": "deepseek.training.search.overrides",
}

__all__ = [
    "Choices", "FitObjective", "Pruned", "Range", "SearchConfig", "SearchError", "SearchResult", "Trial",
    "fit_objective", "search", "table_text", "with_overrides",
]  # fmt: skip


__getattr__ = names_of(__name__, _PUBLIC)

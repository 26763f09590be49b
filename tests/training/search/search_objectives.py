"""Cheap objectives with known best settings, in a module so that other processes can import them."""

from __future__ import annotations

import math
import os
import time
from typing import Any

from deepseek.errors import DataError


def bowl(recipe: Any, report: Any) -> dict[str, float]:
    """Best at learning rate 1e-3 and rank 8; grows over the steps of a trial."""
    top = 1 - 0.2 * abs(math.log10(recipe.training.learning_rate) + 3) - 0.05 * abs(math.log2(recipe.adapter.r) - 3)
    for step in range(1, 5):
        report(step, {"accuracy": top * step / 4, "loss": 1 - top * step / 4})
    return {"accuracy": top, "loss": 1 - top}


def slow(recipe: Any, report: Any) -> dict[str, float]:
    """As ``bowl``, 0.3 seconds long; notes its start in the trial's folder."""
    with (report.folder / "starts").open("a") as file:
        file.write(f"{os.getpid()} {recipe.training.learning_rate!r}\n")
    time.sleep(0.3)
    return bowl(recipe, report)


def failing(recipe: Any, report: Any) -> float:
    """Fails for small learning rates, and is no number for the rank 4."""
    if recipe.training.learning_rate < 1e-3:
        raise DataError("row 3: expected a label")
    return math.nan if recipe.adapter.r == 4 else 0.5


def dying(recipe: Any, report: Any) -> float:
    """The process dies for rank 16."""
    if recipe.adapter.r == 16:
        os.kill(os.getpid(), 9)
    return 0.5


def broken(recipe: Any, report: Any) -> float:
    """A fault of the objective."""
    return recipe.training.no_such_setting


def failing_or_bowl(recipe: Any, report: Any) -> dict[str, float]:
    """Fails for rates above 1e-2, and else is ``bowl``."""
    if recipe.training.learning_rate > 1e-2:
        raise DataError("too high")
    return bowl(recipe, report)

"""When training goes wrong: losses that are no numbers, and memory that does not suffice."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import OutOfMemory, TrainingError
from deepseek.training.planning.candidates import suggest_after_oom

if TYPE_CHECKING:
    import torch

    from deepseek.training.config import TrainingConfig

ROWS_NAMED = 8
_NO_MEMORY = re.compile(r"not enough memory|out of memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)


class FiniteCheck:
    """Losses and gradient norms that were not looked at yet, with the rows that they came from.

    On a CPU each step is looked at before the optimiser uses its gradients. On a GPU looking means waiting for the
    device, so it is done when the loss is logged (which waits anyway) and before anything is scored or saved.
    """

    def __init__(
        self, settings: TrainingConfig, origin: Callable[[int], str], saved: Callable[[], Path | None]
    ) -> None:
        self._settings, self._origin, self._saved = settings, origin, saved
        self._losses: list[tuple[int, torch.Tensor, Sequence[int]]] = []
        self._norms: list[tuple[int, torch.Tensor]] = []

    def saw_loss(self, step: int, loss: torch.Tensor, rows: Sequence[int]) -> None:
        """Remember the loss of a forward pass of the step that follows ``step`` steps."""
        self._losses.append((step + 1, loss, rows))

    def saw_norm(self, step: int, norm: Any) -> None:
        """Remember the norm of the gradients of the step that follows ``step`` steps."""
        import torch

        if norm is not None:
            self._norms.append((step + 1, torch.as_tensor(norm, dtype=torch.float32)))

    def look(self) -> None:
        """Check all that was seen since the last look.

        Raises:
            TrainingError: a loss or a gradient norm is not finite; the message names the first such step and its rows.
        """
        import torch

        if not self._losses:
            return
        values = torch.stack([loss.float() for _, loss, _ in self._losses]).cpu()
        norms = torch.stack([norm for _, norm in self._norms]).cpu() if self._norms else torch.zeros(0)
        losses, self._losses = self._losses, []
        steps, self._norms = [step for step, _ in self._norms], []
        for value, (step, _, rows) in zip(values.tolist(), losses, strict=True):
            if value != value or abs(value) == float("inf"):
                raise self._error(f"the loss became {value} at step {step}", rows)
        for value, step in zip(norms.tolist(), steps, strict=True):
            if value != value or abs(value) == float("inf"):
                rows = [row for seen, _, part in losses if seen == step for row in part]
                raise self._error(f"the gradients' norm became {value} at step {step} (the loss was finite)", rows)

    def _error(self, what: str, rows: Sequence[int]) -> TrainingError:
        settings = self._settings
        named = ", ".join(self._origin(int(row)) for row in rows[:ROWS_NAMED])
        more = f" and {len(rows) - ROWS_NAMED} more" if len(rows) > ROWS_NAMED else ""
        advice = ["look at these rows"]
        if settings.learning_rate is None or settings.learning_rate > 1e-6:
            advice.append("a lower training.learning_rate")
        if settings.precision != "float32":
            advice.append("training.precision: float32")
        if settings.warmup_ratio < 0.05:
            advice.append("a longer training.warmup_ratio")
        saved = self._saved()
        kept = f"the last good checkpoint is {saved}" if saved else "no checkpoint was written before it"
        return TrainingError(f"{what}, on {named}{more}. Try: {', '.join(advice)}. Nothing was saved after it; {kept}.")


def memory_error(
    error: BaseException, settings: TrainingConfig, trunk_frozen: bool, saved: Path | None
) -> OutOfMemory | None:
    """What to say when memory did not suffice; ``None`` if ``error`` is about something else."""
    import torch

    if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))
    ):
        return None
    asked = re.search(r"tried to allocate ([\d.]+ ?\w+)", str(error), re.IGNORECASE)
    advice = [
        *suggest_after_oom(settings, adapter=trunk_frozen),
        "training.plan: {memory: ...}, to have settings chosen",
    ]
    kept = f" The last checkpoint, {saved}, is kept." if saved else ""
    wanted = f" ({asked[1]} more were asked for)" if asked else ""
    return OutOfMemory(
        f"training needs more memory than there is{wanted}. Settings that need less: {'; '.join(advice)}.{kept}"
    )

"""A plan: the settings that were chosen, what they will take, and what was rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from deepseek.training.planning.budgets import write_memory, write_time
from deepseek.training.planning.settings import Settings

if TYPE_CHECKING:
    from deepseek.training.recipe import TrainingRecipe


class Parts(BaseModel):
    """Where the peak memory goes, in bytes; on a CPU they add up to it."""

    model_config = ConfigDict(frozen=True)

    weights: int
    gradients: int
    optimizer: int
    activations: int = Field(description="Everything else that is alive at the peak: activations and temporaries.")
    heap: int = Field(description="Free pieces that the allocator cannot give back.")
    process: int = Field(description="Interpreter, libraries and what else the process holds.")


class Candidate(BaseModel):
    """One way to train that was looked at."""

    model_config = ConfigDict(frozen=True)

    settings: Settings
    memory_bytes: int = Field(description="Predicted peak memory.")
    seconds: float | None = Field(None, description="Predicted wall time; null: not timed.")
    parts: Parts
    verdict: str = Field(description="'chosen', or why it was not.")


class Plan(BaseModel):
    """What :func:`deepseek.training.planning.plan` found. Prints as a table; ``model_dump_json`` writes it."""

    model_config = ConfigDict(frozen=True)

    settings: Settings
    layers: int = Field(description="Layers of the model.")
    memory_bytes: int = Field(description="Predicted peak: the process's resident memory, or the GPU's allocations.")
    seconds: float | None = Field(
        description="Predicted wall time from encoded rows to the trained model, without validation and saving."
    )
    seconds_low: float | None = None
    seconds_high: float | None = None
    parts: Parts
    memory_limit: int
    time_limit: float | None
    device: str
    candidates: list[Candidate]

    def apply(self, recipe: TrainingRecipe) -> TrainingRecipe:
        """The recipe with the chosen settings, and without a request to plan again."""
        chosen = self.settings
        training = recipe.training.model_copy(
            update={
                "precision": chosen.precision,
                "gradient_checkpointing": chosen.gradient_checkpointing,
                "batch_size": chosen.batch_size,
                "micro_batch_size": chosen.micro_batch_size if chosen.accumulation > 1 else None,
                "group_by_length": chosen.group_by_length,
                "cache_frozen": chosen.cache_frozen,
                "plan": None,
                **({"trunk_dropout": chosen.trunk_dropout} if chosen.trunk_dropout is not None else {}),
            }
        )
        adapter = recipe.adapter
        if adapter is not None and adapter.layers is None and chosen.adapted_layers is not None:
            upper = list(range(self.layers - chosen.adapted_layers, self.layers))
            adapter = adapter.model_copy(update={"layers": upper})
        return recipe.model_copy(update={"training": training, "adapter": adapter})

    def table(self) -> str:
        """The candidates as lines of text: settings, memory, time, verdict."""
        rows = [("settings", "memory", "time", "")]
        for c in self.candidates:
            time = write_time(c.seconds) if c.seconds is not None else "-"
            rows.append((str(c.settings), write_memory(c.memory_bytes), time, c.verdict))
        widths = [max(len(r[i]) for r in rows) for i in range(3)]
        return "\n".join(
            f"{r[0]:<{widths[0]}}  {r[1]:>{widths[1]}}  {r[2]:>{widths[2]}}  {r[3]}".rstrip() for r in rows
        )

    def __str__(self) -> str:
        p = self.parts
        parts = {
            "weights": p.weights, "gradients": p.gradients, "optimiser": p.optimizer, "activations": p.activations,
            "heap": p.heap, "process": p.process,
        }  # fmt: skip
        shares = ", ".join(f"{name} {write_memory(count)}" for name, count in parts.items())
        lines = [
            f"plan: {self.settings}",
            f"  peak memory {write_memory(self.memory_bytes)} of {write_memory(self.memory_limit)}: {shares}",
        ]
        if self.seconds is not None and self.seconds_low is not None and self.seconds_high is not None:
            limit = f" of {write_time(self.time_limit)}" if self.time_limit is not None else ""
            lines.append(
                f"  time {write_time(self.seconds)}{limit} ({write_time(self.seconds_low)} to "
                f"{write_time(self.seconds_high)}), without validation and saving"
            )
        return "\n".join([*lines, *("  " + line for line in self.table().splitlines())])

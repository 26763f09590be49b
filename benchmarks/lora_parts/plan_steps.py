"""Plans a run and then does it, in one process as ``fit`` with a plan does, but with each part measured apart."""

from __future__ import annotations

from typing import Any

from benchmarks.lora_parts.contestants import rows_of
from benchmarks.lora_parts.watch import Watch
from benchmarks.worker import Clock, serve

_state: dict[str, Any] = {}


def predict(clock: Clock, *, base: str, train: str, recipe: dict[str, Any], memory: str | None) -> dict[str, Any]:
    """Load the base and plan; the prediction in MB and seconds, and the plan in words."""
    from deepseek.models import from_pretrained, tokenizer_for
    from deepseek.training import TrainingRecipe
    from deepseek.training.planning import plan

    given = TrainingRecipe.model_validate(recipe)
    rows = rows_of(train)
    task = given.build_task().fitted(rows)
    tokenizer = tokenizer_for(base)
    model = from_pretrained(base, head=type(task).head, **task.model_options())
    lengths = [task.length(feature) for feature in task.encode(rows, tokenizer)]
    with clock:
        made = plan(model, lengths, given, memory=memory, task=task)
    _state.update(model=model, rows=rows, tokenizer=tokenizer, recipe=made.apply(given))
    return {"memory_mb": made.memory_bytes / 1e6, "seconds": made.seconds, "settings": str(made.settings)}


def train(clock: Clock) -> dict[str, float]:
    """Train as planned; seconds are what a plan foretells, from encoded rows to the trained model."""
    from deepseek.training import fit

    with Watch() as watch, clock:
        watch.model = _state["model"]
        result = fit(_state["model"], _state["rows"], _state["recipe"], tokenizer=_state["tokenizer"])
    return {"seconds": result.speed["run_seconds"], "steps": watch.steps, "device_mb": watch.device_mb}


if __name__ == "__main__":
    serve(predict, train)

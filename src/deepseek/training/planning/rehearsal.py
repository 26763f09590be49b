"""Some real training steps in a fresh process, with random weights: what a step takes on this machine.

A process of its own, because what it allocates would stay in the heap of the process that trains afterwards, and
because its peak memory can be read without what was there before. ``python -m deepseek.training.planning.rehearsal``
reads a :class:`Rehearsal` as JSON from standard input and writes an :class:`Outcome` to standard output.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from deepseek.errors import ConfigError
from deepseek.training.planning.settings import Settings
from deepseek.training.recipe import TrainingRecipe


class Act(BaseModel):
    """One kind of step to rehearse.

    Attributes:
        settings: how it is trained; ``adapted_layers`` and ``cache_frozen`` count within ``layers``.
        layers: layers that the model keeps, from the input; ``None`` keeps all.
        shapes: (rows, tokens) of the steps, in order.
        train: whether to train; otherwise a forward pass without gradients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: Settings
    layers: int | None = None
    shapes: list[tuple[int, int]]
    train: bool = True


class Rehearsal(BaseModel):
    """What to build and to run; see :func:`rehearsal_of`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_class: str
    config_class: str
    config: dict[str, Any]
    fresh_modules: list[str]
    recipe: TrainingRecipe
    task: dict[str, Any]
    batch: dict[str, tuple[list[int], str]] = Field(description="The batch's template: shape and dtype of each tensor.")
    device: str = "cpu"
    threads: int | None = None
    acts: list[Act]
    seconds: float = Field(60.0, description="No further repeat is begun after that.")


class Timing(BaseModel):
    """Seconds of one step: ``compute`` is forward and backward, ``update`` clipping and the optimiser."""

    act: int
    rows: int
    tokens: int
    compute: float
    update: float


class Outcome(BaseModel):
    """What was measured: each step, and the memory of the process (bytes; 0 where the system does not tell)."""

    timings: list[Timing]
    imported_bytes: int
    built_bytes: int
    peak_bytes: int
    device_peak_bytes: int = 0


def rehearsal_of(
    model: Any, recipe: TrainingRecipe, task: Any, batch: Any, device: str, acts: list[Act], *, short: bool = False
) -> Rehearsal:
    """Describe a skeleton so that another process can build it.

    Args:
        short: the acts have fewer layers, so the adapter is in all of them, whatever the recipe's ``layers``.

    Raises:
        ConfigError: the model's class cannot be built from a transformers config alone.
    """
    import torch

    # the class without adapter methods, which another process cannot import
    kind = next((c for c in type(model).__mro__ if not c.__module__.startswith("deepseek.models.adapters.")
                 and hasattr(c, "config_class") and _importable(c)), None)  # fmt: skip
    if kind is None or not hasattr(model, "config"):
        raise ConfigError(
            f"{type(model).__name__} cannot be built from a config in another process; plan with calibrate=False"
        )
    plain = TrainingRecipe(**{name: getattr(recipe, name) for name in TrainingRecipe.model_fields})
    if short and plain.adapter is not None:
        plain = plain.model_copy(update={"adapter": plain.adapter.model_copy(update={"layers": None})})
    return Rehearsal(
        model_class=f"{kind.__module__}:{kind.__qualname__}",
        config_class=f"{type(model.config).__module__}:{type(model.config).__qualname__}",
        config=model.config.to_dict(),
        fresh_modules=list(getattr(model, "fresh_modules", ())),
        recipe=plain,
        task=task.model_dump(mode="json"),
        batch={name: (list(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in batch.items()},
        device=device,
        threads=torch.get_num_threads(),
        acts=acts,
    )


def rehearse(rehearsal: Rehearsal, *, timeout: float = 1800.0) -> Outcome:
    """Run a rehearsal in a fresh process and wait for it.

    Raises:
        ConfigError: the process failed; its last lines are in the message.
    """
    source = str(Path(__file__).parents[3])  # the folder that has the package, installed or not
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", "deepseek.training.planning.rehearsal"],
        input=rehearsal.model_dump_json(), capture_output=True, text=True, timeout=timeout, env=environment,
    )  # fmt: skip
    if done.returncode:
        last = " | ".join(done.stderr.strip().splitlines()[-3:])
        raise ConfigError(f"the rehearsal of the plan failed (exit {done.returncode}): {last}")
    return Outcome.model_validate_json(done.stdout.splitlines()[-1])


def _importable(kind: type[Any]) -> bool:
    return "." not in kind.__qualname__ and getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def perform(rehearsal: Rehearsal) -> Outcome:
    """Run the acts in this process."""
    import torch
    import transformers  # noqa: F401 - what a training process has loaded counts as its memory
    from transformers import Trainer  # noqa: F401

    from deepseek.models.adapters.mixin import make_adaptable
    from deepseek.models.kernel_caches import bound_kernel_caches
    from deepseek.models.layers import transformer_layers
    from deepseek.resources import peak_memory, reset_peak_memory
    from deepseek.training.planning.skeleton import adapted, finished
    from deepseek.training.planning.steps import autocast_forward, optimizer_for, step, stretched

    bound_kernel_caches()
    if rehearsal.threads:
        torch.set_num_threads(rehearsal.threads)
    if rehearsal.recipe.adapter is not None:
        import peft  # noqa: F401
    reset_peak_memory()
    imported = peak_memory()
    task = rehearsal.recipe.model_copy(
        update={"task": {**rehearsal.task, "name": rehearsal.recipe.task["name"]}}
    ).build_task()
    template = {n: torch.zeros(s, dtype=getattr(torch, d)) for n, (s, d) in rehearsal.batch.items()}
    config = _load(rehearsal.config_class).from_dict(rehearsal.config)
    started = time.monotonic()
    timings: list[Timing] = []
    built = peak = 0
    for number, act in enumerate(rehearsal.acts):
        torch.manual_seed(0)
        model = make_adaptable(_load(rehearsal.model_class)(config).to(rehearsal.device))
        model.fresh_modules = tuple(rehearsal.fresh_modules)
        if act.layers is not None:
            layers = transformer_layers(model)[1]
            del layers[act.layers :]
        model = finished(adapted(model, rehearsal.recipe, act.settings), act.settings)
        autocast_forward(model, act.settings, rehearsal.device)
        optimizer = optimizer_for(model, rehearsal.recipe.training.optimizer, 0.01)
        built = max(built, peak_memory())
        marks: dict[str, float] = {}

        def mark(phase: str) -> None:
            if rehearsal.device == "cuda":
                torch.cuda.synchronize()
            marks.setdefault(phase, time.perf_counter())  # noqa: B023

        for index, (rows, tokens) in enumerate(act.shapes):
            if index > 2 and time.monotonic() - started > rehearsal.seconds:
                break
            batch = {k: v.to(rehearsal.device) for k, v in stretched(template, rows, tokens).items()}
            marks.clear()
            if act.train:
                step(model, optimizer, [batch] * act.settings.accumulation, task, 1.0, mark)
            else:
                model.eval()
                mark("forward")
                with torch.no_grad():
                    task.loss(model, batch)
                mark("optimizer")
                mark("end")
            compute, update = marks["optimizer"] - marks["forward"], marks["end"] - marks["optimizer"]
            timings.append(Timing(act=number, rows=rows, tokens=tokens, compute=compute, update=update))
        peak = max(peak, peak_memory())
        del model, optimizer
    device_peak = torch.cuda.max_memory_allocated() if rehearsal.device == "cuda" else 0
    return Outcome(
        timings=timings, imported_bytes=imported, built_bytes=built, peak_bytes=peak, device_peak_bytes=device_peak
    )


def main() -> None:
    """Read a rehearsal from standard input, perform it, write the outcome to standard output."""
    print(perform(Rehearsal.model_validate_json(sys.stdin.read())).model_dump_json())


if __name__ == "__main__":
    main()

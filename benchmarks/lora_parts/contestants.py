"""The contestants: full fine-tuning and LoRA with plain transformers and PEFT as their documentation shows, and ours.

The peers need no environment of their own: ours is built on the same transformers, PEFT and PyTorch, so the comparison
is of what is done with them. Each contestant is a function that trains and leaves what it trained in ``watch.model``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.lora_parts.watch import Watch

Row = dict[str, Any]
TARGETS = {"bert": ["query", "value"], "llama": ["q_proj", "v_proj"]}
"""PEFT's own choice for these architectures."""
OUR_RECIPE: dict[str, Any] = {
    "task": {"name": "text-classification"},
    "adapter": {
        "r": 16,
        "alpha": 32,
        "dropout": 0.0,
        "target_modules": ["query", "value"],
        "layers": [6, 7, 8, 9, 10, 11],
    },
    "training": {"epochs": 3, "precision": "auto", "trunk_dropout": 0.0, "cache_frozen": True},
}
"""Ours at BERT-base size: adapters in the upper half of the layers, the lower half computed once."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all contestants are given alike.

    Attributes:
        base: a model folder or a catalogue name.
        train, test: JSONL files with ``text`` and ``label``; ``test`` is for the accuracy afterwards.
        max_length: tokens beyond are cut.
        batch_size: rows of an optimiser step.
        epochs: passes; ours takes its recipe's instead when ``own_epochs`` is set.
        max_steps: stop after so many steps.
        recipe: the recipe that ours follows, as JSON.
    """

    base: str
    train: str
    test: str | None = None
    max_length: int
    batch_size: int
    epochs: float = 3.0
    own_epochs: bool = False
    max_steps: int | None = None
    seed: int = 0
    recipe: dict[str, Any] = field(default_factory=dict)

    def as_arguments(self) -> dict[str, Any]:
        """The job as a worker's arguments."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one contestant's run took.

    Attributes:
        trainable, parameters: numbers of weights, of the base without what was added: 1 - trainable / parameters is
            the share that is not trained.
        seconds: the whole run, from rows to trained weights; models are loaded before.
        before_s: of these, before the first step: encoding, planning, what is computed once and cached.
        step_s, mean_step_s: median and mean seconds of a step.
        peak_mb: highest resident memory of the process.
        device_mb: most memory of tensors on a GPU at once, its caching allocator's count; 0 on a CPU.
        tensor_mb: highest memory in tensors alone, from a run of its own; 0 where it was not asked for.
        points: (seconds so far, held-out accuracy).
        settings: what was set, in words.
    """

    contestant: str
    trainable: int
    parameters: int
    steps: int
    seconds: float
    before_s: float
    step_s: float
    mean_step_s: float
    peak_mb: float = 0.0
    device_mb: float = 0.0
    tensor_mb: float = 0.0
    points: tuple[tuple[float, float], ...] = ()
    settings: str = ""

    @classmethod
    def of(cls, reply: dict[str, Any]) -> Run:
        """From a worker's reply."""
        value = reply["value"]
        points = tuple((float(s), float(a)) for s, a in value["points"])
        return replace(cls(**{**value, "points": points}), peak_mb=reply["peak_mb"])

    def train_s(self, steps: float, rows_ratio: float) -> float:
        """Seconds of a longer run: what came first grows with the rows, the rest with the steps."""
        return self.before_s * rows_ratio + self.mean_step_s * steps


def rows_of(path: str) -> list[Row]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def task_of(job: Job) -> Any:
    """The classification task, with the labels of the training rows."""
    from deepseek.tasks import TASKS

    return TASKS.get("text-classification").model_validate({"max_length": job.max_length}).fitted(rows_of(job.train))


def full(job: Job, model: Any, tokenizer: Any, watch: Watch, *, bf16: bool = False) -> str:
    """All weights with transformers' Trainer, float32 or ``bf16=True``: 5e-5, the checkpoint's dropout."""
    watch.model = model
    _trainer(job, model, tokenizer, 5e-5, bf16=bf16).train()
    return (
        f"Trainer, {'bf16=True' if bf16 else 'float32'}, 5e-5, checkpoint's dropout, padded to the longest of a batch"
    )


def plain_peft(job: Job, model: Any, tokenizer: Any, watch: Watch, *, bf16: bool = False) -> str:
    """PEFT's sequence classification example on the Trainer: r 16, alpha 32, dropout 0.1, query and value, 1e-3."""
    from peft import LoraConfig, TaskType, get_peft_model

    modules = TARGETS[model.config.model_type]
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=16, lora_alpha=32, lora_dropout=0.1, target_modules=modules)
    watch.model = get_peft_model(model, config)
    _trainer(job, watch.model, tokenizer, 1e-3, bf16=bf16).train()
    return (
        f"PEFT r 16, alpha 32, dropout 0.1, {' and '.join(modules)}, Trainer 1e-3, {'bf16=True' if bf16 else 'float32'}"
    )


def ours(job: Job, model: Any, tokenizer: Any, watch: Watch) -> str:
    """``deepseek.training.fit`` with the job's recipe: the planner's or the recipe's own settings."""
    from deepseek.training import TrainingRecipe, fit

    recipe = TrainingRecipe.model_validate(job.recipe)
    changes: dict[str, Any] = {"batch_size": job.batch_size}
    if not job.own_epochs:
        changes["epochs"] = job.epochs
    if job.max_steps is not None:
        changes["max_steps"] = job.max_steps
    training = recipe.training.model_copy(update=changes)
    task = {**recipe.task, "max_length": job.max_length}
    recipe = recipe.model_copy(update={"training": training, "task": task, "seed": job.seed})
    watch.model = model
    result = fit(model, rows_of(job.train), recipe, tokenizer=tokenizer)
    adapter = recipe.adapter
    layers = "all layers" if adapter is None or adapter.layers is None else f"layers {adapter.layers}"
    cached = ", lower layers cached" if recipe.training.cache_frozen else ""
    planned = ", planned" if recipe.training.plan is not None else ""
    return f"fit, {result.precision}, adapter on {layers}{cached}{planned}"


def _trainer(job: Job, model: Any, tokenizer: Any, learning_rate: float, *, bf16: bool) -> Any:
    import torch
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

    task = task_of(job)
    ids = {label: i for i, label in enumerate(task.labels)}

    rows = rows_of(job.train)
    texts = tokenizer([row["text"] for row in rows], truncation=True, max_length=job.max_length)
    data = [{**{name: texts[name][i] for name in texts}, "labels": ids[row["label"]]} for i, row in enumerate(rows)]
    arguments = TrainingArguments(
        output_dir="unused",
        num_train_epochs=job.epochs,
        max_steps=job.max_steps or -1,
        per_device_train_batch_size=job.batch_size,
        learning_rate=learning_rate,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=job.seed,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=data, data_collator=DataCollatorWithPadding(tokenizer))
    trainer.remove_callback(PrinterCallback)
    return trainer


def scored(task: Any, model: Any, tokenizer: Any, rows: Sequence[Row]) -> float:
    """Held-out accuracy of the model as it stands."""
    from deepseek.inference.torch_runtime import TorchModel

    model.eval()
    return float(task.score(TorchModel(model), rows, tokenizer, batch_size=64)["accuracy"])


__all__ = ["Job", "Run", "full", "ours", "plain_peft", "rows_of", "scored", "task_of"]

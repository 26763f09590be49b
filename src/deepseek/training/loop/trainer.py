"""transformers' ``Trainer`` with a task's loss and collation, and adapters that sit inside the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepseek import progress
from deepseek.tasks.base import LABELS
from deepseek.training.distributed.global_steps import with_global_steps

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from deepseek.tasks.base import Task


class FeatureRows:
    """A map-style data set (``torch.utils.data.Dataset`` by duck typing) of training features."""

    def __init__(self, features: Sequence[dict[str, Any]]) -> None:
        self._items = features

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._items[index]


def trainer_class() -> type[Any]:
    """The Trainer subclass; a function, because importing transformers' takes seconds."""
    from transformers import Trainer

    class TaskTrainer(Trainer):  # type: ignore[misc]
        """Loss by the task; adapters resumed in place (transformers' resumes them only when PEFT wraps the model)."""

        task: Task
        class_weights: Any = None
        label_smoothing: float = 0.0

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            loss, outputs = self.task.loss(
                model, inputs, class_weights=self.class_weights, label_smoothing=self.label_smoothing
            )
            return (loss, outputs) if return_outputs else loss

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            target = model if model is not None else self.model
            names: list[str] = getattr(target, "adapter_names", list)()
            if names:
                target.restore_adapter(resume_from_checkpoint, target.active_adapters()[0])
            else:
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    return with_global_steps(TaskTrainer)


def watcher(bar: progress.Bar, curve: list[tuple[int, float]]) -> TrainerCallback:
    """A callback that moves the bar and records the loss curve."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            bar.set(state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" in (logs or {}):
                curve.append((state.global_step, float(logs["loss"])))
                bar.set(state.global_step, note=f"loss {curve[-1][1]:.3f}")

    return Watcher()


def scorer(task: Task, rows: Any, tokenizer: Any, scores: list[Any], on_score: Any) -> TrainerCallback:
    """A callback that scores rows after each epoch."""
    import torch
    from transformers import TrainerCallback

    class Scorer(TrainerCallback):  # type: ignore[misc]
        def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            class Forward:
                def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
                    with torch.no_grad():
                        outputs = model(**{k: v.to(model.device) for k, v in batch.items()})
                    return {k: v.float().cpu() for k, v in outputs.items() if hasattr(v, "float")}

            model.eval()
            metrics = task.score(Forward(), rows, tokenizer)  # type: ignore[arg-type]
            model.train()
            scores.append((state.global_step, metrics))
            if on_score is not None:
                on_score(state.global_step, metrics)

    return Scorer()


def collator(task: Task, tokenizer: Any) -> Callable[[list[Mapping[str, Any]]], dict[str, Any]]:
    """The task's training collation as the Trainer takes it."""
    return lambda items: task.collate_training(items, tokenizer)


__all__ = ["LABELS", "FeatureRows", "collator", "trainer_class", "watcher"]

"""transformers' ``Trainer`` with a task's loss, scoring and data order, whose checkpoints continue to the bit.

What differs from the base class, and why:

* the loss of a step does not depend on micro-batches or workers (``with_global_steps``), and losses are checked;
* scoring is the task's, on rows, and leaves training's random states alone;
* a checkpoint holds the weights that train (adapters inside the model too, which transformers resumes only when PEFT
  wraps it), appears under its name when complete, and has the running sums of the log, so that the loss curve and the
  mean loss of a resumed run are those of an uninterrupted one;
* the best weights are kept beside the checkpoints, so that scoring and saving need no common rhythm.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import TrainingError
from deepseek.training.distributed.ranks import agreed, wait_for_all
from deepseek.training.loop.checkpoints import (
    STATE,
    Progress,
    best_folder,
    checkpoint_folder,
    finish_part,
    prune,
    prune_best,
    start_part,
)
from deepseek.training.loop.collation import ROW
from deepseek.training.loop.flow import SCORE, Flow, scorings
from deepseek.training.loop.processes import on_main
from deepseek.training.loop.scoring import compared_metric
from deepseek.training.loop.weights import load_weights, save_weights

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from deepseek.tasks.base import Task
    from deepseek.training.loop.failures import FiniteCheck


def trainer_class() -> type[Any]:
    """The Trainer subclass; a function, because importing transformers' takes seconds."""
    from transformers import Trainer

    from deepseek.training.distributed.global_steps import with_global_steps

    class TaskTrainer(Trainer):  # type: ignore[misc]
        """Set the attributes below before ``train()``."""

        task: Task
        control: Any
        home: Path
        """Where checkpoints go."""
        flow: Flow
        finite: FiniteCheck
        scorer: Callable[[], dict[str, float]]
        metric: str
        lower_is_better: bool = False
        on_score: Any = None
        """``on_score(step, metrics)`` after each scoring, in the main process; what it raises ends the training."""
        keep_best: bool = True
        keep_checkpoints: int = 1
        class_weights: Any = None
        label_smoothing: float = 0.0
        frozen: Any = None
        """States of frozen lower layers, by row: ``feed(inputs)`` puts them in place."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if self.frozen is not None:
                inputs = self.frozen.feed(inputs)
            batch = {k: v for k, v in inputs.items() if k != ROW}
            loss, outputs = self.task.loss(
                model, batch, class_weights=self.class_weights, label_smoothing=self.label_smoothing
            )
            return (loss, outputs) if return_outputs else loss

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            rows = inputs[ROW]
            loss = super().training_step(model, inputs, num_items_in_batch)
            self.finite.saw_loss(self.state.global_step, loss, rows)
            return loss

        def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
            norm = super()._get_grad_norm(model, grad_norm)
            self.finite.saw_norm(self.state.global_step, norm)
            if self.args.device.type == "cpu":
                self.finite.look()
            return norm

        def _maybe_log_save_evaluate(self, *arguments: Any, **options: Any) -> None:
            control = self.control
            if control.should_log or control.should_evaluate or control.should_save:
                self.finite.look()
            super()._maybe_log_save_evaluate(*arguments, **options)

        def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
            scores = self._scores()
            logs = {f"{SCORE}{name}": value for name, value in scores.items()}
            self.log(logs)
            watch, step = self.on_score, self.state.global_step
            if watch is not None:
                on_main(lambda: watch(step, scores))
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, logs)
            return logs

        def _scores(self) -> dict[str, float]:
            """The main process's scores, or its error, in all; with sharded weights all have to compute them."""
            found: dict[str, float] | BaseException = {}
            if self.is_world_process_zero() or self._sharded:
                try:
                    found = self.scorer()
                except Exception as error:  # noqa: BLE001 - raised again below, in every process
                    found = error
            found = agreed(found)
            if isinstance(found, BaseException):
                raise found
            return found

        def _determine_best_metric(self, metrics: Any, trial: Any = None) -> bool:
            state = self.state
            found = {k.removeprefix(SCORE): v for k, v in metrics.items() if k.startswith(SCORE)}
            value = compared_metric(found, self.metric)
            better = value == value and (
                state.best_metric is None
                or (value < state.best_metric if self.lower_is_better else value > state.best_metric)
            )
            if better:
                state.best_metric, state.best_global_step = value, state.global_step
                if self.keep_best:
                    self._save_best()
            since = sum(step > (state.best_global_step or 0) for step, _ in scorings(state.log_history))
            if self.flow.patience is not None and since >= self.flow.patience:
                self.control.should_training_stop = True
                self.control.should_save = self.flow.save is not None
            return better

        def _save_best(self) -> None:
            final = best_folder(self.home, self.state.global_step)
            self._write(final, self._write_best)
            if self.is_world_process_zero() and self.flow.save is None:
                prune_best(self.home, self.state.global_step)  # else when a checkpoint knows the new best

        def load_best(self) -> int | None:
            """Put the best scored weights into the model; returns their step, or ``None`` if none are kept."""
            step = self.state.best_global_step
            if step is None or not self.keep_best:
                return None
            wait_for_all()
            folder = best_folder(self.home, step)
            if not folder.is_dir():
                raise TrainingError(f"the best weights, of step {step}, are missing: expected them in {folder}")
            if self._sharded:
                self.state.best_model_checkpoint = str(folder)
                self._load_best_model()
            else:
                load_weights(self.model, folder)
            return int(step)

        def _write_best(self, folder: Path) -> None:
            if self.is_fsdp_enabled:
                from transformers.trainer import get_fsdp_ckpt_kwargs, save_fsdp_model

                plugin = self.accelerator.state.fsdp_plugin
                save_fsdp_model(plugin, self.accelerator, self.model, str(folder), **get_fsdp_ckpt_kwargs())
            elif self.is_deepspeed_enabled:
                self.model_wrapped.save_checkpoint(str(folder))
            else:
                self._write_weights(folder)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            self.store_flos()
            self._write(checkpoint_folder(self.home, self.state.global_step), self._write_checkpoint)
            if self.is_world_process_zero():
                prune(self.home, self.keep_checkpoints, self.state.best_global_step if self.keep_best else None)
            wait_for_all()

        def _write_checkpoint(self, part: Path) -> None:
            self._write_weights(part)
            self._save_optimizer_and_scheduler(str(part))
            self._save_scaler(str(part))
            self._save_rng_state(str(part))
            Progress(
                pending=self._tr_loss.item(),
                total=self._total_loss_scalar,
                logged=self._globalstep_last_logged,
                finished=self.control.should_training_stop,
            ).write(part, self.args.process_index)
            if self.is_world_process_zero():
                self.state.save_to_json(str(part / STATE))

        def _write(self, final: Path, write: Callable[[Path], None]) -> None:
            part = final.with_name(final.name + ".part")
            if self.is_world_process_zero():
                part = start_part(final)
            wait_for_all()
            write(part)
            wait_for_all()
            if self.is_world_process_zero():
                finish_part(part)
            wait_for_all()

        def _write_weights(self, folder: Path) -> None:
            if self._sharded:
                self.save_model(str(folder), _internal_call=True)
            elif self.is_world_process_zero():
                save_weights(self.model, folder)

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            if self._sharded:
                super()._load_from_checkpoint(resume_from_checkpoint, model)
            else:
                load_weights(self.model, Path(resume_from_checkpoint))

        @property
        def _sharded(self) -> bool:
            return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    return with_global_steps(TaskTrainer)


def continuing(trainer: Any, checkpoint: Path) -> TrainerCallback:
    """A callback that puts back the sums that transformers begins anew when it resumes."""
    import torch
    from transformers import TrainerCallback

    class Continuing(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            done = Progress.read(checkpoint, args.process_index)
            trainer._tr_loss = torch.tensor(done.pending, device=args.device)
            trainer._total_loss_scalar = done.total
            trainer._globalstep_last_logged = done.logged
            trainer._initial_global_step = 0

    return Continuing()

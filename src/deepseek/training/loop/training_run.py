"""One run of the Trainer: set up, start or continue, end with the best weights, and leave the model as it was found."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek import progress
from deepseek.errors import TrainingError
from deepseek.models.loading import quiet_transformers
from deepseek.training.distributed.ranks import rank, world_size
from deepseek.training.distributed.step_batches import StepBatches
from deepseek.training.encoding.encoded_rows import EncodedRows
from deepseek.training.loop.arguments import micro_batch, total_steps, training_arguments
from deepseek.training.loop.checkpoints import STATE, Progress, best_folder, checkpoints
from deepseek.training.loop.collation import ROW, collator
from deepseek.training.loop.failures import FiniteCheck, memory_error
from deepseek.training.loop.flow import Flow, flow_callback, losses, scorings
from deepseek.training.loop.trainer import continuing, trainer_class
from deepseek.training.loop.watching import Seen, watcher
from deepseek.training.loop.weights import load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback

    from deepseek.tasks.base import Task
    from deepseek.training.config import TrainingConfig


_FORWARD = ("forward", "_original_forward")


@dataclass
class TrainingRun:
    """What a run needs besides the model.

    Attributes:
        home: folder for checkpoints and best weights.
        scorer: validation metrics of the model as it is now, or ``None``.
        metric, lower_is_better: what 'best' means.
        saves: whether checkpoints are written.
        frozen: states of frozen lower layers (``feed(inputs)``), or ``None``.
        extra: ``TrainingArguments`` of a strategy for several processes.
        on_point: called with the Trainer's log after each scoring.
    """

    task: Task
    tokenizer: Any
    rows: EncodedRows
    settings: TrainingConfig
    seed: int
    home: Path
    bfloat16: bool
    trunk_frozen: bool
    metric: str
    lower_is_better: bool
    saves: bool
    class_weights: Any = None
    scorer: Callable[[], dict[str, float]] | None = None
    frozen: Any = None
    extra: dict[str, Any] = field(default_factory=dict)
    callbacks: list[TrainerCallback] = field(default_factory=list)
    on_point: Callable[[list[dict[str, Any]]], None] | None = None
    on_score: Callable[[int, dict[str, float]], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run went: the Trainer's log, and what its state says."""

    model: PreTrainedModel
    steps: int
    loss: float
    history: list[dict[str, Any]]
    best_step: int | None
    seconds: float
    rows_per_second: float
    tokens_per_second: float

    @property
    def curve(self) -> tuple[tuple[int, float], ...]:
        return tuple(losses(self.history))

    @property
    def scores(self) -> tuple[tuple[int, dict[str, float]], ...]:
        return tuple(scorings(self.history))


def steps_of(settings: TrainingConfig, rows: EncodedRows, seed: int) -> StepBatches:
    """The batches of this process, step by step."""
    return StepBatches(
        len(rows),
        settings.batch_size,
        micro_batch_size=micro_batch(settings),
        workers=world_size(),
        rank=rank(),
        seed=seed,
        lengths=rows.lengths if settings.group_by_length else None,  # type: ignore[arg-type]
    )


def train(model: PreTrainedModel, run: TrainingRun, *, resume_from: Path | None = None) -> Outcome:
    """Train ``model`` in place, from the beginning or from a checkpoint.

    Raises:
        TrainingError: a loss or gradient was no number, or memory did not suffice.
    """
    from transformers import DefaultFlowCallback, PrinterCallback

    settings = run.settings
    batches = steps_of(settings, run.rows, run.seed)
    steps = total_steps(settings, batches.steps)
    flow = Flow.of(settings, batches.steps, validates=run.scorer is not None, saves=run.saves)
    if resume_from is not None and Progress.read(resume_from, rank()).finished:
        return _finished(model, run, resume_from)
    arguments = training_arguments(
        settings, run.home, steps=steps, accumulation=batches.accumulation, trunk_frozen=run.trunk_frozen,
        bfloat16=run.bfloat16, seed=run.seed, extra=run.extra,
    )  # fmt: skip
    seen = Seen()

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = to_batch(items)
        seen.rows += len(items)
        seen.tokens += int(run.rows.lengths[batch[ROW].numpy()].sum())
        return batch

    to_batch = collator(run.task, run.tokenizer, seed=run.seed, epoch=lambda: int(trainer.state.epoch or 0))

    def saved() -> Path | None:
        return next(reversed(checkpoints(run.home)), None)

    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_transformers())
        stack.enter_context(_as_found(model, settings.gradient_checkpointing))
        bar = stack.enter_context(progress.bar("train", steps, "steps") if rank() == 0 else _no_bar(steps))
        trainer = trainer_class()(model=model, args=arguments, train_dataset=run.rows, data_collator=collate)
        trainer.step_batches = batches
        trainer.task, trainer.frozen, trainer.home, trainer.flow = run.task, run.frozen, run.home, flow
        trainer.class_weights = None if run.class_weights is None else run.class_weights.to(arguments.device)
        trainer.label_smoothing = settings.label_smoothing
        trainer.finite = FiniteCheck(settings, run.rows.origin, saved)
        trainer.on_score = run.on_score
        trainer.scorer, trainer.metric, trainer.lower_is_better = run.scorer, run.metric, run.lower_is_better
        trainer.keep_best, trainer.keep_checkpoints = settings.keep_best, settings.keep_checkpoints
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(DefaultFlowCallback)
        trainer.add_callback(flow_callback(flow))
        trainer.add_callback(watcher(bar, seen, world_size(), run.on_point))
        for callback in run.callbacks:
            trainer.add_callback(callback)
        if resume_from is not None:
            trainer.add_callback(continuing(trainer, resume_from))
        began = time.monotonic()
        try:
            result = trainer.train(resume_from_checkpoint=str(resume_from) if resume_from is not None else None)
        except TrainingError:
            raise
        except (RuntimeError, MemoryError) as error:
            explained = memory_error(error, settings, run.trunk_frozen, saved())
            if explained is None:
                raise
            raise explained from error
        seconds = time.monotonic() - began
        state = trainer.state
        best = trainer.load_best()
        model = trainer.plain_model()
        model.eval()
    rows, tokens = seen.speed(world_size())
    return Outcome(
        model=model,
        steps=result.global_step,
        loss=float(result.training_loss),
        history=state.log_history,
        best_step=best if best is not None else (result.global_step if flow.evaluate else None),
        seconds=seconds,
        rows_per_second=rows,
        tokens_per_second=tokens,
    )


def _finished(model: PreTrainedModel, run: TrainingRun, checkpoint: Path) -> Outcome:
    """The outcome of a run that had ended when it was resumed."""
    from transformers import TrainerState

    state = TrainerState.load_from_json(str(checkpoint / STATE))
    done = Progress.read(checkpoint, rank())
    load_weights(model, checkpoint)
    best = state.best_global_step if run.settings.keep_best else None
    if best is not None:
        load_weights(model, best_folder(run.home, best))
    model.eval()
    return Outcome(
        model=model,
        steps=state.global_step,
        loss=(done.total + done.pending) / max(1, state.global_step),
        history=state.log_history,
        best_step=best if best is not None else (state.global_step if scorings(state.log_history) else None),
        seconds=0.0,
        rows_per_second=0.0,
        tokens_per_second=0.0,
    )


@contextlib.contextmanager
def _as_found(model: PreTrainedModel, checkpointing: bool) -> Iterator[None]:
    """What training switches on the model goes back afterwards: the key-value cache, recomputed activations, and
    ``forward``, which accelerate replaces on the object to run it in autocast."""
    own = {name: vars(model)[name] for name in _FORWARD if name in vars(model)}
    cache = getattr(model.config, "use_cache", None)
    if checkpointing:
        # not reentrant: gradients reach an adapter above a frozen embedding without hooks on its output
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        # transformers lets the embeddings' output ask for a gradient when there is an adapter; only re-entrant
        # checkpointing needs that, and it draws the graph through all frozen lower layers: half more time
        model.disable_input_require_grads()
    try:
        yield
    finally:
        if checkpointing:
            model.activation_checkpointing_disable()
        if cache is None:
            model.config.__dict__.pop("use_cache", None)
        else:
            model.config.use_cache = cache
        for name in _FORWARD:
            vars(model).pop(name, None)
        vars(model).update(own)
        model.eval()


@contextlib.contextmanager
def _no_bar(steps: int) -> Iterator[progress.Bar]:
    yield progress.Bar("train", steps, "steps")

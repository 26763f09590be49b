"""A Trainer whose steps do not depend on how many workers or micro-batches share them.

The loss of a step is the mean over all that the loss counts in the step (rows, tokens with a label, class weights),
not the mean of the micro-batches' means: each micro-batch's mean loss is weighted with what it counts over what the
whole step counts, in all workers. Losses that look across a batch (in-batch negatives) see a worker's micro-batch only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deepseek.training.distributed.model_files import build, describe
from deepseek.training.distributed.step_batches import StepBatches

PROGRESS = "DEEPSEEK_PROGRESS_FILE"
"""Environment variable with the file in which the main worker tells the driver where it is."""

IGNORED = -100


def loss_items(task: Any, batch: Mapping[str, Any], class_weights: Any = None) -> Any:
    """What the mean loss of a batch divides by, as a scalar tensor: rows, labelled tokens, or their class weights.

    A task whose loss counts something else brings a method ``loss_items(batch)``.
    """
    import torch

    own = getattr(task, "loss_items", None)
    if own is not None:
        return torch.as_tensor(own(batch), dtype=torch.float32)
    labels = batch.get("labels")
    if labels is None:
        first = next(v for v in batch.values() if hasattr(v, "shape"))
        return torch.tensor(float(len(first)), dtype=torch.float32)
    if labels.is_floating_point():
        return torch.tensor(float(len(labels)), dtype=torch.float32)
    if labels.ndim > 1 and task.head == "causal-lm":
        labels = labels[..., 1:]
    counted = labels[labels != IGNORED]
    if class_weights is not None:
        return class_weights.to(counted.device)[counted].sum().float()
    return torch.tensor(float(counted.numel()), dtype=torch.float32)


def with_global_steps(trainer: type[Any]) -> type[Any]:
    """A subclass of a Trainer class (with a ``task``) that trains in the steps of :class:`StepBatches`.

    Set ``trainer.step_batches`` before ``train()``, and ``gradient_accumulation_steps`` to its ``accumulation``.
    """
    from transformers.trainer_pt_utils import BatchRebalanceSampler

    class RankedBatches(StepBatches, BatchRebalanceSampler):  # type: ignore[misc]
        """The type tells transformers that the batches are this worker's already."""

    class GlobalSteps(trainer):  # type: ignore[misc]
        step_batches: StepBatches | None = None
        loss_is_scaled_for_ga = True
        _shares: Iterator[Any] | None = None

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.loss_is_scaled_for_ga = True
            if (path := os.environ.get(PROGRESS)) and self.is_world_process_zero():
                self.add_callback(progress_file(Path(path)))

        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            self._about = describe(self.model) if self.args.fsdp or self.args.deepspeed else None
            if self.args.fsdp_plugin_args is not None:
                if not self.is_fsdp_enabled:
                    share_out_on_cpu(self)
                choose_fsdp_layers(self)

        def plain_model(self) -> Any:
            """The trained model, outside of what wraps it or shares out its weights.

            With FSDP and ZeRO every process has to call it; only the main one gets a whole model.
            """
            if self._about is None:
                return self.accelerator.unwrap_model(self.model)
            state = self.accelerator.get_state_dict(self.model_wrapped)
            return build(self._about, state) if self.is_world_process_zero() else self.model

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if self.step_batches is None:
                raise RuntimeError("step_batches has to be set before training")
            batches = RankedBatches.__new__(RankedBatches)
            batches.__dict__.update(self.step_batches.__dict__)
            return batches

        def _clip_grad_norm(self, model: Any) -> Any:
            norm = super()._clip_grad_norm(model)
            return norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # FSDP2's is a piece of it

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
            import torch

            assert self.step_batches is not None
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
            real = self.step_batches.real(self.state.global_step % self.step_batches.steps)
            items = [loss_items(self.task, batch, getattr(self, "class_weights", None)) for batch in batches]
            counts = torch.stack([c if i < real else torch.zeros_like(c) for i, c in enumerate(items)]).to(device)
            total = counts.sum()
            if self.args.world_size > 1:
                torch.distributed.all_reduce(total)
            # data-parallel wrappers average the workers' gradients, so each worker's share is scaled up to a sum
            self._shares = iter(counts * (self.args.world_size / total.clamp(min=1e-12)))
            return batches, None

        def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
            found = super().compute_loss(model, inputs, *arguments, **options)
            if not model.training or self._shares is None:
                return found
            share = next(self._shares)
            return (found[0] * share, *found[1:]) if isinstance(found, tuple) else found * share

    GlobalSteps.__name__ = trainer.__name__
    return GlobalSteps


def share_out_on_cpu(trainer: Any) -> None:
    """Turn FSDP on where there is no accelerator: accelerate leaves it off there, though torch's FSDP2 runs on gloo."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    state = trainer.accelerator.state
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
        # every new view of the state is filled from PartialState's
        state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        trainer.is_fsdp_enabled = True


def choose_fsdp_layers(trainer: Any) -> None:
    """Shard the model's layers, unless the options say what to shard.

    By default accelerate shards all of ``_no_split_modules`` and then the input embeddings, which fails where one of
    those modules (``BertEmbeddings``) has the embeddings inside.
    """
    plugin, model = getattr(trainer.accelerator.state, "fsdp_plugin", None), trainer.model
    if plugin is None or plugin.transformer_cls_names_to_wrap is not None:
        return
    embeddings = model.get_input_embeddings()
    around = {type(m).__name__ for m in model.modules() if m is not embeddings and embeddings in set(m.modules())}
    plugin.transformer_cls_names_to_wrap = [n for n in model._no_split_modules or () if n not in around]


def progress_file(path: Path) -> Any:
    """A callback that writes step, steps and loss to a small file, at most twice a second, for the driver's bar."""
    from transformers import TrainerCallback

    class ProgressFile(TrainerCallback):  # type: ignore[misc]
        last, note = 0.0, ""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **options: Any) -> None:
            if "loss" in (logs or {}):
                self.note = f"loss {float(logs['loss']):.3f}"

        def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
            if time.monotonic() - self.last < 0.5 and state.global_step < state.max_steps:
                return
            self.last = time.monotonic()
            part = path.with_suffix(".part")
            part.write_text(json.dumps({"done": state.global_step, "total": state.max_steps, "note": self.note}))
            part.replace(path)

    return ProgressFile()

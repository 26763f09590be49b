"""A checkpoint as a plain module that converters can trace: tensors in, named tensors out.

Outputs of layers that the checkpoint did not bring are left out: they are drawn anew with each load, so no copy of them
means anything.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from deepseek.models.checkpoint import Checkpoint

ROWS, TOKENS = 2, 6
"""Shape of the batch that a model is traced with; it leaves no mark."""
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
POOLER, POOLED = "pooler", "pooler_output"
"""The layer of a model without a head that many checkpoints lack, and its output."""


@dataclass(frozen=True)
class Traced:
    """A model that is ready to be traced.

    Attributes:
        model: the transformers model, in evaluation mode.
        example: a batch with all inputs that the model can take, in the order in which it takes them.
        outputs: names of its outputs.
    """

    model: PreTrainedModel
    example: dict[str, torch.Tensor]
    outputs: tuple[str, ...]

    @property
    def context_length(self) -> int | None:
        """Longest sequence that the model's positions cover, if its config says so."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def open_dimensions(self, name: str) -> tuple[int, ...]:
        """Which dimensions of an input may have any size: rows and tokens; of pictures, whose size is fixed, rows."""
        return (0,) if name == "pixel_values" else tuple(range(self.example[name].ndim))

    def module(self, *, named: bool) -> torch.nn.Module:
        """A module that takes the inputs in the example's order.

        Args:
            named: it takes them by name too and returns a mapping; otherwise it returns a tuple.
        """
        import torch

        model, names, outputs = self.model, tuple(self.example), self.outputs

        class Wrapped(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, *tensors: torch.Tensor, **others: torch.Tensor) -> Any:
                found = self.model(**dict(zip(names, tensors, strict=False)), **others)
                if named:
                    return {name: found[name] for name in outputs}
                return tuple(found[name] for name in outputs)

        # torch.export reads the names of the inputs there
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", *names)]
        Wrapped.forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return Wrapped().eval()


def traced(checkpoint: Checkpoint, head: str, *, dtype: str = "float32") -> Traced:
    """Load a checkpoint with a head, in a torch precision, as something to trace.

    Raises:
        ConfigError: the checkpoint cannot be loaded with that head.
    """
    import torch

    from deepseek.models.loading import from_pretrained, quiet_transformers

    model = from_pretrained(checkpoint, head=head, dtype=getattr(torch, dtype)).eval()
    if head == "causal-lm":
        model.config.use_cache = False  # one pass over whole sequences
    example = {name: value.to(model.dtype) if value.is_floating_point() else value
               for name, value in _example(model).items()}  # fmt: skip
    with torch.no_grad(), quiet_transformers():
        outputs = model(**example)
    names = [name for name, value in outputs.items() if isinstance(value, torch.Tensor)]
    if POOLER in model.fresh_modules and POOLED in names:
        names.remove(POOLED)
    return Traced(model, example, tuple(names))


def refuse_untrained(checkpoint: Checkpoint, model: PreTrainedModel) -> None:
    """Refuse a model with a head of random weights.

    Raises:
        ConfigError: it has one.
    """
    if fresh := [name for name in model.fresh_modules if name != POOLER]:
        raise ConfigError(
            f"{checkpoint.name!r} has no weights for {', '.join(fresh)}, so a copy of it would answer at random; "
            "`deepseek train RECIPE` trains them"
        )


def _example(model: Any) -> dict[str, Any]:
    import torch

    if getattr(model, "main_input_name", "input_ids") == "pixel_values":
        size = model.config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return {"pixel_values": torch.zeros(ROWS, getattr(model.config, "num_channels", 3), height, width)}
    takes = inspect.signature(type(model).forward).parameters
    names = [name for name in TEXT_INPUTS if name in takes]
    if getattr(model.config, "type_vocab_size", 0) < 1 and "token_type_ids" in names:
        names.remove("token_type_ids")
    batch = {name: torch.ones(ROWS, TOKENS, dtype=torch.long) for name in names}
    if "token_type_ids" in batch:
        batch["token_type_ids"].zero_()
    if "attention_mask" in batch:
        batch["attention_mask"][0, TOKENS // 2 :] = 0  # a full mask would let transformers leave it out of the trace
    return batch

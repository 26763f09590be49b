"""The states of frozen lower layers: computed once for all rows of a run, then read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.models.layers import transformer_layers
from deepseek.resources import trim_heap
from deepseek.training.distributed.ranks import world_size
from deepseek.training.encoding.encoded_rows import EncodedRows
from deepseek.training.frozen.boundary import idle_embedding
from deepseek.training.loop.arguments import micro_batch, training_device
from deepseek.training.loop.collation import collator
from deepseek.training.loop.processes import on_main
from deepseek.training.runs.folder import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from deepseek.tasks.base import Task
    from deepseek.training.config import TrainingConfig
    from deepseek.training.frozen import Trunk

STATES = "states"
"""Folder of the states in the run folder."""


def kept_states(
    model: PreTrainedModel,
    task: Task,
    tokenizer: Any,
    rows: EncodedRows,
    home: RunFolder,
    settings: TrainingConfig,
    trunk: Trunk,
    stack: ExitStack,
) -> Any:
    """The stored states of the frozen lower layers, in use until ``stack`` closes.

    Raises:
        ConfigError: the states are not the same in each epoch, or no lower layers are frozen.
    """
    from deepseek.training.frozen import FrozenCache

    if not task.cacheable:
        raise ConfigError(
            f"cache_frozen stores one state a row, but {task.name} as it is set gives a row other inputs each time; "
            "turn cache_frozen off"
        )
    model.to(training_device())
    collate = collator(task, tokenizer, seed=0, epoch=lambda: 0)
    folder = home.path / STATES

    @contextmanager
    def resting() -> Iterator[None]:
        layers = transformer_layers(model)[1]
        upper = [layer for layer in layers if any(weight.requires_grad for weight in layer.parameters())]
        trunk.set_aside(upper)
        trim_heap()
        try:
            yield
        finally:
            trunk.take_back(upper)

    def build() -> FrozenCache:
        return FrozenCache.build(model, rows, collate, folder, batch_size=micro_batch(settings), resting=resting)

    def first() -> None:
        build().close()

    if world_size() > 1:
        on_main(first)  # the others then find it
    cache = build()
    stack.callback(cache.close)
    stack.enter_context(cache.attached(model))
    return cache


def settler(model: PreTrainedModel, trunk: Trunk, frozen: Any) -> Callable[[], None]:
    """What gives memory back that only a pass through the whole model needed."""

    def settle() -> None:
        if frozen is not None and world_size() == 1:
            trunk.set_aside([*transformer_layers(model)[1][: frozen.depth], *idle_embedding(model)])
        trim_heap()

    return settle

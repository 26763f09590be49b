"""A run on a trunk made cheap: no dropout, narrow frozen weights, stored states of its lower layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deepseek.artifacts.cache import cache_dir
from deepseek.errors import ConfigError
from deepseek.training.frozen import FrozenCache, prepare_trunk
from deepseek.training.loop.arguments import micro_batch
from deepseek.training.loop.collation import collator
from deepseek.training.loop.processes import on_main

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from deepseek.training.loop.training_run import TrainingRun

STATES = "states"
"""Folder of stored states in the user's cache: runs on the same rows and trunk share them, as a search's trials do."""


@contextlib.contextmanager
def economical(model: PreTrainedModel, run: TrainingRun) -> Iterator[FrozenCache | None]:
    """While open, the frozen part of ``model`` runs as cheaply as the settings allow; afterwards it is as before.

    Yields:
        The stored states of frozen lower layers, or ``None`` without ``cache_frozen``.

    Raises:
        ConfigError: the states cannot be stored (see :meth:`FrozenCache.build`), or a disk is too small.
    """
    settings = run.settings
    if settings.cache_frozen and not run.task.cacheable:
        raise ConfigError(
            f"cache_frozen stores one state a row, but {run.task.name} as it is set gives a row other inputs each "
            "time; turn cache_frozen off"
        )
    if not run.trunk_frozen and not settings.cache_frozen:
        yield None
        return
    with prepare_trunk(
        model, dropout=settings.trunk_dropout, precision="bfloat16" if run.bfloat16 else "float32"
    ), contextlib.ExitStack() as stack:  # fmt: skip
        yield _states(model, run, stack) if settings.cache_frozen else None


def _states(model: PreTrainedModel, run: TrainingRun, stack: contextlib.ExitStack) -> FrozenCache:
    collate = collator(run.task, run.tokenizer, seed=run.seed, epoch=lambda: 0)

    def build() -> FrozenCache:
        rows: Any = run.rows
        return FrozenCache.build(model, rows, collate, cache_dir() / STATES, batch_size=micro_batch(run.settings))

    on_main(lambda: build().close())  # the other processes then find the file
    states = build()
    stack.callback(states.close)
    stack.enter_context(states.attached(model))
    return states

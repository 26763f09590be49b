"""What a run starts from: the model with its processor, and the rows as features on the disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.models.kernel_caches import bound_kernel_caches
from deepseek.models.loading import from_pretrained, processor_for
from deepseek.training.encoding.encoded_rows import EncodedRows, open_encoded
from deepseek.training.encoding.limits import ModelLimits
from deepseek.training.encoding.row_source import RowSource
from deepseek.training.encoding.writing import encode, encoding_fingerprint
from deepseek.training.loop.processes import on_main
from deepseek.training.runs.folder import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from deepseek.tasks.base import Task


def loaded_model(
    model: PreTrainedModel | str | os.PathLike[str], tokenizer: Any, task: Task
) -> tuple[PreTrainedModel, Any]:
    """The model with the head that ``task`` needs, and its tokenizer or image processor.

    Raises:
        ConfigError: a loaded model does not say which processor is its own, or cannot do the task.
    """
    from deepseek.models.adapters.mixin import make_adaptable

    if isinstance(model, str | os.PathLike):
        tokenizer = tokenizer or processor_for(model, type(task).processor)
        return from_pretrained(model, head=type(task).head, **task.model_options()), tokenizer
    bound_kernel_caches()
    model = make_adaptable(model)
    if tokenizer is None:
        if model.base_name is None:
            raise ConfigError("the model does not say which checkpoint it is of; give fit its tokenizer")
        tokenizer = processor_for(model.base_name, type(task).processor)
    return model, tokenizer


def encoded_rows(home: RunFolder, rows: RowSource, task: Task, tokenizer: Any, limits: ModelLimits) -> EncodedRows:
    """The rows as training features in the run folder, written there unless they are there already.

    Raises:
        DataError: a row lacks an input or its answer.
        ConfigError: texts can be longer than the model takes.
    """
    fingerprint = encoding_fingerprint(rows, task, tokenizer)

    def write() -> None:
        encode(rows, task, tokenizer, home.encoded, limits=limits, fingerprint=fingerprint)

    on_main(write)
    found = open_encoded(home.encoded, fingerprint)
    if found is None:
        raise ConfigError(f"{home.encoded} was made by the main process, but is not here; use a folder that all share")
    return found

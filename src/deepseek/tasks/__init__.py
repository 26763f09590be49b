"""What a model is for: one file a task, found by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepseek.plugins.registry import Registry
from deepseek.tasks.signature import Field, Signature

if TYPE_CHECKING:
    from deepseek.tasks.base import Executable, Generated, Task, TextTask

TASKS: Registry[type[Task]] = Registry(
    "task",
    shipped={
        "image-classification": "deepseek.tasks.image_classification:ImageClassification",
        "masked-language-modelling": "deepseek.tasks.masked_language_modelling:MaskedLanguageModelling",
        "multi-label-classification": "deepseek.tasks.multi_label_classification:MultiLabelClassification",
        "sentence-embedding": "deepseek.tasks.sentence_embedding:SentenceEmbedding",
        "text-classification": "deepseek.tasks.text_classification:TextClassification",
        "text-generation": "deepseek.tasks.text_generation:TextGeneration",
        "text-regression": "deepseek.tasks.text_regression:TextRegression",
        "token-classification": "deepseek.tasks.token_classification:TokenClassification",
    },
)
"""Tasks by name. A new task is one new file and one line here."""

__all__ = ["TASKS", "Executable", "Field", "Generated", "Signature", "Task", "TextTask"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from deepseek.tasks import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

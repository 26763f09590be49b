"""Layer 2: checkpoints from anywhere, and adapters on top of them.

>>> from deepseek.models import LoRAConfig, from_pretrained
>>> model = from_pretrained("all-minilm-l6-v2", head="sequence-classification", num_labels=2)
>>> model.add_adapter("text_class", LoRAConfig(r=16, alpha=32, dropout=0.1, target_modules=["query_key_value"]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.models.adapters.config import LoRAConfig
    from deepseek.models.adapters.targets import resolve_targets
    from deepseek.models.catalogue import CATALOGUE, ModelCard
    from deepseek.models.checkpoint import Checkpoint, resolve
    from deepseek.models.conversion.converting import Conversion, convert, convert_model
    from deepseek.models.conversion.report import ConversionReport
    from deepseek.models.loading import from_config, from_pretrained, processor_for, tokenizer_for
    from deepseek.models.tokenizers import train_tokenizer

_PUBLIC = {
    "CATALOGUE": "deepseek.models.catalogue",
    "Checkpoint": "deepseek.models.checkpoint",
    "Conversion": "deepseek.models.conversion.converting",
    "ConversionReport": "deepseek.models.conversion.report",
    "LoRAConfig": "deepseek.models.adapters.config",
    "ModelCard": "deepseek.models.catalogue",
    "convert": "deepseek.models.conversion.converting",
    "convert_model": "deepseek.models.conversion.converting",
    "from_config": "deepseek.models.loading",
    "from_pretrained": "deepseek.models.loading",
    "processor_for": "deepseek.models.loading",
    "resolve": "deepseek.models.checkpoint",
    "resolve_targets": "deepseek.models.adapters.targets",
    "tokenizer_for": "deepseek.models.loading",
    "train_tokenizer": "deepseek.models.tokenizers",
}

__all__ = [
    "CATALOGUE",
    "Checkpoint",
    "Conversion",
    "ConversionReport",
    "LoRAConfig",
    "ModelCard",
    "convert",
    "convert_model",
    "from_config",
    "from_pretrained",
    "processor_for",
    "resolve",
    "resolve_targets",
    "tokenizer_for",
    "train_tokenizer",
]


__getattr__ = names_of(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(__all__)

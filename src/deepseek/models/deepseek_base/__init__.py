"""DeepSeek-Base: transformers classes for the framework's own architecture.

>>> from deepseek.models.deepseek_base import DeepSeekBaseConfig, DeepSeekBaseForMaskedLM
>>> model = DeepSeekBaseForMaskedLM(DeepSeekBaseConfig(num_hidden_layers=2))

Importing this package registers the architecture with transformers' Auto classes, and so imports transformers and
PyTorch; :func:`deepseek.models.from_pretrained` does it by itself.
"""

from __future__ import annotations

import transformers

from deepseek.models.deepseek_base.config import DeepSeekBaseConfig
from deepseek.models.deepseek_base.heads import (
    DeepSeekBaseForCausalLM,
    DeepSeekBaseForMaskedLM,
    DeepSeekBaseForSequenceClassification,
    DeepSeekBaseForTextEncoding,
    DeepSeekBaseForTokenClassification,
)
from deepseek.models.deepseek_base.modeling import DeepSeekBaseModel, DeepSeekBasePreTrainedModel

__all__ = [
    "DeepSeekBaseConfig",
    "DeepSeekBaseForCausalLM",
    "DeepSeekBaseForMaskedLM",
    "DeepSeekBaseForSequenceClassification",
    "DeepSeekBaseForTextEncoding",
    "DeepSeekBaseForTokenClassification",
    "DeepSeekBaseModel",
    "DeepSeekBasePreTrainedModel",
]

transformers.AutoConfig.register(DeepSeekBaseConfig.model_type, DeepSeekBaseConfig)
for _auto, _model in (
    ("AutoModel", DeepSeekBaseModel),
    ("AutoModelForMaskedLM", DeepSeekBaseForMaskedLM),
    ("AutoModelForCausalLM", DeepSeekBaseForCausalLM),
    ("AutoModelForSequenceClassification", DeepSeekBaseForSequenceClassification),
    ("AutoModelForTokenClassification", DeepSeekBaseForTokenClassification),
    ("AutoModelForTextEncoding", DeepSeekBaseForTextEncoding),
):
    getattr(transformers, _auto).register(DeepSeekBaseConfig, _model)

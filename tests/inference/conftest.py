"""What the tests of inference share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from deepseek.inference import quantize


@pytest.fixture
def copied(bundle: Any, rows: list[dict[str, Any]], tmp_path: Path) -> Path:
    """The trained bundle with an int8 copy for the runtime ``native``, which runs nothing else."""
    folder = tmp_path / "copied"
    shutil.copytree(bundle.path, folder)
    quantize(folder, rows * 6, runtime="native", calibration=8)
    return folder


@pytest.fixture(scope="session")
def save_classifier(minilm: Path) -> Callable[..., Path]:
    """Writes a BERT of random weights for three labels, with a real vocabulary, into a folder."""

    def save(folder: Path, *, longest: int = 512, **changes: Any) -> Path:
        torch.manual_seed(0)
        shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
        config = transformers.BertConfig(
            **(shape | changes), vocab_size=30522, max_position_embeddings=longest, initializer_range=0.1,
            id2label={0: "low", 1: "middle", 2: "high"},
        )  # fmt: skip
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(minilm, model_max_length=longest).save_pretrained(folder)
        return folder

    return save

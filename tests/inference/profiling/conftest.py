"""Tiny random models with MiniLM's tokenizer, and hardware whose limits are round numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from deepseek.inference.hardware import Bandwidth, HardwarePeaks, ProductPeak

BERT: dict[str, Any] = {
    "vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 64,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "max_position_embeddings": 256, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture(scope="session")
def tokenizer(minilm: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(minilm)


@pytest.fixture(scope="session")
def encoder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "encoder"
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**BERT)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def generator(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "generator"
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def round_peaks() -> HardwarePeaks:
    """1 TFLOP/s and 10 GB/s: arithmetic binds from 100 FLOPs a byte on."""
    return HardwarePeaks(
        device="cpu", name="a round machine", features=(), threads=1, cache_bytes=1_000_000, system="Linux x86_64",
        torch="2", runtime="", measured=datetime(2026, 1, 1, tzinfo=UTC), seconds=1.0,
        products={name: ProductPeak(tflops=tflops, shape=(256, 256, 256), operation="matmul")
                  for name, tflops in (("float32", 1.0), ("bfloat16", 4.0))},
        missing={"int8": "no units"},
        bandwidth={kind: Bandwidth(gb_per_second=rate, operation="sum", array_bytes=1 << 28)
                   for kind, rate in (("read", 10.0), ("copy", 8.0), ("triad", 8.0))},
    )  # fmt: skip


@pytest.fixture
def quick(round_peaks: HardwarePeaks, monkeypatch: pytest.MonkeyPatch) -> HardwarePeaks:
    """Profiles take as few samples as they may, and nothing is measured of the machine."""
    monkeypatch.setattr("deepseek.inference.profiling.samples.SECONDS", 0.0)
    monkeypatch.setattr("deepseek.inference.profiling.profiling.peaks", lambda device: round_peaks)
    return round_peaks

"""int8 copies of DeepSeek-Base keep its relative positions: they answer nearly as float32 does, far blocks included."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deepseek.inference.onnx.runtime import OnnxRuntime
from deepseek.inference.openvino.runtime import OpenVinoRuntime
from deepseek.inference.runtime import Runtime
from deepseek.models import from_config
from deepseek.models.checkpoint import Checkpoint
from deepseek.models.deepseek_base import DeepSeekBaseConfig

pytestmark = pytest.mark.usefixtures("one_thread")
HEAD = "token-classification"


def batch(tokens: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 200, (2, tokens), generator=torch.Generator().manual_seed(tokens))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("runtime", [OnnxRuntime(), OpenVinoRuntime()], ids=["onnxruntime", "openvino"])
def test_positions_survive_int8(runtime: Runtime, tmp_path: Path) -> None:
    pytest.importorskip({"openvino": "nncf", "onnxruntime": "onnxruntime"}[runtime.name])
    torch.manual_seed(0)
    config = DeepSeekBaseConfig(
        vocab_size=200, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        block_width=8, gate_least=1, initializer_range=0.2,
    )  # fmt: skip
    model = from_config(config, head=HEAD, num_labels=8)
    layers = model.model.layers  # type: ignore[attr-defined]
    for layer in layers:
        torch.nn.init.normal_(layer.attention.relative_steps, std=0.5)
        torch.nn.init.normal_(layer.attention.gate_weight, std=0.3)
    model.eval().save_pretrained(tmp_path / "model")
    checkpoint = Checkpoint(tmp_path / "model", "tiny")
    copy = tmp_path / "copy"
    copy.mkdir()
    runtime.quantize(checkpoint, HEAD, [batch(n) for n in (40, 60, 80, 100)] * 2, copy)
    exact, int8 = runtime.load(checkpoint, HEAD, dtype="float32"), runtime.open_copy(copy)
    for tokens in (12, 50, 120):
        expected, found = (each.forward(batch(tokens))["logits"] for each in (exact, int8))
        error = (found - expected).norm() / expected.norm()
        assert error < 0.3, (tokens, error)
    for layer in layers:
        torch.nn.init.zeros_(layer.attention.relative_steps)
    without = model(**batch(120)).logits
    assert (without - expected).norm() / expected.norm() > error  # what was kept is more than what was lost

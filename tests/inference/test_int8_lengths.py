"""An int8 copy answers a text the same however much padding its batch has, at any length."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from deepseek.inference.openvino.runtime import OpenVinoRuntime
from deepseek.models import from_config
from deepseek.models.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
pytest.importorskip("nncf")


@pytest.mark.parametrize("head", ["sequence-classification", "token-classification"])
@pytest.mark.parametrize("size", [16, 32])
def test_a_masked_token_more_changes_nothing(size: int, head: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=2 * size, num_attention_heads=2, num_hidden_layers=1, intermediate_size=4 * size,
        vocab_size=500, initializer_range=0.3, max_position_embeddings=64,
    )  # fmt: skip
    from_config(config, head=head, num_labels=3).save_pretrained(tmp_path / "model")

    def batch(tokens: int, padding: int = 0) -> dict[str, torch.Tensor]:
        drawn = torch.Generator().manual_seed(tokens)
        ids = torch.randint(1, 500, (2, tokens), generator=drawn)
        whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return {name: torch.nn.functional.pad(value, (0, padding)) for name, value in whole.items()}

    runtime = OpenVinoRuntime()
    copy = tmp_path / "copy"
    copy.mkdir()
    runtime.quantize(Checkpoint(tmp_path / "model", "tiny"), head, [batch(n) for n in (10, 20, 30, 40)] * 2, copy)
    model = runtime.open_copy(copy)
    for tokens in (size - 1, size, size + 1):
        alone = model.forward(batch(tokens))["logits"]
        padded = model.forward(batch(tokens, padding=3))["logits"]
        if head == "token-classification":
            assert alone.shape == (2, tokens, 3)
            padded = padded[:, :tokens]
        torch.testing.assert_close(alone, padded, rtol=0.02, atol=0.05)

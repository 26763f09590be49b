"""An int8 copy answers a text the same however much padding its batch has, at any length."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from deepseek.inference.openvino.lengths import STEP, better_length
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

    def batch(tokens: int, rows: int = 2, padding: int = 0) -> dict[str, torch.Tensor]:
        drawn = torch.Generator().manual_seed(tokens)
        ids = torch.randint(1, 500, (rows, tokens), generator=drawn)
        whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return {name: torch.nn.functional.pad(value, (0, padding)) for name, value in whole.items()}

    runtime = OpenVinoRuntime()
    copy = tmp_path / "copy"
    copy.mkdir()
    runtime.quantize(Checkpoint(tmp_path / "model", "tiny"), head, [batch(n) for n in (10, 20, 30, 40)] * 2, copy)
    model = runtime.open_copy(copy)
    for rows, tokens in itertools.product((1, 2), (3, size - 1, size, size + 1, 64)):
        alone = model.forward(batch(tokens, rows))["logits"]
        padded = model.forward(batch(tokens, rows, padding=min(3, 64 - tokens)))["logits"]
        if head == "token-classification":
            assert alone.shape == (rows, tokens, 3)
            padded = padded[:, :tokens]
        torch.testing.assert_close(alone, padded, rtol=0.02, atol=0.05)


@given(st.integers(1, 64), st.integers(1, 600), st.none() | st.integers(0, 100))
def test_lengths_grow_little_and_stay_within_the_limit(rows: int, tokens: int, room: int | None) -> None:
    limit = None if room is None else tokens + room
    found = better_length(rows, tokens, limit)
    assert tokens <= found < tokens + (STEP if rows == 1 else 1)
    assert limit is None or found <= limit
    assert better_length(rows, found, limit) == found

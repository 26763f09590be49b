"""The recomputed bfloat16 attention against PyTorch's in float32, and what it leaves to transformers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from deepseek.models import LoRAConfig
from deepseek.models.adapters.mixin import make_adaptable
from deepseek.training.frozen import attention, prepare_trunk


def error(received: torch.Tensor, expected: torch.Tensor) -> float:
    return float((received.detach().float() - expected.detach()).norm() / expected.detach().norm())


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 5),
    heads=st.sampled_from([1, 2, 3]),
    groups=st.sampled_from([1, 2, 4]),
    length=st.integers(2, 40),
    masked=st.sampled_from(["padding", "causal", "nothing"]),
    at_once=st.sampled_from([1, 2**11, 2**20]),
)
def test_it_computes_attention_and_its_gradients(
    rows: int, heads: int, groups: int, length: int, masked: str, at_once: int
) -> None:
    torch.manual_seed(0)
    module: Any = SimpleNamespace(is_causal=masked == "causal", num_key_value_groups=groups)
    query = torch.randn(rows, length, heads * groups, 16).bfloat16().transpose(1, 2).requires_grad_()
    key, value = (torch.randn(rows, length, heads, 16).bfloat16().transpose(1, 2).requires_grad_() for _ in range(2))
    upstream = torch.randn(rows, length, heads * groups, 16).bfloat16()
    mask = None
    if masked == "padding":
        mask = torch.arange(length) < torch.randint(1, length + 1, (rows, 1))
        mask = mask[:, None, None, :].expand(rows, 1, length, length)
    before, attention._CACHED = attention._CACHED, at_once
    try:
        out, _ = attention.attention_forward(module, query, key, value, mask)
        gradients = torch.autograd.grad(out, (query, key, value), upstream)
    finally:
        attention._CACHED = before
    assert "Recomputed" in type(out.grad_fn).__name__
    expected = scaled_dot_product_attention(
        query.float(),
        key.float().repeat_interleave(groups, 1),
        value.float().repeat_interleave(groups, 1),
        attn_mask=mask,
        is_causal=masked == "causal",
    ).transpose(1, 2)
    references = torch.autograd.grad(expected, (query, key, value), upstream.float())
    assert error(out, expected) < 0.01
    for received, reference in zip(gradients, references, strict=True):
        assert error(received, reference.float()) < 0.02 or reference.float().norm() < 0.5


@pytest.mark.parametrize("kind", ["bert", "llama", "modernbert", "gpt2", "vit"])
def test_a_narrow_model_uses_it_and_goes_back(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    text: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    configs: dict[str, Any] = {
        "bert": lambda: transformers.BertConfig(**text, intermediate_size=64),
        "llama": lambda: transformers.LlamaConfig(**text, intermediate_size=64, num_key_value_heads=2),
        "modernbert": lambda: transformers.ModernBertConfig(**text, intermediate_size=64, pad_token_id=0),
        "gpt2": lambda: transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4),
        "vit": lambda: transformers.ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            image_size=16,
            patch_size=4,
        ),
    }
    model: Any = make_adaptable(transformers.AutoModel.from_config(configs[kind]()))
    model.add_adapter("a", LoRAConfig(r=2))
    ids = torch.randint(1, 64, (3, 10))
    batch = {"input_ids": ids, "attention_mask": (torch.arange(10) < torch.tensor([[10], [4], [7]])).long()}
    if kind == "vit":
        batch = {"pixel_values": torch.randn(3, 3, 16, 16)}
    expected = model.eval()(**batch).last_hidden_state
    used: list[bool] = []
    real = attention._function()
    monkeypatch.setattr(attention, "_function", lambda: used.append(True) or real)
    with prepare_trunk(model, dropout=0.0, precision="bfloat16") as trunk, trunk.autocast():
        received = model.train()(**batch).last_hidden_state
    mask = batch.get("attention_mask", torch.ones(received.shape[:2])).bool()
    assert len(used) == 2  # once a layer
    assert error(received[mask], expected[mask]) < 0.05
    assert torch.equal(model.eval()(**batch).last_hidden_state, expected)
    assert len(used) == 2


def test_a_model_that_will_train_on_a_gpu_keeps_pytorchs_own() -> None:
    shape: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    model: Any = make_adaptable(
        transformers.AutoModel.from_config(transformers.BertConfig(**shape, intermediate_size=64))
    )
    model.add_adapter("a", LoRAConfig(r=2))
    for device, implementation in (("cuda", "sdpa"), ("cpu", attention.NAME)):
        with prepare_trunk(model, dropout=0.0, precision="bfloat16", device=device):
            assert model.config._attn_implementation == implementation
    assert model.config._attn_implementation == "sdpa"


def test_dropout_and_float32_are_left_to_pytorch() -> None:
    module: Any = SimpleNamespace(is_causal=False)
    narrow = [torch.randn(1, 2, 4, 8).bfloat16().requires_grad_() for _ in range(3)]
    wide = [tensor.detach().float().requires_grad_() for tensor in narrow]
    for tensors, dropout in ((narrow, 0.5), (wide, 0.0)):
        out, _ = attention.attention_forward(module, *tensors, None, dropout)
        assert out.shape == (1, 4, 2, 8)
        assert "Recomputed" not in type(out.grad_fn).__name__

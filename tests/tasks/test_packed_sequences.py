"""A packed batch trains exactly as its examples alone do, and models that would mix examples are refused."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.errors import ConfigError
from deepseek.models import from_config
from deepseek.tasks import TASKS
from deepseek.tasks.language_modelling import packing
from deepseek.tasks.language_modelling.packing import first_fit_decreasing

VOCABULARY = 64
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ENCODER = {**SMALL, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CONFIGS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**SMALL, num_key_value_heads=2),
    "mistral": lambda: transformers.MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=4),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SMALL, num_key_value_heads=2, head_dim=8, sliding_window=4),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    ),
    "bert": lambda: transformers.BertConfig(**ENCODER),
    "roberta": lambda: transformers.RobertaConfig(**ENCODER),
    "modernbert": lambda: transformers.ModernBertConfig(
        **SMALL, cls_token_id=1, sep_token_id=2, local_attention=4, layer_types=["full_attention", "sliding_attention"]
    ),
    "opt": lambda: transformers.OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        word_embed_proj_dim=32,
    ),
    "bloom": lambda: transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4),
    "deberta": lambda: transformers.DebertaV2Config(**ENCODER, relative_attention=True, pos_att_type=["c2p"]),
}
CAUSAL = ["llama", "mistral", "gemma3", "gpt2"]
MASKED = ["bert", "roberta", "modernbert"]


@cache
def model(kind: str) -> Any:
    torch.manual_seed(0)
    return from_config(CONFIGS[kind](), head="causal-lm" if kind in (*CAUSAL, "opt", "bloom") else "masked-lm").train()


@given(st.lists(st.integers(1, 32), max_size=60), st.integers(32, 40))
def test_groups_hold_every_item_once_and_no_more_than_fits(lengths: list[int], capacity: int) -> None:
    groups = first_fit_decreasing(lengths, capacity)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in group) <= capacity for group in groups)
    # no two groups could have been one, so more than half of the room is used
    totals = sorted(sum(lengths[i] for i in group) for group in groups)
    assert len(totals) < 2 or totals[0] + totals[1] > capacity


def gradients(kind: str, task: Any, features: list[dict[str, list[int]]]) -> tuple[float, dict[str, torch.Tensor]]:
    network = model(kind)
    network.zero_grad()
    batch = packing.pad_right(features, {"input_ids": 0, "labels": packing.IGNORED})
    loss, _ = task.loss(network, batch)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


@st.composite
def examples(draw: Any) -> list[dict[str, list[int]]]:
    """Examples of 2 to 12 tokens with random labels, at least one of them not ignored, never the first."""
    found = []
    for _ in range(draw(st.integers(1, 6))):
        ids = draw(st.lists(st.integers(3, VOCABULARY - 1), min_size=2, max_size=12))
        used = draw(st.lists(st.booleans(), min_size=len(ids) - 1, max_size=len(ids) - 1))
        labels = [-100, *(token if use else -100 for token, use in zip(ids[1:], used, strict=True))]
        labels[-1] = ids[-1]
        found.append({"input_ids": ids, "labels": labels})
    return found


@pytest.mark.parametrize("kind", [*CAUSAL, *MASKED])
@settings(max_examples=4, deadline=None)
@given(examples())
def test_loss_and_gradients_are_those_of_the_examples_alone(kind: str, found: list[dict[str, list[int]]]) -> None:
    task = TASKS.get("text-generation" if kind in CAUSAL else "masked-language-modelling")()
    loss, expected = gradients(kind, task, found)
    packed_loss, received = gradients(kind, task, packing.pack(found, 16))
    assert packed_loss == pytest.approx(loss, rel=1e-5)
    scale = max(float(g.abs().max()) for g in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(received[name], gradient, rtol=1e-3, atol=1e-5 * scale, msg=name)


@pytest.mark.parametrize(
    ("kind", "said"), [("opt", "see each other"), ("bloom", "no position ids"), ("deberta", "cannot be given")]
)
def test_models_that_would_mix_examples_are_refused(kind: str, said: str) -> None:
    name = "masked-language-modelling" if kind == "deberta" else "text-generation"
    with pytest.raises(ConfigError, match=f"{said}.*packing: joined"):
        TASKS.get(name)(packing=True).check_model(model(kind))
    TASKS.get(name)(packing=False).check_model(model(kind))


@given(examples())
def test_joined_examples_are_all_there_and_see_each_other(found: list[dict[str, list[int]]]) -> None:
    packed = packing.pack(found, 16, packing="joined")
    assert sorted(token for f in packed for token in f["input_ids"]) == sorted(t for f in found for t in f["input_ids"])
    assert all(len(f["input_ids"]) == len(f["labels"]) <= 16 for f in packed)
    batch = packing.pad_right(packed, {"input_ids": 0, "labels": packing.IGNORED})
    assert packing.POSITIONS not in batch  # or models would keep them apart
    assert batch["attention_mask"].sum() == sum(len(f["input_ids"]) for f in found)
    for kind in ("opt", "deberta"):
        name = "masked-language-modelling" if kind == "deberta" else "text-generation"
        TASKS.get(name)(packing="joined").check_model(model(kind))


def test_the_check_leaves_mode_and_random_state_alone() -> None:
    network = from_config(CONFIGS["llama"](), head="causal-lm").train()
    network.lm_head.eval()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    TASKS.get("text-generation")(packing=True).check_model(network)
    assert torch.rand(1) == expected
    assert network.training
    assert not network.lm_head.training

"""Batches are padded to few lengths, and what they teach stays the same."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import sentences

from deepseek.models import from_pretrained, tokenizer_for
from deepseek.tasks import TASKS
from deepseek.training.loop.padding import RoundedPadding, rounded_length


@given(st.integers(1, 5000), st.one_of(st.none(), st.integers(1, 5000)))
def test_a_length_grows_by_less_than_a_quarter_and_stays_within_the_model(tokens: int, longest: int | None) -> None:
    found = rounded_length(tokens, longest)
    assert found >= tokens
    assert longest is None or found <= max(tokens, longest)
    assert found - tokens < max(8, tokens / 4)
    assert rounded_length(found, longest) == found


def test_few_lengths_are_left() -> None:
    assert len({rounded_length(n) for n in range(1, 513)}) == 20
    assert {rounded_length(n) % 8 for n in range(1, 513)} == {0}


@pytest.mark.parametrize(
    ("name", "options", "head"),
    [
        ("text-classification", {}, "sequence-classification"),
        ("masked-language-modelling", {"packing": False}, "masked-lm"),
        ("text-generation", {"packing": False}, "causal-lm"),
    ],
)
def test_the_loss_does_not_change(tiny: Path, name: str, options: dict[str, Any], head: str) -> None:
    rows = [row for row in sentences(80) if len(row["text"].split()) in (5, 8)][:8]  # 10 tokens at most, padded to 16
    task = TASKS.get(name).model_validate({**options, "max_length": 30}).fitted(rows)
    tokenizer = tokenizer_for(tiny)
    tokenizer.eos_token = "[SEP]"  # a text ends with one when it is learned from the left
    features = task.encode(rows, tokenizer)
    torch.manual_seed(0)
    if head == "causal-lm":
        import transformers

        config = transformers.LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
        )
        model: Any = transformers.AutoModelForCausalLM.from_config(config).eval()
    else:
        model = from_pretrained(tiny, head=head, **task.model_options()).eval()
    losses, widths = [], []
    for padding in (tokenizer, RoundedPadding(tokenizer, 40)):
        torch.manual_seed(1)
        batch = task.collate_training(features, padding)
        widths.append(batch["input_ids"].shape[1])
        if head == "masked-lm":  # masks are drawn for the whole batch: so ask for the same ones
            batch["input_ids"][:, 2] = tokenizer.mask_token_id
            batch["labels"] = torch.full_like(batch["input_ids"], -100)
            batch["labels"][:, 2] = 7
        with torch.no_grad():
            losses.append(float(task.loss(model, batch)[0]))
    assert widths == [max(len(f["input_ids"]) for f in features), 16]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_all_else_is_the_tokenizers(tiny: Path) -> None:
    tokenizer = tokenizer_for(tiny)
    rounded = RoundedPadding(tokenizer, 40)
    assert len(rounded) == len(copy.deepcopy(rounded)) == len(tokenizer)
    assert rounded.pad_token_id == tokenizer.pad_token_id
    assert rounded("w1 w2")["input_ids"] == tokenizer("w1 w2")["input_ids"]
    features = [{"input_ids": [2, 5, 3]}]
    assert len(rounded.pad(features, padding=False)["input_ids"][0]) == 3
    assert rounded.pad([{"input_ids": [5] * 39}], return_tensors="pt")["input_ids"].shape == (1, 40)
    assert rounded.pad([{"input_ids": [5] * 41}], return_tensors="pt")["input_ids"].shape == (1, 41)

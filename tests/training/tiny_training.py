"""A tiny random encoder with a word tokenizer on disk, and sentences that it can learn from, in a second."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = [f"w{i}" for i in range(60)]
GOOD, BAD = WORDS[:8], WORDS[8:16]


def save_tiny(folder: Path, *, positions: int = 40, dropout: float = 0.1, kind: str = "bert") -> Path:
    """A checkpoint without a head: config, weights, tokenizer."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    shape: dict[str, Any] = {
        "vocab_size": len(vocabulary), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": positions, "pad_token_id": 0,
        "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout,
    }  # fmt: skip
    torch.manual_seed(11)
    config = transformers.BertConfig(**shape) if kind == "bert" else transformers.RobertaConfig(**shape)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


def sentences(count: int, *, seed: int = 0, longest: int = 12) -> list[dict[str, Any]]:
    """Rows whose label is whether good or bad words are in the text."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        label = draw.choice(["negative", "positive"])
        words = draw.choices(WORDS[16:], k=draw.randint(1, longest - 2))
        words += draw.choices(GOOD if label == "positive" else BAD, k=2)
        draw.shuffle(words)
        rows.append({"id": f"s{number}", "text": " ".join(words), "label": label})
    return rows

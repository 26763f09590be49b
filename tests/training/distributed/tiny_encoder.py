"""A randomly initialised BERT of a few thousand weights with a word tokenizer, as a checkpoint folder, and rows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "plot", "actor", "scene",
         "long", "short", "dull", "bright"]  # fmt: skip


def write_encoder(folder: Path) -> Path:
    """Write the checkpoint (without dropout) into ``folder``."""
    import torch
    import transformers

    torch.manual_seed(7)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def rows(count: int = 45) -> list[dict[str, Any]]:
    """Texts of 1 to 12 words; the label says whether more words are good than bad."""
    draw = random.Random(3)
    made = []
    for _ in range(count):
        words = draw.choices(WORDS[5:], k=draw.randint(1, 12))
        made.append({"text": " ".join(words), "label": "yes" if words.count("good") > words.count("bad") else "no"})
    return made


def recipe(**changes: Any) -> dict[str, Any]:
    """A recipe of 2 epochs that logs each step."""
    training = {
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "precision": "float32",
        "log_every": 1,
        **changes.pop("training", {}),
    }
    return json.loads(json.dumps({"task": {"name": "text-classification"}, "training": training, **changes}))

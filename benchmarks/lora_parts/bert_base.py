"""A model of BERT-base's size with random weights: cost does not depend on what the weights are."""

from __future__ import annotations

from pathlib import Path

from deepseek.models import tokenizer_for


def bert_base(folder: Path, *, quick: bool) -> str:
    """Write it once with MiniLM's tokenizer (BERT's own vocabulary) and return its folder."""
    import torch
    from transformers import BertConfig, BertModel

    target = folder / "bert-base"
    if not target.is_dir():
        torch.manual_seed(0)
        size = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64}
        BertModel(BertConfig(**(size if quick else {}))).save_pretrained(target)
        tokenizer_for("all-minilm-l6-v2").save_pretrained(target)
    return str(target)

"""From token states to one vector a text, and the same choice in the files of sentence-transformers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls", "last"]
_KEYS: dict[Pooling, str] = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
}
POOLING_FILE = "1_Pooling/config.json"


def pool(states: torch.Tensor, attention_mask: torch.Tensor, kind: Pooling, *, normalise: bool) -> torch.Tensor:
    """Vectors of texts.

    Args:
        states: (texts, tokens, width).
        attention_mask: (texts, tokens), 1 for tokens of the text, padding on either side.
        kind: ``"mean"`` of the tokens, the ``"cls"`` (first) or the ``"last"`` one.
        normalise: to length 1.

    Returns:
        float32, (texts, width).
    """
    import torch
    from torch.nn.functional import normalize

    mask = attention_mask.to(states.device)
    if kind == "mean":
        weights = mask[..., None].float()
        vectors = (states.float() * weights).sum(1) / weights.sum(1).clamp(min=1)
    else:
        order = torch.arange(mask.shape[1], device=mask.device)
        first, last = mask.argmax(1), (order * mask).argmax(1)
        vectors = states[torch.arange(len(states), device=mask.device), first if kind == "cls" else last].float()
    return normalize(vectors, dim=-1) if normalise else vectors


def sentence_transformers_files(width: int, max_length: int, kind: Pooling, *, normalise: bool) -> dict[str, str]:
    """The files by which ``SentenceTransformer(folder)`` embeds as we do."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalise else [])]
    described = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (path, name) in enumerate(modules)
    ]
    pooling: dict[str, Any] = {"word_embedding_dimension": width}
    pooling |= {key: name == kind for name, key in _KEYS.items()}
    return {
        "modules.json": json.dumps(described, indent=2),
        POOLING_FILE: json.dumps(pooling, indent=2),
        "sentence_bert_config.json": json.dumps({"max_seq_length": max_length, "do_lower_case": False}, indent=2),
    }


def pooling_of(config: dict[str, Any]) -> Pooling | None:
    """The pooling that a ``1_Pooling/config.json`` names, ``None`` if it is one that we do not have, or several."""
    named = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    return next((name for name, key in _KEYS.items() if named == [key]), None)

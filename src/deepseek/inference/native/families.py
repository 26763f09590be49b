"""Which models the C source knows: layers of attention and a GELU feed-forward, each followed by LayerNorm, with
learned positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert")
"""``model_type`` of transformers' configs."""
HEADS = ("none", "sequence-classification", "token-classification")
HEAD_SIZES = (32, 64, 128)
STEP = 64
"""Widths are multiples of it."""


def unfit(config: Mapping[str, Any], head: str) -> str:
    """Why the C source cannot run a model, in words; empty if it can.

    Args:
        config: fields of a transformers config, by name.
    """
    if head not in HEADS:
        return f"it has heads for {', '.join(HEADS)}, not for {head}"
    if (kind := config.get("model_type")) not in FAMILIES:
        return f"it knows models of type {', '.join(FAMILIES)}, not {kind}"
    size, heads, inner = (config.get(n) for n in ("hidden_size", "num_attention_heads", "intermediate_size"))
    if not size or not heads or not inner or size % STEP or inner % STEP or size / heads not in HEAD_SIZES:
        return f"its sizes do not fit: {size} wide, {heads} heads, {inner} inside"
    if config.get("hidden_act", "gelu") != "gelu":
        return f"it knows the activation gelu, not {config['hidden_act']}"
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        return "it knows encoders with learned positions only"
    return ""

"""Which tokens end a text."""

from __future__ import annotations

from typing import Any


def end_tokens(model: Any) -> frozenset[int] | None:
    """Tokens that end a text: those that transformers' ``generate`` stops at; ``None`` if the model says none."""
    told = model.generation_config.eos_token_id
    if told is None:
        return None
    return frozenset([told] if isinstance(told, int) else told)

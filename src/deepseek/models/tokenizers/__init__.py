"""Tokenizers for a language or a domain of one's own, trained on its texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.models.tokenizers.training import train_tokenizer

__all__ = ["train_tokenizer"]


def __getattr__(name: str) -> Any:
    if name == "train_tokenizer":
        from deepseek.models.tokenizers.training import train_tokenizer

        return train_tokenizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Perplexity and token accuracy; intervals draw rows again, not tokens, since the tokens of a row go together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from deepseek.tasks.metrics import bootstrap

if TYPE_CHECKING:
    import torch

LOGIT_BYTES = 1 << 28
"""Logits of one scored batch take at most this much (or one row): a vocabulary of 50,000 times a few long rows is a
lot."""


def batches(lengths: Sequence[int], vocabulary: int, batch_size: int) -> Iterator[list[int]]:
    """Indices of rows to score together, longest first, within ``batch_size`` and :data:`LOGIT_BYTES`."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        row = 4 * vocabulary * max(lengths[order[start]], 1)
        size = max(1, min(batch_size, LOGIT_BYTES // row))
        yield order[start : start + size]
        start += size


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood in nats of each label, 0 where it is -100; shapes (batch, tokens[, vocabulary])."""
    from torch.nn.functional import cross_entropy

    from deepseek.tasks.language_modelling.packing import IGNORED

    return cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")


def perplexity(losses: Sequence[float], counts: Sequence[int]) -> dict[str, float]:
    """``perplexity``, ``exp`` of the mean loss a token, and its 95% interval over resampled rows.

    Args:
        losses: summed negative log-likelihood of each row's tokens, in nats.
        counts: number of those tokens.
    """
    import numpy as np

    top, bottom = np.asarray(losses, np.float64), np.asarray(counts, np.float64)
    return bootstrap(lambda weights: {"perplexity": np.exp(weights @ top / (weights @ bottom))}, len(top))


def token_accuracy(hits: Sequence[int], counts: Sequence[int]) -> dict[str, float]:
    """``accuracy``, the share of right tokens, and its 95% interval over resampled rows (of ``counts`` tokens each)."""
    import numpy as np

    right, bottom = np.asarray(hits, np.float64), np.asarray(counts, np.float64)
    return bootstrap(lambda weights: {"accuracy": weights @ right / (weights @ bottom)}, len(right))

"""Losses over the vectors of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def ranking_loss(
    anchors: torch.Tensor,
    candidates: torch.Tensor,
    excluded: torch.Tensor,
    *,
    temperature: float,
    symmetric: bool,
) -> torch.Tensor:
    """Multiple-negatives ranking (Henderson et al. 2017, arXiv:1705.00652), which is InfoNCE (van den Oord et al. 2018,
    arXiv:1807.03748) with the batch's other candidates as negatives.

    Args:
        anchors: (rows, width), of length 1.
        candidates: (rows + further negatives, width), of length 1; row i's positive is candidate i.
        excluded: (rows, candidates), true where a candidate is no negative of a row because it is the same text as its
            positive.
        temperature: of the softmax over cosines.
        symmetric: also rank the anchors for each positive.
    """
    import torch
    from torch.nn.functional import cross_entropy

    rows = len(anchors)
    logits = (anchors @ candidates.T / temperature).masked_fill(excluded, float("-inf"))
    truth = torch.arange(rows, device=anchors.device)
    loss = cross_entropy(logits, truth)
    if symmetric:
        loss = (loss + cross_entropy(logits[:, :rows].T, truth)) / 2
    return loss


def cosent_loss(cosines: torch.Tensor, scores: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """CoSENT (Su 2022, kexue.fm/archives/8847): pairs of a higher score should have a higher cosine.

    ``log(1 + sum exp((cos_j - cos_i) / temperature))`` over all i, j with ``score_i > score_j``; both of shape (rows,).
    """
    import torch

    differences = (cosines[None, :] - cosines[:, None]) / temperature
    wanted = scores[:, None] > scores[None, :]
    terms = differences.masked_fill(~wanted, float("-inf")).flatten()
    return torch.logsumexp(torch.cat([terms.new_zeros(1), terms]), 0)

# ruff: noqa: N803, N806 - names end in their shape
"""The next token of many sequences at once, each by its own parameters.

All rows of a step go through the same few tensor operations; only what a row asks for is computed. Sampling inverts the
distribution at one uniform number a token, which is the request's own (:class:`Draws`), so that what else is in the
batch does not change it. One copy to the host brings everything.

Shapes: R rows (one for each token to pick), S of them sampled, V vocabulary, K candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepseek.errors import require
from deepseek.inference.generation.core import TokenLogprobs
from deepseek.inference.generation.sampling import SamplingParameters

if TYPE_CHECKING:
    import torch

_CANDIDATES = 1024
"""So many most probable tokens nearly always hold ``top_p``; on a CPU, sorting these alone is several times faster."""


@dataclass
class Row:
    """One token to pick.

    Attributes:
        sampling: how.
        draw: the uniform number for it.
        before: tokens of the answer so far.
        barred: tokens that may not come yet (ends of a text before ``min_new_tokens``).
        mask: what a grammar allows, as bits, int32, (1, V / 32 rounded up).
        penalties: what has occurred, if a penalty asks for it.
    """

    sampling: SamplingParameters
    draw: float
    before: int
    barred: Sequence[int] = ()
    mask: torch.Tensor | None = None
    penalties: Occurrences | None = None


class Occurrences:
    """Which tokens a sequence has, for penalties.

    Attributes:
        seen_V: of bool, prompt or answer has the token.
        counts_V: float, how often the answer has it.
    """

    def __init__(self, prompt: Sequence[int], answer: Sequence[int], vocabulary: int, device: torch.device) -> None:
        import torch

        self.seen_V = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        self.counts_V = torch.zeros(vocabulary, device=device)
        self.seen_V[torch.tensor([*prompt, *answer], device=device)] = True
        for token in answer:
            self.counts_V[token] += 1

    def add(self, token: int) -> None:
        """The answer has one more token."""
        self.seen_V[token] = True
        self.counts_V[token] += 1


def penalised(sampling: SamplingParameters) -> bool:
    """Whether a request asks for penalties."""
    return (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty) != (1, 0, 0)


def pick(logits_RV: torch.Tensor, rows: Sequence[Row]) -> tuple[list[int], list[TokenLogprobs | None]]:
    """Pick a token for each row.

    Args:
        logits_RV: the model's, float32; changed in place.

    Returns:
        Token ids, and their log-probabilities where a row asks for them.
    """
    import torch

    told = [i for i, row in enumerate(rows) if row.sampling.logprobs is not None]
    logprobs_TV = None
    if told:  # before anything acts on them
        chosen_TV = logits_RV if len(told) == len(rows) else logits_RV[torch.tensor(told, device=logits_RV.device)]
        logprobs_TV = torch.log_softmax(chosen_TV, -1)
    restrict(logits_RV, rows)
    tokens_R = logits_RV.argmax(-1)
    sampled = [i for i, row in enumerate(rows) if not row.sampling.greedy]
    if sampled:
        at_S = torch.tensor(sampled, device=logits_RV.device)
        every = len(sampled) == len(rows)
        tokens_S = draw(logits_RV if every else logits_RV[at_S], [rows[i] for i in sampled])
        tokens_R = tokens_S if every else tokens_R.index_copy(0, at_S, tokens_S)
    if logprobs_TV is None:
        return tokens_R.tolist(), [None] * len(rows)
    return _with_logprobs(tokens_R, logprobs_TV, told, rows)


def restrict(logits_RV: torch.Tensor, rows: Sequence[Row]) -> None:
    """Apply grammars, ends that are barred, and penalties, in place."""
    import torch

    device = logits_RV.device
    masked = [(i, row.mask) for i, row in enumerate(rows) if row.mask is not None]
    if masked:
        xgrammar = require("xgrammar", "structured")
        bits = torch.full((len(rows), masked[0][1].shape[1]), -1, dtype=torch.int32)
        for i, mask in masked:
            bits[i] = mask[0]
        xgrammar.apply_token_bitmask_inplace(
            logits_RV, bits.to(device, non_blocking=True), vocab_size=logits_RV.shape[1], indices=[i for i, _ in masked]
        )
    barred = [(i, token) for i, row in enumerate(rows) for token in row.barred]
    if barred:
        at = torch.tensor(barred, device=device).T
        logits_RV[at[0], at[1]] = -torch.inf
    held = [(i, row, row.penalties) for i, row in enumerate(rows) if row.penalties is not None]
    if not held:
        return
    at_P = torch.tensor([i for i, _, _ in held], device=device)
    repetition, presence, frequency = (
        torch.tensor([getattr(row.sampling, name) for _, row, _ in held], device=device).unsqueeze(1)
        for name in ("repetition_penalty", "presence_penalty", "frequency_penalty")
    )
    seen_PV = torch.stack([penalties.seen_V for _, _, penalties in held])
    counts_PV = torch.stack([penalties.counts_V for _, _, penalties in held])
    logits_PV = logits_RV[at_P]
    repeated_PV = torch.where(logits_PV > 0, logits_PV / repetition, logits_PV * repetition)
    logits_PV = torch.where(seen_PV, repeated_PV, logits_PV)
    logits_RV[at_P] = logits_PV - presence * (counts_PV > 0) - frequency * counts_PV


def draw(logits_SV: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """Sample a token for each row, (S,): temperature, top-k, top-p, min-p, then the inverse of the distribution."""
    import torch

    logits_SV = narrowed(logits_SV, [row.sampling for row in rows])
    summed_SV = torch.softmax(logits_SV, -1).cumsum(-1)
    draws_S1 = torch.tensor([[row.draw] for row in rows], dtype=torch.float64).to(summed_SV)
    # a float32 draw may round up to 1: then the last token that has any probability
    target_S1 = (draws_S1 * summed_SV[:, -1:]).minimum(torch.nextafter(summed_SV[:, -1:], torch.zeros_like(draws_S1)))
    return torch.searchsorted(summed_SV, target_S1, right=True).squeeze(1)


def narrowed(logits_SV: torch.Tensor, sampling: Sequence[SamplingParameters]) -> torch.Tensor:
    """Logits after temperature, with those of tokens that are not to be sampled at minus infinity."""
    import torch

    device, size = logits_SV.device, logits_SV.shape[1]
    logits_SV = logits_SV / torch.tensor([[s.temperature] for s in sampling], device=device)
    tops = [s.top_k if 0 < s.top_k < size else size for s in sampling]
    if min(tops) < size:
        most = max(k for k in tops if k < size)
        best_SK = logits_SV.topk(most, -1).values
        last_S1 = best_SK.gather(1, torch.tensor([[min(k, most) - 1] for k in tops], device=device))
        all_S1 = torch.tensor([[k == size] for k in tops], device=device)
        logits_SV = logits_SV.masked_fill((logits_SV < last_S1) & ~all_S1, -torch.inf)
    if any(s.top_p < 1 for s in sampling):
        top_p_S1 = torch.tensor([[s.top_p if s.top_p < 1 else math.inf] for s in sampling], device=device)
        logits_SV = _nucleus(logits_SV, top_p_S1)
    if any(s.min_p > 0 for s in sampling):
        share_S1 = torch.tensor([[math.log(s.min_p) if s.min_p > 0 else -math.inf] for s in sampling], device=device)
        floor_S1 = logits_SV.amax(-1, keepdim=True) + share_S1
        logits_SV = logits_SV.masked_fill(logits_SV < floor_S1, -torch.inf)
    return logits_SV


def _nucleus(logits_SV: torch.Tensor, top_p_S1: torch.Tensor) -> torch.Tensor:
    """Keep a token if those more probable than it do not make up ``top_p`` yet (infinity keeps all)."""
    import torch

    probabilities_SV = torch.softmax(logits_SV, -1)
    size = logits_SV.shape[1]
    if logits_SV.device.type == "cpu" and size > _CANDIDATES and not torch.isinf(top_p_S1).any():
        best_SK, at_SK = probabilities_SV.topk(_CANDIDATES, -1)
        before_SK = best_SK.cumsum(-1) - best_SK
        if bool((before_SK[:, -1:] >= top_p_S1).all()):
            return _kept(logits_SV, at_SK, before_SK < top_p_S1)
    best_SV, at_SV = probabilities_SV.sort(-1, descending=True)
    return _kept(logits_SV, at_SV, best_SV.cumsum(-1) - best_SV < top_p_S1)


def _kept(logits_SV: torch.Tensor, at_SK: torch.Tensor, keep_SK: torch.Tensor) -> torch.Tensor:
    import torch

    keep_SK[:, 0] = True  # the most probable one always
    keep_SV = torch.zeros_like(logits_SV, dtype=torch.bool).scatter_(1, at_SK, keep_SK)
    return logits_SV.masked_fill(~keep_SV, -torch.inf)


def _with_logprobs(
    tokens_R: torch.Tensor, logprobs_TV: torch.Tensor, told: list[int], rows: Sequence[Row]
) -> tuple[list[int], list[TokenLogprobs | None]]:
    """Everything in one tensor of float64, which holds token ids exactly, so that one copy brings it."""
    import torch

    at_T = torch.tensor(told, device=tokens_R.device)
    own_T1 = logprobs_TV.gather(1, tokens_R[at_T].unsqueeze(1))
    most = max(rows[i].sampling.logprobs or 0 for i in told)
    top_TK, ids_TK = logprobs_TV.topk(min(most, logprobs_TV.shape[1]), -1)
    parts = [tokens_R, own_T1.flatten(), top_TK.flatten(), ids_TK.flatten()]
    if tokens_R.device.type == "mps":  # it has no float64
        parts = [part.cpu() for part in parts]
    flat = torch.cat([part.double() for part in parts]).tolist()
    count, width = len(told), top_TK.shape[1]
    tokens = [int(token) for token in flat[: len(rows)]]
    own = flat[len(rows) : len(rows) + count]
    top = flat[len(rows) + count : len(rows) + count * (1 + width)]
    ids = flat[len(rows) + count * (1 + width) :]
    logprobs: list[TokenLogprobs | None] = [None] * len(rows)
    for t, i in enumerate(told):
        wanted = rows[i].sampling.logprobs or 0
        best = zip(ids[t * width : t * width + wanted], top[t * width : t * width + wanted], strict=True)
        logprobs[i] = TokenLogprobs(own[t], tuple((int(token), value) for token, value in best))
    return tokens, logprobs

"""The next token of one sequence, in vLLM's order: grammar, least tokens, penalties, temperature, min-p, top-k, top-p."""

from typing import Any

import torch


def next_token(
    logits: torch.Tensor, parameters: Any, prompt: list[int], answer: list[int], ends: set[int], matcher: Any, draw: Any
) -> int:
    """Logits are of one position, ``[V]``."""
    import xgrammar

    logits = logits.float().clone()
    if matcher is not None:
        mask = xgrammar.allocate_token_bitmask(1, logits.shape[0])
        matcher.fill_next_token_bitmask(mask)
        xgrammar.apply_token_bitmask_inplace(logits[None], mask)
    if len(answer) < parameters.min_tokens:
        logits[list(ends)] = -torch.inf
    seen = torch.tensor(sorted({*prompt, *answer}))
    logits[seen] = torch.where(
        logits[seen] > 0, logits[seen] / parameters.repetition_penalty, logits[seen] * parameters.repetition_penalty
    )
    counts = torch.bincount(torch.tensor(answer, dtype=torch.long), minlength=logits.shape[0])
    logits -= parameters.frequency_penalty * counts + parameters.presence_penalty * (counts > 0)
    if parameters.temperature < 1e-5:
        return int(logits.argmax())
    logits /= parameters.temperature
    chances = torch.softmax(logits, -1)
    chances[chances < parameters.min_p * chances.max()] = 0
    ordered, order = chances.sort(descending=True)
    if parameters.top_k > 0:
        ordered[parameters.top_k :] = 0
    ordered /= ordered.sum()
    ordered[ordered.cumsum(0) - ordered >= parameters.top_p] = 0
    return int(order[torch.multinomial(ordered, 1, generator=draw)])

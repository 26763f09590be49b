"""The contest of generation cores: a prompt, one stream and several, and how much worse a core's model predicts.

How exact a core is shows in perplexity: of texts that the first candidate writes itself, at temperature 1, so that they
are of the kind that the model knows, whatever language or code that is. Every core scores the same tokens.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, perf_counter

from deepseek import progress
from deepseek.errors import ConfigError
from deepseek.inference.choice.contest import loaded
from deepseek.inference.choice.outcome import Trial
from deepseek.inference.generation import CORES
from deepseek.inference.generation.core import CoreSettings, GenerationCore
from deepseek.inference.generation.sampling import SamplingParameters
from deepseek.models.checkpoint import Checkpoint

TOLERANCE = 0.02
"""By how much perplexity may change for a packing of weights to count as the same model."""
PROMPT, NEW, STREAMS = 512, 16, 8
TEXTS, WRITTEN = 8, 96
"""Texts that are scored, and tokens of each. By one text of 192 tokens packed weights that are 0.8% worse may seem 2%
worse, and another processor writes another text."""
STEP = 8
"""Tokens at once when it is scored as answers are: a core may compute few tokens otherwise than prompts."""
ROUNDS, LEAST_ROUNDS, SECONDS = 5, 2, 20.0
BEHIND = 2.0
"""Who takes so many times as long as the best in every job, while warming up, is measured no further."""


@dataclass
class _Entrant:
    trial: Trial
    core: GenerationCore
    times: dict[str, list[float]] = field(default_factory=dict)
    perplexity: float | None = None


def held(checkpoint: Checkpoint, trials: Sequence[Trial]) -> list[Trial]:
    """The trials with their times and changes of perplexity; one that cannot load the model has that as its verdict."""
    done: list[Trial] = []
    entrants: list[_Entrant] = []
    settings = CoreSettings(max_sequences=STREAMS, cache_tokens=8192, prefix_reuse=False)

    def load(trial: Trial) -> GenerationCore:
        return CORES.get(trial.runtime).load(checkpoint, device=trial.device, dtype=trial.dtype, settings=settings)

    try:
        with progress.bar("measure generation", len(trials) + ROUNDS, "rounds") as bar:
            for trial, core in loaded(trials, load, done, bar):
                entrants.append(_Entrant(trial, core))  # one by one: what is loaded is closed if the next one fails
                core.settle()
            if entrants:
                _scored(entrants)
                _timed(entrants, lambda: bar.advance(1, note=""))
    finally:
        for entrant in entrants:
            entrant.core.close()
    first = entrants[0].perplexity if entrants else None
    return done + [_trial(entrant, first) for entrant in entrants]


def _trial(entrant: _Entrant, first: float | None) -> Trial:
    error = None
    if first is not None and entrant.perplexity is not None:
        error = abs(entrant.perplexity / first - 1)
    seconds = {name: statistics.median(times) for name, times in entrant.times.items()}
    return entrant.trial.model_copy(update={"seconds": seconds, "error": error})


def _scored(entrants: Sequence[_Entrant]) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    first = entrants[0].core
    room = min(WRITTEN, first.context_length - 2)
    starts = [[token] for token in random.Random(0).choices(range(first.vocabulary), k=TEXTS)]  # noqa: S311 - beginnings
    written = _run(first, starts, SamplingParameters(max_new_tokens=room, temperature=1, seed=0, ignore_eos=True))
    texts = [starts[number] + text for number, text in written]
    for entrant in entrants:
        with suppress(ConfigError):  # a core without logits is not scored
            found = []
            for step_tokens in (None, STEP):
                losses = []
                for ids in texts:
                    [logits] = entrant.core.logits([ids], step_tokens=step_tokens)
                    losses.append(cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none"))
                found.append(math.exp(float(torch.cat(losses).mean())))
            entrant.perplexity = max(found)


def _timed(entrants: Sequence[_Entrant], advance: Callable[[], None]) -> None:
    words = random.Random(1)  # noqa: S311 - tokens of prompts, not a secret
    size = min(entrant.core.vocabulary for entrant in entrants)
    longest = min(PROMPT, *(entrant.core.context_length // 2 for entrant in entrants))
    short = min(32, longest)

    def prompt(tokens: int) -> list[int]:
        return [words.randrange(size) for _ in range(tokens)]

    jobs = {
        f"prompt of {longest}": ([prompt(longest)], 1),
        f"1 x {NEW} tokens": ([prompt(short)], NEW),
        f"{STREAMS} x {NEW} tokens": ([prompt(short) for _ in range(STREAMS)], NEW),
    }
    first = {each.trial.name: {name: _seconds(each.core, *job) for name, job in jobs.items()} for each in entrants}
    best = {name: min(times[name] for times in first.values()) for name in jobs}
    started = monotonic()
    for number in range(ROUNDS):
        if number >= LEAST_ROUNDS and monotonic() - started > SECONDS:
            break
        for name, job in jobs.items():
            for entrant in entrants:
                warm = first[entrant.trial.name]
                if all(warm[each] > BEHIND * best[each] for each in jobs):
                    entrant.times[name] = [warm[name]]
                else:
                    entrant.times.setdefault(name, []).append(_seconds(entrant.core, *job))
        advance()


def _seconds(core: GenerationCore, prompts: Sequence[Sequence[int]], new: int) -> float:
    begun = perf_counter()
    _run(core, prompts, SamplingParameters(max_new_tokens=new, ignore_eos=True))
    return perf_counter() - begun


def _run(
    core: GenerationCore, prompts: Sequence[Sequence[int]], sampling: SamplingParameters
) -> list[tuple[int, list[int]]]:
    """Answers by the number of their prompt."""
    answers: dict[int, list[int]] = {number: [] for number in range(len(prompts))}
    for number, prompt in enumerate(prompts):
        core.add(number, prompt, sampling)
    while core.busy:
        for step in core.step():
            answers[step.sequence] += step.token_ids
    return list(answers.items())

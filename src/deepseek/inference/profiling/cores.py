"""A generation core from outside: how long it reads prompts, and how long a decoding step takes.

Only the contract is used (``add``, ``step``), so it holds for every core. Prompts are random tokens, new ones each
round, so that no core can reuse what it has in its cache.
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError, EngineError
from deepseek.inference.generation.core import GenerationCore
from deepseek.inference.generation.sampling import SamplingParameters
from deepseek.inference.profiling.outcome import Phase
from deepseek.inference.profiling.passes import listed
from deepseek.inference.profiling.work import Sizes, decode_work, prefill_work

if TYPE_CHECKING:
    from deepseek.inference.hardware import HardwarePeaks

WARM_UP, ROUNDS = 1, 3


def profile_generation(
    core: GenerationCore,
    prompt_tokens: int = 128,
    streams: Sequence[int] | int = (1,),
    *,
    new_tokens: int = 32,
    vocabulary: int = 1000,
    rounds: int = ROUNDS,
    reference: Any = None,
    sizes: Sizes | None = None,
    peaks: HardwarePeaks | None = None,
    precision: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Phase, ...]:
    """Time a core's prefill and decoding, two phases for each number of streams.

    A prefill is all from adding the prompts until each has its first token. Decoding begins when all run and ends with
    the first that finishes; where a step may give a sequence several tokens, ``new_tokens`` of the phase is their mean.

    Args:
        core: with nothing in it; nothing is left in it.
        prompt_tokens: of each prompt.
        streams: sequences at once, one pair of phases for each number.
        new_tokens: of each sequence, at least 3.
        vocabulary: prompts are of tokens below it.
        rounds: that are measured, after one that warms up.
        reference, sizes: a model without weights (:func:`deepseek.inference.profiling.reference`) and the bytes of the
            core's numbers, to count the work; ``None``: times only.
        peaks, precision: what the device does at most, and in which precision the core multiplies.
        clock: seconds of a clock that is read between steps.

    Raises:
        ConfigError: a number is out of range, or the sequences do not fit into the core's context.
        EngineError: the core stopped before all had their tokens, or runs fewer streams at once.
    """
    counts = listed(streams)
    if prompt_tokens < 1 or new_tokens < 3 or rounds < 1 or vocabulary < 2 or not counts or min(counts) < 1:
        raise ConfigError(
            "expected prompts, streams and rounds of at least 1, a vocabulary of 2 and 3 new tokens, received "
            f"{prompt_tokens}, {listed(streams)}, {rounds}, {vocabulary} and {new_tokens}"
        )
    if prompt_tokens + new_tokens > core.context_length:
        raise ConfigError(
            f"the core has room for {core.context_length} tokens a sequence; {prompt_tokens} of the prompt and "
            f"{new_tokens} new ones are more"
        )
    if core.busy:
        raise ConfigError("the core has sequences that are not finished; profile one that has none")
    core.settle()
    allowed = [token for token in range(vocabulary) if token not in core.end_tokens]
    found: list[Phase] = []
    names = itertools.count()
    for count in counts:
        taken = [
            _round(core, prompt_tokens, list(itertools.islice(names, count)), new_tokens, allowed, clock)
            for _ in range(WARM_UP + rounds)
        ][WARM_UP:]
        prefills = tuple(max(prefill, 1e-9) for prefill, _, _ in taken)
        steps = tuple(max(step, 1e-9) for _, each, _ in taken for step in each)
        made = statistics.fmean(tokens for _, _, each in taken for tokens in each)
        middle = prompt_tokens + new_tokens // 2
        pair = [
            Phase("prefill", count, prompt_tokens, prefills, count * prompt_tokens),
            Phase("decode", count, middle, steps, made),
        ]
        if reference is not None and sizes is not None:
            works = (prefill_work(reference, count, prompt_tokens, sizes), decode_work(reference, count, middle, sizes))
            pair = [replace(phase, work=work) for phase, work in zip(pair, works, strict=True)]
        found += pair if peaks is None else [phase.under(peaks, precision) for phase in pair]
    return tuple(found)


def _round(
    core: GenerationCore,
    prompt_tokens: int,
    names: Sequence[int],
    new_tokens: int,
    allowed: Sequence[int],
    clock: Callable[[], float],
) -> tuple[float, list[float], list[int]]:
    """(seconds of the prefill, seconds of each decoding step in which all ran, tokens of each)."""
    drawn, count = random.Random(names[0]), len(names)  # noqa: S311 - no secret
    sampling = SamplingParameters(max_new_tokens=new_tokens, min_new_tokens=new_tokens, ignore_eos=True)
    waiting, running = set(names), set(names)
    started = clock()
    for sequence in names:
        core.add(sequence, [drawn.choice(allowed) for _ in range(prompt_tokens)], sampling)
    prefill: float | None = None
    steps: list[float] = []
    tokens: list[int] = []
    try:
        while running:
            begun = clock()
            answers = core.step()
            over = clock()
            gone = {step.sequence for step in answers if step.finish_reason is not None}
            fresh = sum(len(step.token_ids) for step in answers if step.sequence in running)
            if prefill is not None and len(running) == count and not gone:
                steps.append(over - begun)
                tokens.append(fresh)
            waiting -= {step.sequence for step in answers if step.token_ids}
            if prefill is None and not waiting:
                prefill = over - started
            running -= gone
            if running and not core.busy:
                raise EngineError(f"the core stopped with {len(running)} of {count} sequences unfinished")
    finally:
        for sequence in names:
            core.cancel(sequence)
    if prefill is None or not steps:
        raise EngineError(
            f"the core never ran {count} sequences at once for {new_tokens} tokens each; load it with "
            f"max_sequences={count} or more and room for {count * (prompt_tokens + new_tokens)} tokens in its cache"
        )
    return prefill, steps, tokens

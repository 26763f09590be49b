"""What cores with a paged cache share: all but the model's own computation.

Continuous batching: the files beside this one say how. Covered: prefix reuse, chunked prompts, preemption, guesses that
are verified (prompt lookup, a draft model), sampling, grammars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepseek.errors import DataError, EngineError, UnknownNameError
from deepseek.inference.generation.core import CoreSettings, GenerationCore, Step, TokenLogprobs
from deepseek.inference.generation.paged.blocks import BLOCK, BlockPool, blocks_for
from deepseek.inference.generation.paged.cache_size import cache_blocks
from deepseek.inference.generation.paged.drawing import Draws
from deepseek.inference.generation.paged.grammars import Grammars
from deepseek.inference.generation.paged.guessing import DraftModel, Guesser, NoGuesser, PromptLookup, same_tokens
from deepseek.inference.generation.paged.model import PagedModel, Piece
from deepseek.inference.generation.paged.picking import Occurrences, Row, penalised, pick
from deepseek.inference.generation.paged.scheduling import Chunk, Running, Scheduler
from deepseek.inference.generation.sampling import SamplingParameters
from deepseek.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

_LEAST_TOKENS = 16


@dataclass
class Loaded:
    """What a core loaded.

    Attributes:
        model: with its cache.
        blocks: of the cache.
        context: tokens of the longest sequence that model and cache have room for.
        ends: tokens that end a text.
        grammars: compiles for the model's tokens.
        guesser: guesses next tokens.
        adapters: names in index order.
    """

    model: PagedModel
    blocks: int
    context: int
    ends: frozenset[int]
    grammars: Grammars
    guesser: Guesser
    adapters: list[str]


def loaded(
    model: PagedModel,
    checkpoint: Checkpoint,
    settings: CoreSettings,
    *,
    draft: PagedModel | None = None,
    ends: frozenset[int] | None = None,
    adapters: Sequence[str] = (),
) -> Loaded:
    """Give a model, and the draft that ``settings`` name, their caches.

    Args:
        ends: tokens that end a text; ``None``: the tokenizer's.

    Raises:
        ConfigError: memory has no room for a cache, or the draft has other tokens.
    """
    from deepseek.models.loading import tokenizer_for

    guesser: Guesser = PromptLookup(settings.prompt_lookup) if settings.prompt_lookup else NoGuesser()
    models = [model]
    if draft is not None and settings.draft is not None:
        names = (checkpoint.name, settings.draft.name)
        same_tokens(tokenizer_for(checkpoint), tokenizer_for(settings.draft), names)
        guesser = DraftModel(draft, settings.draft_tokens, model.vocabulary)
        models.append(draft)
    blocks = cache_blocks(settings, model.context_length, sum(m.token_bytes for m in models), model.device)
    for each in models:
        each.allocate(blocks)
    if ends is None:
        own = tokenizer_for(checkpoint).eos_token_id
        ends = frozenset() if own is None else frozenset([own])
    return Loaded(
        model=model,
        blocks=blocks,
        context=min(blocks * BLOCK, model.context_length or blocks * BLOCK),
        ends=ends,
        grammars=Grammars(lambda: tokenizer_for(checkpoint), model.vocabulary, ends),
        guesser=guesser,
        adapters=list(adapters),
    )


class PagedCore(GenerationCore):
    """Continues sequences with a :class:`PagedModel`."""

    def __init__(self, loaded: Loaded, settings: CoreSettings) -> None:
        self._model, self._loaded = loaded.model, loaded
        self._pool = BlockPool(loaded.blocks, reuse=settings.prefix_reuse and loaded.model.shares_blocks)
        self._scheduler = Scheduler(self._pool, settings.max_sequences, settings.max_step_tokens, loaded.guesser.count)
        self._occurrences: dict[int, Occurrences] = {}

    @property
    def context_length(self) -> int:
        return self._loaded.context

    @property
    def vocabulary(self) -> int:
        return self._model.vocabulary

    @property
    def weight_bytes(self) -> int:
        return self._model.weight_bytes

    @property
    def end_tokens(self) -> frozenset[int]:
        return self._loaded.ends

    def check(self, sampling: SamplingParameters) -> None:
        if sampling.grammar is not None:
            self._loaded.grammars.compiled(sampling.grammar)

    def add(
        self, sequence: int, prompt: Sequence[int], sampling: SamplingParameters, adapter: str | None = None
    ) -> None:
        if adapter is not None and adapter not in self._loaded.adapters:
            raise UnknownNameError("adapter", adapter, self._loaded.adapters)
        if not prompt or len(prompt) + sampling.max_new_tokens > self.context_length:
            raise DataError(
                f"expected a prompt of 1 to {self.context_length - sampling.max_new_tokens:,} tokens (the context has "
                f"{self.context_length:,}, the answer up to {sampling.max_new_tokens:,}), received {len(prompt):,}"
            )
        if max(prompt) >= self._model.vocabulary:
            raise DataError(f"expected token ids below {self._model.vocabulary}, received {max(prompt)}")
        if penalised(sampling):
            self._occurrences[sequence] = Occurrences(prompt, [], self._model.vocabulary, self._model.device)
        self._scheduler.add(
            Running(
                sequence,
                list(prompt),
                len(prompt),
                sampling,
                Draws(sampling.seed),
                adapter=-1 if adapter is None else self._loaded.adapters.index(adapter),
                grammar=None if sampling.grammar is None else self._loaded.grammars.follower(sampling.grammar),
            )
        )

    def cancel(self, sequence: int) -> None:
        self._scheduler.remove(sequence)
        self._occurrences.pop(sequence, None)

    @property
    def busy(self) -> bool:
        return bool(self._scheduler.running or self._scheduler.waiting)

    def settle(self) -> None:
        self._model.settle()

    def usage(self) -> dict[str, float]:
        return {
            "running": float(len(self._scheduler.running)),
            "waiting": float(len(self._scheduler.waiting)),
            "cache_share": 1 - self._pool.available / self._pool.count,
            "preempted": float(self._scheduler.preempted),
        }

    def logits(self, sequences: Sequence[Sequence[int]], *, step_tokens: int | None = None) -> list[torch.Tensor]:
        import torch

        self.settle()
        found = []
        with torch.inference_mode():
            for ids in sequences:
                blocks = self._room(blocks_for(len(ids)))
                try:
                    size = min(step_tokens or self._scheduler.max_step_tokens, self._scheduler.max_step_tokens)
                    parts = [
                        self._model.forward([Piece(ids[at : at + size], at, blocks, rows=len(ids[at : at + size]))])
                        .float()
                        .cpu()
                        .clone()
                        for at in range(0, len(ids), size)
                    ]
                finally:
                    self._pool.release(blocks)
                found.append(torch.cat(parts))
        return found

    def _room(self, count: int) -> list[int]:
        """Blocks for a moment; running sequences give way for them."""
        while (blocks := self._pool.take(count)) is None:
            if not self._scheduler.give_way():
                raise DataError(
                    f"expected a sequence of at most {self._pool.count * BLOCK:,} tokens, which the cache has room for"
                )
        return blocks

    def close(self) -> None:
        for sequence in [*self._scheduler.running, *self._scheduler.waiting]:
            self.cancel(sequence.number)
        self._model.release()

    def step(self) -> list[Step]:
        import torch

        while chunks := self._scheduler.schedule():
            try:
                with torch.inference_mode():
                    return self._compute(chunks)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                self._shrink(error)
        return []

    def _compute(self, chunks: list[Chunk]) -> list[Step]:
        """One pass; nothing is changed before all of it is computed, so that a step can be tried again."""
        guesser = self._loaded.guesser
        guessing = [chunk for chunk in chunks if chunk.guesses]
        guesses = dict(zip(map(id, guessing), guesser.guess(guessing) if guessing else [], strict=True))
        guesser.follow([chunk for chunk in chunks if chunk.stop - chunk.start > 1 or not chunk.whole])
        pieces = [_piece(chunk, guesses.get(id(chunk), [])) for chunk in chunks]
        order = self._model.ordered(pieces)
        logits = self._model.forward([pieces[at] for at in order])
        rows = [self._row(chunks[at].sequence, ahead) for at in order for ahead in range(pieces[at].rows)]
        picked = iter(zip(*pick(logits, rows), strict=True)) if rows else iter(())
        steps = []
        for at in order:
            chunk = chunks[at]
            if chunk.whole:
                own = [next(picked) for _ in range(pieces[at].rows)]
                steps.append(self._apply(chunk, guesses.get(id(chunk), []), own))
            else:
                self._scheduler.computed(chunk.sequence, chunk.stop)
        return steps

    def _row(self, sequence: Running, ahead: int) -> Row:
        """How to pick the token ``ahead`` places after the next one."""
        sampling, place = sequence.sampling, sequence.answered + ahead
        barred: list[int] = []
        early = place < sampling.min_new_tokens
        if early:
            ends = set(sampling.stop_token_ids) | (
                set() if sequence.grammar or sampling.ignore_eos else self.end_tokens
            )
            barred = sorted(end for end in ends if end < self._model.vocabulary)
        mask = None
        if sequence.grammar is not None:
            mask = sequence.grammar.without_end() if early else sequence.grammar.mask
        return Row(
            sampling,
            0.0 if sampling.greedy else sequence.draws.at(place),
            place,
            barred,
            mask,
            self._occurrences.get(sequence.number),
        )

    def _apply(self, chunk: Chunk, guesses: list[int], picked: list[tuple[int, TokenLogprobs | None]]) -> Step:
        """Add what was picked to a sequence, as far as guesses were right, and see whether that ends it."""
        sequence = chunk.sequence
        fresh: list[int] = []
        logprobs: list[TokenLogprobs] = []
        reason: str | None = None
        for (token, logprob), guess in zip(picked, [*guesses, None], strict=True):
            if self._ends(sequence, token):
                reason = "stop"
                break
            fresh.append(token)
            sequence.tokens.append(token)
            if logprob is not None:
                logprobs.append(logprob)
            if sequence.number in self._occurrences:
                self._occurrences[sequence.number].add(token)
            if sequence.grammar is not None:
                sequence.grammar.accept(token)
                reason = "stop" if sequence.grammar.complete else None
            if reason is None and sequence.left == 0:
                reason = "length"
            if reason is not None or token != guess:
                break
        accepted = max(0, len(fresh) - 1)
        self._scheduler.computed(sequence, chunk.stop + accepted)
        if guesses:
            self._loaded.guesser.verified(chunk, accepted)
        if reason is not None:
            self.cancel(sequence.number)
        return Step(sequence.number, tuple(fresh), tuple(logprobs), reason)

    def _ends(self, sequence: Running, token: int) -> bool:
        sampling = sequence.sampling
        if token in sampling.stop_token_ids:
            return True
        return token in self.end_tokens and (sequence.grammar is not None or not sampling.ignore_eos)

    def _shrink(self, error: BaseException) -> None:
        """Run less at once, for good: memory that was short will be short again."""
        import torch

        scheduler = self._scheduler
        if scheduler.max_step_tokens <= _LEAST_TOKENS and scheduler.max_sequences <= 1:
            raise EngineError(
                f"out of memory on {self._model.device} even with one sequence and {scheduler.max_step_tokens} tokens "
                "a step; give the cache less ('cache_tokens'), or take a smaller model or 'dtype'"
            ) from error
        scheduler.max_step_tokens = max(_LEAST_TOKENS, scheduler.max_step_tokens // 2)
        scheduler.max_sequences = max(1, min(scheduler.max_sequences // 2, scheduler.max_step_tokens))
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()


def _piece(chunk: Chunk, guesses: list[int]) -> Piece:
    sequence = chunk.sequence
    ids = sequence.tokens[chunk.start : chunk.stop] + guesses
    return Piece(ids, chunk.start, sequence.blocks, 1 + len(guesses) if chunk.whole else 0, sequence.adapter)


def _out_of_memory(error: Any) -> bool:
    """PyTorch's error on a GPU is a RuntimeError of its own; that of its CPU allocator has no type."""
    import torch

    text = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "DefaultCPUAllocator" in text
        or "can't allocate memory" in text
    )

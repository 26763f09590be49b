"""The contract of a generation core: sequences of tokens in, tokens out, many sequences at once.

A core is not shared by threads: :class:`~deepseek.inference.generation.engine.GenerationEngine` alone calls it, from
one thread, and gives it texts, stop strings, streams, queues and cancellation. What a core adds is how: which kernels,
how its key-value cache is kept, and which sequences run in a step (continuous batching: Orca, OSDI 2022; paged cache:
vLLM, arXiv 2309.06180; chunked prefill: Sarathi-Serve, arXiv 2403.02310).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from deepseek.errors import ConfigError
from deepseek.inference.generation.sampling import SamplingParameters
from deepseek.inference.runtime import Availability
from deepseek.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class CoreSettings:
    """What a core may use, and how it should run.

    Attributes:
        max_sequences: sequences that run in one step; more wait.
        max_step_tokens: tokens, of prompts and of running sequences together, that one step computes; a longer prompt
            takes several steps, so that running sequences are not kept waiting.
        cache_tokens: tokens that the key-value cache has room for; ``None``: what memory allows, at most what
            ``max_sequences`` of the model's context need.
        prefix_reuse: sequences that begin alike share that part of the cache.
        prompt_lookup: guess so many next tokens a step from where the prompt had the last ones before (prompt lookup
            decoding); 0: none. Greedy answers stay the same.
        draft: a smaller model with the same tokens that guesses (speculative decoding, arXiv 2211.17192).
        draft_tokens: how many tokens ``draft`` guesses a step.
        adapters: LoRA adapter folders in PEFT's format by name; a request may name one.
    """

    max_sequences: int = 64
    max_step_tokens: int = 2048
    cache_tokens: int | None = None
    prefix_reuse: bool = True
    prompt_lookup: int = 0
    draft: Checkpoint | None = None
    draft_tokens: int = 4
    adapters: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, low in (("max_sequences", 1), ("max_step_tokens", 16), ("prompt_lookup", 0), ("draft_tokens", 1)):
            if getattr(self, name) < low:
                raise ConfigError(f"expected {name!r} of at least {low}, received {getattr(self, name)!r}")
        if self.cache_tokens is not None and self.cache_tokens < 32:
            raise ConfigError(f"expected 'cache_tokens' of at least 32, received {self.cache_tokens!r}")
        if self.draft is not None and self.prompt_lookup:
            raise ConfigError("give 'draft' or 'prompt_lookup', not both")


@dataclass(frozen=True)
class TokenLogprobs:
    """A token's log-probability, and the most probable tokens in its place with theirs, best first."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Step:
    """What one sequence got in one step.

    Attributes:
        sequence: the number that :meth:`GenerationCore.add` was given.
        token_ids: new tokens, one or (speculative decoding) several; none when only the reason is new. A token that
            ends the text (end of text, one of ``stop_token_ids``) is not among them.
        logprobs: one for each token when asked for, else none.
        finish_reason: ``"stop"`` (end of text, a stop token, a complete grammar) or ``"length"``; ``None``: it goes on.
    """

    sequence: int
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: str | None = None


class GenerationCore(ABC):
    """A loaded model that continues sequences."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def available(cls) -> Availability:
        """Look at this machine; never raises."""

    @classmethod
    def precisions(cls, checkpoint: Checkpoint, device: str) -> tuple[str, ...]:
        """Values of ``dtype`` that are worth measuring on a device, the most exact first; none: it cannot run there."""
        return ("auto",)

    @classmethod
    @abstractmethod
    def load(
        cls, checkpoint: Checkpoint, *, device: str = "auto", dtype: str = "auto", settings: CoreSettings
    ) -> GenerationCore:
        """Load a checkpoint of a causal language model.

        Args:
            device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
            dtype: precision of weights: ``"auto"``, ``"float32"``, ``"bfloat16"``, ``"float16"``, ``"int8"``,
                ``"int4"``, as far as this core knows them.

        Raises:
            ConfigError: the device or precision is not here, or this core cannot run the model or a setting; the
                message says which core can.
            UnknownNameError: ``dtype`` is none of those that this core knows.
        """

    @property
    @abstractmethod
    def context_length(self) -> int:
        """Tokens of the longest sequence, prompt and answer together, that the model and the cache have room for."""

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """Tokens that the model tells apart; ids are below it."""

    @property
    @abstractmethod
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a text."""

    @abstractmethod
    def check(self, sampling: SamplingParameters) -> None:
        """See whether this core can do what a request asks for; called from any thread.

        Raises:
            ConfigError: it cannot, or a grammar is wrong; the message says what.
        """

    @abstractmethod
    def add(
        self, sequence: int, prompt: Sequence[int], sampling: SamplingParameters, adapter: str | None = None
    ) -> None:
        """Take a sequence up; it runs from the next step on, or waits until there is room.

        Args:
            sequence: a number that no other sequence has.
            prompt: at least one token id; with ``max_new_tokens`` at most :attr:`context_length`.
            adapter: a name of ``CoreSettings.adapters``.
        """

    @abstractmethod
    def step(self) -> list[Step]:
        """Compute one step and return what is new; a sequence that finished is forgotten."""

    @abstractmethod
    def cancel(self, sequence: int) -> None:
        """Forget a sequence and free its cache; one that is not known is ignored."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether there is a sequence that has not finished."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that a step reads, as this core keeps them; 0 where it does not tell."""
        return 0

    def logits(self, sequences: Sequence[Sequence[int]], *, step_tokens: int | None = None) -> list[torch.Tensor]:
        """The model's outputs for whole sequences, for scoring: (tokens, vocabulary) each, float32, on the CPU.

        Args:
            step_tokens: compute at most so many tokens at once, as answers are; ``None``: as prompts are.

        Raises:
            ConfigError: this core gives no logits.
        """
        raise ConfigError(f"the generation core {self.name!r} gives no logits; score with the runtime 'torch'")

    def settle(self) -> None:  # noqa: B027 - most have nothing to wait for
        """Wait for what is prepared in the background: steps after this take as long as they always will."""

    def usage(self) -> dict[str, float]:
        """Numbers for monitoring: ``running``, ``waiting``, ``cache_share`` (of the cache in use), as known."""
        return {}

    def close(self) -> None:  # noqa: B027 - many hold nothing that Python does not free
        """Free what the core holds."""

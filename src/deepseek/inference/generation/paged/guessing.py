"""Guesses of next tokens, verified several at once (speculative decoding, arXiv 2211.17192 and 2302.01318).

A guess is right when it is the token that the model picks there itself. So greedy answers are those without guesses,
and sampled ones too, token for token (up to rounding): each place of an answer has its own random number, and a guess
is accepted with the model's probability of it, which is the papers' rule for drafts without randomness.

Requests with penalties or a grammar are not guessed for: what they allow next depends on each token before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from deepseek.errors import ConfigError
from deepseek.inference.generation.paged.model import PagedModel, Piece
from deepseek.inference.generation.paged.picking import penalised
from deepseek.inference.generation.paged.scheduling import Chunk, Running

_LONGEST, _SHORTEST = 3, 2
"""Tokens that must have occurred before, for what followed them to be guessed."""


class Guesser(ABC):
    """Guesses tokens."""

    def count(self, sequence: Running) -> int:
        """How many guesses to make room for."""
        if sequence.grammar is not None or penalised(sequence.sampling):
            return 0
        return self._count(sequence)

    @abstractmethod
    def _count(self, sequence: Running) -> int: ...

    @abstractmethod
    def guess(self, chunks: Sequence[Chunk]) -> list[list[int]]:
        """At most ``chunk.guesses`` tokens for each."""

    def follow(self, chunks: Sequence[Chunk]) -> None:  # noqa: B027 - most need not
        """The model computes parts of prompts."""

    def verified(self, chunk: Chunk, accepted: int) -> None:  # noqa: B027 - most need not
        """So many guesses for a chunk were right."""


class NoGuesser(Guesser):
    """Guesses nothing."""

    def _count(self, sequence: Running) -> int:
        return 0

    def guess(self, chunks: Sequence[Chunk]) -> list[list[int]]:
        return [[] for _ in chunks]


class PromptLookup(Guesser):
    """What followed the last tokens where they occurred before, in prompt or answer (prompt lookup decoding).

    Args:
        tokens: at most so many guesses.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._places: WeakKeyDictionary[Running, _Places] = WeakKeyDictionary()

    def _count(self, sequence: Running) -> int:
        return len(self._found(sequence))

    def guess(self, chunks: Sequence[Chunk]) -> list[list[int]]:
        return [self._found(chunk.sequence)[: chunk.guesses] for chunk in chunks]

    def _found(self, sequence: Running) -> list[int]:
        if sequence not in self._places:
            self._places[sequence] = _Places()
        at = self._places[sequence].after_last(sequence.tokens)
        return [] if at is None else sequence.tokens[at : at + self._tokens]


class _Places:
    """Where each short run of tokens was last followed by another token."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}
        self._read = 0

    def after_last(self, tokens: list[int]) -> int | None:
        """The place after the latest earlier occurrence of the last tokens."""
        for end in range(max(self._read, _SHORTEST), len(tokens)):
            for size in range(_SHORTEST, min(_LONGEST, end) + 1):
                self._ends[tuple(tokens[end - size : end])] = end
        self._read = len(tokens)
        for size in range(_LONGEST, _SHORTEST - 1, -1):
            at = self._ends.get(tuple(tokens[-size:]))
            if at is not None:
                return at
        return None


class DraftModel(Guesser):
    """A smaller model's greedy answer. Its cache has the blocks that the model's has, under the same numbers.

    Each guess is one pass of the draft, whose tokens the host reads.

    Args:
        model: with its cache.
        tokens: so many guesses.
        vocabulary: of the model that verifies; models of one family may fill theirs up to different sizes.
    """

    def __init__(self, model: PagedModel, tokens: int, vocabulary: int) -> None:
        self._model, self._tokens, self._vocabulary = model, tokens, vocabulary

    def _count(self, sequence: Running) -> int:
        context = self._model.context_length
        fits = context is None or len(sequence.tokens) + self._tokens <= context
        return self._tokens if fits else 0

    def follow(self, chunks: Sequence[Chunk]) -> None:
        pieces = [
            Piece(c.sequence.tokens[c.start : c.stop], c.start, c.sequence.blocks, rows=0)
            for c in chunks
            if self.count(c.sequence)
        ]
        if pieces:
            self._answers(pieces)
        for chunk in chunks:
            chunk.sequence.drafted = chunk.stop

    def guess(self, chunks: Sequence[Chunk]) -> list[list[int]]:
        guesses: list[list[int]] = [[] for _ in chunks]
        pieces = [
            Piece(c.sequence.tokens[c.sequence.drafted :], c.sequence.drafted, c.sequence.blocks, rows=1)
            for c in chunks
        ]
        going = list(range(len(chunks)))
        while going:
            for at, token in zip(going, self._answers(pieces), strict=True):
                guesses[at].append(token)
            going = [at for at in going if len(guesses[at]) < chunks[at].guesses]
            pieces = [
                Piece([guesses[at][-1]], chunks[at].stop + len(guesses[at]) - 1, chunks[at].sequence.blocks, rows=1)
                for at in going
            ]
        return guesses

    def verified(self, chunk: Chunk, accepted: int) -> None:
        # the last guess was not computed by the draft itself
        chunk.sequence.drafted = chunk.stop + min(accepted, chunk.guesses - 1)

    def _answers(self, pieces: Sequence[Piece]) -> list[int]:
        most = self._model.vocabulary - 1
        for piece in pieces:
            piece.ids = [min(token, most) for token in piece.ids]
        order = self._model.ordered(pieces)
        logits = self._model.forward([pieces[at] for at in order])
        tokens = logits[:, : self._vocabulary].argmax(-1).tolist()
        answers = dict(zip((at for at in order if pieces[at].rows), tokens, strict=True))
        return [answers[at] for at in sorted(answers)]


def same_tokens(target: Any, draft: Any, names: Sequence[str]) -> None:
    """See whether two tokenizers have the same tokens.

    Raises:
        ConfigError: they have not.
    """
    if target.get_vocab() != draft.get_vocab():
        raise ConfigError(
            f"the draft {names[1]!r} has other tokens than {names[0]!r}: a draft must be of the same family"
        )

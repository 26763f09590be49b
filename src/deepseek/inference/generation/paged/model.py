"""What a model must do to run on a paged cache: parts of many sequences in one pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass
class Piece:
    """New tokens of one sequence.

    Attributes:
        ids: the tokens.
        start: place of the first one in the sequence; all before are in the cache.
        blocks: of the sequence, for these tokens too.
        rows: of how many of the last tokens logits are wanted.
        adapter: index; -1 for none.
    """

    ids: Sequence[int]
    start: int
    blocks: Sequence[int]
    rows: int
    adapter: int = -1


class PagedModel(ABC):
    """A model and its cache.

    Attributes:
        name: for messages.
        device: where its logits are.
        vocabulary: size of its output.
        context_length: tokens that its positions cover; ``None`` where its config does not say.
        token_bytes: of the cache that one token takes.
        weight_bytes: of the weights, as they are kept.
    """

    name: str
    device: torch.device
    vocabulary: int
    context_length: int | None
    token_bytes: int
    weight_bytes: int

    @abstractmethod
    def allocate(self, blocks: int) -> None:
        """Make the cache, of so many blocks; what was in one before is lost."""

    @abstractmethod
    def release(self) -> None:
        """Free the cache."""

    def ordered(self, pieces: Sequence[Piece]) -> list[int]:
        """Indices of pieces in the order in which :meth:`forward` wants them."""
        return list(range(len(pieces)))

    @abstractmethod
    def forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """Compute a step; returns logits of the rows asked for, (rows, vocabulary), float32, in the pieces' order.

        The caller may change them; they are valid until the next step.
        """

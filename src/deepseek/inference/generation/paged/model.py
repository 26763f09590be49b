"""What a model must do to run on a paged cache: parts of many sequences in one pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

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


def parts(pieces: Sequence[Piece], most: int) -> Iterator[list[Piece]]:
    """The pieces, cut into passes of at most so many tokens that follow each other; rows come in the same order."""
    part: list[Piece] = []
    room = most
    for piece in pieces:
        count, at = len(piece.ids), 0
        while at < count:
            end = min(count, at + room)
            rows = max(0, end - max(at, count - piece.rows))
            part.append(Piece(piece.ids[at:end], piece.start + at, piece.blocks, rows, piece.adapter))
            room -= end - at
            at = end
            if not room:
                yield part
                part, room = [], most
    if part:
        yield part


class PagedModel(ABC):
    """A model and its cache.

    Attributes:
        name: for messages.
        device: where its logits are.
        vocabulary: size of its output.
        context_length: tokens that its positions cover; ``None`` where its config does not say.
        token_bytes: of the cache that one token takes.
        weight_bytes: of the weights, as they are kept.
        shares_blocks: whether sequences that begin alike can share the blocks of that beginning.
    """

    shares_blocks: ClassVar[bool] = True
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

    def settle(self) -> None:  # noqa: B027 - most have nothing to wait for
        """Wait for what is prepared in the background, if anything is; later steps are computed as all that follow."""

    def ordered(self, pieces: Sequence[Piece]) -> list[int]:
        """Indices of pieces in the order in which :meth:`forward` wants them."""
        return list(range(len(pieces)))

    @abstractmethod
    def forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """Compute a step; returns logits of the rows asked for, (rows, vocabulary), float32, in the pieces' order.

        The caller may change them; they are valid until the next step.
        """

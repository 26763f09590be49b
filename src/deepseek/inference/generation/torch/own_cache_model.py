"""A language model whose attention reads a cache of its own kind, which no paged cache can stand in for: DeepSeek-Base.

Each sequence has a cache of transformers' and runs alone; the scheduler still counts blocks, so that memory stays
within the cache's budget, but nothing is in them. A sequence is known by its first block; the cache of one that ended
goes when one of its blocks is given to another. A cache that is ahead of its sequence, because guesses were wrong or a
step is tried again, is cut.

Not covered: several sequences in one pass (each step's cost grows with their number), shared beginnings, adapters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from deepseek.inference.generation.paged.model import PagedModel, Piece

if TYPE_CHECKING:
    import torch

MODEL_TYPES = frozenset({"deepseek-base"})
"""``model_type`` of the configs of such models."""


class OwnCacheModel(PagedModel):
    """A transformers model in evaluation mode, on its device, with :class:`transformers.DynamicCache` for a cache."""

    shares_blocks: ClassVar[bool] = False

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name
        config = model.config
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.vocabulary = int(config.vocab_size)
        self.context_length: int | None = getattr(config, "max_position_embeddings", None)
        width = config.num_attention_heads * (config.content_dim + config.rotary_dim + config.head_dim)
        self.token_bytes = config.num_hidden_layers * width * self.dtype.itemsize
        self.weight_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        self._caches: dict[int, Any] = {}
        self._owners: dict[int, int] = {}

    def allocate(self, blocks: int) -> None:
        self.release()

    def release(self) -> None:
        self._caches, self._owners = {}, {}

    def forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        import torch

        logits = [self._logits(piece) for piece in pieces]
        return torch.cat(logits) if logits else torch.empty(0, self.vocabulary, device=self.device)

    def _logits(self, piece: Piece) -> torch.Tensor:
        """Logits of the rows that a piece asks for, (rows, vocabulary)."""
        import torch

        ids = torch.tensor([list(piece.ids)], device=self.device)
        outputs = self.model(
            input_ids=ids,
            past_key_values=self._cache(piece),
            use_cache=True,
            logits_to_keep=max(piece.rows, 1),  # 0 would keep all
        )
        return outputs.logits[0, len(outputs.logits[0]) - piece.rows :].float()

    def _cache(self, piece: Piece) -> Any:
        """The cache of a piece's sequence, of the tokens before the piece."""
        from transformers import DynamicCache

        own = piece.blocks[0]
        if piece.start == 0:
            self._forget(own)
            self._caches[own] = DynamicCache()
        for block in piece.blocks:
            before = self._owners.get(block, own)
            if before != own:
                self._forget(before)
            self._owners[block] = own
        cache = self._caches[own]
        for layer in cache.layers:
            ahead = layer.get_seq_length() - piece.start
            assert ahead >= 0, f"a sequence goes on at {piece.start} with a cache of {layer.get_seq_length()} tokens"
            layer.crop(-ahead)
        return cache

    def _forget(self, own: int) -> None:
        """Free the cache of the sequence that had this first block."""
        self._caches.pop(own, None)
        self._owners = {block: other for block, other in self._owners.items() if other != own}

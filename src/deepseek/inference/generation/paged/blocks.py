"""Which block of the key-value cache belongs to which sequence: numbers only, no tensors.

A block holds :data:`BLOCK` tokens of all layers (paged cache: vLLM, arXiv 2309.06180). A full block is known by a hash
of its tokens and of all before them, so sequences that begin alike share it; one that nobody holds stays until its room
is needed, the one longest unused first (automatic prefix caching).
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from deepseek.inference.kernels.paged_attention import BLOCK

__all__ = ["BLOCK", "BlockPool", "blocks_for", "chained"]


def blocks_for(tokens: int) -> int:
    """Blocks that so many tokens fill, the last one perhaps in part."""
    return -(-tokens // BLOCK)


def chained(before: bytes, tokens: Sequence[int]) -> bytes:
    """The name of a full block: its tokens and, through the name of the block before it, all that come before."""
    return hashlib.blake2b(before + array("q", tokens).tobytes(), digest_size=16).digest()


class BlockPool:
    """Hands out blocks, counts who holds them, and remembers what is in them.

    Args:
        count: blocks there are, numbered from 0.
        reuse: remember full blocks, so that later sequences find them.
    """

    def __init__(self, count: int, *, reuse: bool = True) -> None:
        self.count, self._reuse = count, reuse
        self._holders = [0] * count
        self._names: list[bytes | None] = [None] * count
        self._by_name: dict[bytes, int] = {}
        self._empty = list(range(count - 1, -1, -1))  # popped from the end: neighbours are given out one after another
        self._idle: OrderedDict[int, None] = OrderedDict()  # nobody's, but of known content; longest unused first

    @property
    def available(self) -> int:
        """Blocks that nobody holds."""
        return len(self._empty) + len(self._idle)

    def take(self, count: int) -> list[int] | None:
        """So many blocks with nothing of use in them, or ``None`` (and none is taken) if there are not as many."""
        if count > self.available:
            return None
        taken = []
        for _ in range(count):
            if self._empty:
                block = self._empty.pop()
            else:
                block, _ = self._idle.popitem(last=False)
                self._forget(block)
            self._holders[block] = 1
            taken.append(block)
        return taken

    def find(self, names: Sequence[bytes]) -> list[int]:
        """Hold the blocks of the longest known beginning of ``names``."""
        found: list[int] = []
        for name in names:
            block = self._by_name.get(name)
            if block is None:
                break
            if self._holders[block] == 0:
                del self._idle[block]
            self._holders[block] += 1
            found.append(block)
        return found

    def remember(self, block: int, name: bytes) -> None:
        """A held block is full now; if another one has the same content already, that one stays the known one."""
        if self._reuse and name not in self._by_name and self._names[block] is None:
            self._names[block] = name
            self._by_name[name] = block

    def release(self, blocks: Sequence[int]) -> None:
        """Give up one hold of each; the later ones of a sequence are forgotten before those that they build on."""
        for block in reversed(blocks):
            assert self._holders[block] > 0, f"block {block} is released more often than it was taken"
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if self._names[block] is None:
                self._empty.append(block)
            else:
                self._idle[block] = None

    def _forget(self, block: int) -> None:
        name = self._names[block]
        assert name is not None
        del self._by_name[name]
        self._names[block] = None

"""The order in which training sees rows: seeded, different in each epoch, shared out over ranks, resumable exactly.

The order of an epoch is computed from ``(seed, epoch)`` and takes no memory. It is one sequence over all ranks: rank
``r`` of ``w`` takes its elements ``r, r + w, r + 2w, ...``, so that each row comes exactly once per epoch over all
ranks together, and the state is a single number. With ``block`` rows are shuffled in blocks: the order of the
blocks and the order inside each are random, which lets an object store or a disk read neighbours together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepseek.data.loading.permutation import Array, Permutation
from deepseek.errors import ConfigError

_CHUNK = 4096


class Sampler:
    """Row positions of one epoch after the other, for ``torch.utils.data.DataLoader(sampler=...)`` or on its own.

    Iterating yields what is left of the present epoch; when it is used up, the next iteration yields the next epoch.
    """

    def __init__(
        self,
        size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        block: int = 1,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        """Set the order up.

        Args:
            size: number of rows.
            shuffle: random order, or the table's.
            seed: chooses the order; the same seed gives the same order everywhere.
            block: rows that are shuffled together; 1 shuffles single rows.
            rank: which share this process takes.
            world_size: number of shares.
            drop_last: leave out the last ``size % world_size`` rows of an epoch, so that all ranks have equally many;
                otherwise some ranks have one row more than others.
        """
        if size < 0 or block < 1:
            raise ConfigError(f"sampler: expected size >= 0 and block >= 1, received {size} and {block}")
        if world_size < 1 or not 0 <= rank < world_size:
            raise ConfigError(f"sampler: expected 0 <= rank < world_size, received rank {rank} of {world_size}")
        self.size = size
        self.shuffle = shuffle
        self.seed = seed
        self.block = min(block, max(size, 1))
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.epoch = 0
        self.start = 0  # rows of this epoch that all ranks together have had
        self._taken = 0  # rows that this rank has yielded since

    def __len__(self) -> int:
        """Rows that are left for this rank in the present epoch."""
        return self._length(self.start + self._taken * self.world_size)

    def __iter__(self) -> Iterator[int]:
        if self._length(self.start + self._taken * self.world_size) == 0 and self._length(0):
            self.set_epoch(self.epoch + 1)
        for chunk in self.chunks():
            for position in chunk.tolist():
                self._taken += 1
                yield position

    def chunks(self, rows: int = _CHUNK) -> Iterator[Array]:
        """What is left of the present epoch for this rank, as arrays of up to ``rows`` positions; moves nothing."""
        order = self._order()
        first = self.start + self._taken * self.world_size + self.rank
        last = self._total()
        for start in range(first, last, rows * self.world_size):
            yield order(np.arange(start, min(last, start + rows * self.world_size), self.world_size, dtype=np.int64))

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch. Going to the epoch that is running changes nothing."""
        if epoch != self.epoch:
            self.epoch, self.start, self._taken = epoch, 0, 0

    def advance(self, rows: int) -> None:
        """Note that this rank has had so many more rows of the present epoch."""
        self._taken += rows

    def state_dict(self) -> dict[str, Any]:
        """Where this rank is: enough to go on with exactly the rows that remain."""
        return {
            "epoch": self.epoch,
            "position": self.start + self._taken * self.world_size,
            "seed": self.seed,
            "size": self.size,
            "shuffle": self.shuffle,
            "block": self.block,
            "drop_last": self.drop_last,
            "world_size": self.world_size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go where :meth:`state_dict` was taken. The number of ranks may differ if all ranks had had equally many rows.

        Raises:
            ConfigError: the state is of another order (size, seed, shuffle or block differ).
        """
        for name in ("size", "seed", "shuffle", "block", "drop_last"):
            if state[name] != getattr(self, name):
                raise ConfigError(
                    f"sampler: the state is of another order: {name} is {state[name]} there and {getattr(self, name)} "
                    f"here"
                )
        if state["drop_last"] and state["world_size"] != self.world_size:
            raise ConfigError(
                f"sampler: with drop_last the number of ranks decides what is dropped: expected world_size "
                f"{state['world_size']}, received {self.world_size}"
            )
        self.epoch, self.start, self._taken = int(state["epoch"]), int(state["position"]), 0

    def _total(self) -> int:
        return self.size - self.size % self.world_size if self.drop_last else self.size

    def _length(self, start: int) -> int:
        return max(0, -(-(self._total() - start - self.rank) // self.world_size))

    def _order(self) -> Any:
        if not self.shuffle:
            return lambda places: places
        if self.block == 1:
            return Permutation(self.size, self.seed, self.epoch)
        return _BlockOrder(self.size, self.block, self.seed, self.epoch)


class _BlockOrder:
    """Blocks in random order, and the rows of each in random order. The last block may be shorter than the others."""

    def __init__(self, size: int, block: int, seed: int, epoch: int) -> None:
        self._block, self._seed, self._epoch = block, seed, epoch
        count = -(-size // block)
        self._blocks = Permutation(count, seed, epoch)
        self._short = size - (count - 1) * block
        self._short_place = int(self._blocks.inverse(np.array([count - 1], dtype=np.int64))[0])
        self._count = count

    def __call__(self, places: Array) -> Array:
        # places behind the short block are where they would be if it were whole
        gap = self._block - self._short
        shifted = np.where(places >= self._short_place * self._block + self._short, places + gap, places)
        order, inside = np.divmod(shifted, self._block)
        blocks = self._blocks(order)
        result = np.empty_like(places)
        for number in np.unique(blocks).tolist():
            rows = np.flatnonzero(blocks == number)
            length = self._short if number == self._count - 1 else self._block
            result[rows] = number * self._block + Permutation(length, self._seed, self._epoch, number)(inside[rows])
        return result

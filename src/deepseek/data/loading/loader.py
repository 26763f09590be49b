"""Batches for training that can be stopped anywhere and resumed exactly.

PyTorch's ``DataLoader`` reads ahead when it has workers, so a sampler is ahead of what training has seen. A
:class:`Loader` counts the batches that it has handed out instead; its state is therefore right whatever the number of
workers, which may change on resuming.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from deepseek.data.loading.dataset import Dataset
from deepseek.data.loading.sampler import Sampler
from deepseek.errors import ConfigError


class Loader:
    """Batches of a :class:`Dataset`, one epoch per iteration; needs PyTorch when iterated."""

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        block: int = 1,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        workers: int = 0,
        collate: Callable[[list[Any]], Any] | None = None,
        **options: Any,
    ) -> None:
        """Set the loader up.

        Args:
            dataset: the rows.
            batch_size: rows of a batch, for this rank.
            shuffle: a new random order in each epoch, or the table's.
            seed: chooses the order.
            block: rows that are shuffled together (see :class:`Sampler`); some hundreds for an object store.
            rank: which share of the rows this process takes.
            world_size: number of shares.
            drop_last: leave out the rows that do not fill a batch on every rank.
            workers: processes that read ahead; 0 reads in this one.
            collate: makes a batch of a list of rows; PyTorch's by default.
            options: more of ``torch.utils.data.DataLoader``, such as ``multiprocessing_context`` or ``pin_memory``.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size: expected at least 1, received {batch_size}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.workers = workers
        self.drop_last = drop_last
        self.sampler = Sampler(
            len(dataset),
            shuffle=shuffle,
            seed=seed,
            block=block,
            rank=rank,
            world_size=world_size,
            drop_last=drop_last,
        )
        self._collate = collate
        self._options = options
        self._torch: Any = None
        self._pending: list[int] = []  # sizes of the batches that are being read, in order

    @property
    def epoch(self) -> int:
        """The epoch that is running or, when it has ended, has ended."""
        return self.sampler.epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch, unless it is running."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches of a whole epoch for this rank."""
        rows = self.sampler._length(0)
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """The batches that are left of the epoch; the next epoch's when none is."""
        if self._left() == 0:
            self.sampler.set_epoch(self.epoch + 1)
        for batch in self._loader():
            # a batch counts as had before training works on it: resuming must not repeat it
            self.sampler.advance(self._pending.pop(0))
            yield batch

    def _loader(self) -> Any:
        """PyTorch's loader, made once so that its workers live on from epoch to epoch."""
        from torch.utils.data import DataLoader

        if self._torch is None:
            options = dict(self._options)
            if self.workers:
                # forked workers would need a reading process each
                options.setdefault("multiprocessing_context", "forkserver" if hasattr(os, "fork") else "spawn")
                options.setdefault("persistent_workers", True)
            self._torch = DataLoader(
                self.dataset,
                batch_sampler=_Batches(self),
                num_workers=self.workers,
                collate_fn=self._collate,
                **options,
            )
        return self._torch

    def _left(self) -> int:
        rows = len(self.sampler)
        return rows // self.batch_size if self.drop_last else rows

    def _batches(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for chunk in self.sampler.chunks():
            for position in chunk.tolist():
                batch.append(position)
                if len(batch) == self.batch_size:
                    yield batch
                    batch = []
        if batch and not self.drop_last:
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where training is: batches handed out count as done."""
        return {"sampler": self.sampler.state_dict(), "dataset": self.dataset.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go where :meth:`state_dict` was taken: the remaining batches are exactly those that were left.

        Raises:
            ConfigError: the state is of another version of the table, other rows, or another order.
        """
        here = self.dataset.identity()
        for name in ("version", "where", "rows"):
            if state["dataset"][name] != here[name]:
                raise ConfigError(
                    f"loader: the state is of other rows: {name} is {state['dataset'][name]!r} there and "
                    f"{here[name]!r} here; open the table at the version of the state"
                )
        self.sampler.load_state_dict(state["sampler"])


class _Batches:
    """What PyTorch is told to read: what is left of the epoch, noted as it is given out."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[list[int]]:
        pending = self._loader._pending = []
        for batch in self._loader._batches():
            pending.append(len(batch))
            yield batch

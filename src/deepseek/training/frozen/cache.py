"""The states that enter the lowest trained layer, computed once and kept on the disk.

If nothing below layer ``k`` trains and nothing there is random, what enters layer ``k`` is a function of the row. So
it is computed once for each row, and training runs layers ``k`` and up only: with adapters in the upper half of a
model, half of the forward pass is gone, whatever the number of epochs, and every run of a search shares the file. With
``train: head`` the head alone runs.

A file is found again by a fingerprint of the weights below ``k``, the depth, the dtypes and the rows. It is written
beside its place and renamed, so that it is complete or absent. States of bfloat16 take ``2 x hidden`` bytes a token:
0.4 MB for 256 tokens of BERT-base.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from deepseek import progress
from deepseek.artifacts.cache import staged_directory
from deepseek.errors import ConfigError, DataError
from deepseek.resources import Holes
from deepseek.training.frozen.boundary import Boundary, Fed
from deepseek.training.frozen.fingerprint import item_bytes, row_checksums, trunk_fingerprint
from deepseek.training.frozen.probe import Collate, Probe, inputs_of, main_input, mask_of, probe
from deepseek.training.frozen.states import META, StateFile, StateWriter

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

FORMAT = 1
_PROBED = 3
_ACTIVATIONS = 100
"""What goes through the heap for a state, in sizes of it: some sixteen in each of a few layers."""


class FrozenCache:
    """Stored states of the rows of a data set, and their way back into the model.

    Attributes:
        folder: where they are.
        depth: how many layers they stand for.
        bytes: their size on the disk.
        reused: whether they were there already.
    """

    def __init__(self, folder: Path, *, reused: bool) -> None:
        self.folder = folder
        self.reused = reused
        self._file = StateFile(folder)
        self.depth: int = self._file.meta["depth"]
        self.bytes: int = self._file.meta["bytes"]
        self._fed = Fed()
        self._main = ""

    @classmethod
    def build(
        cls,
        model: nn.Module,
        dataset: Sequence[Mapping[str, Any]],
        collate: Collate,
        folder: str | Path,
        *,
        batch_size: int = 32,
        dtype: torch.dtype | None = None,
        resting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Self:
        """Find the stored states of these rows, or compute them.

        Args:
            model: a transformers model, prepared as it will be trained (:func:`prepare_trunk`, adapters added).
            dataset: features by index; ``row`` in a feature is its number from 0, by default its index.
            collate: features to a padded batch of tensors, as in training.
            folder: holds one sub-folder a fingerprint, so that it can be shared by runs and data sets.
            batch_size: rows of the longest length that run at once; shorter ones run with more.
            dtype: ``torch.bfloat16`` or ``torch.float32``; ``None``: as the model's trunk. With bfloat16, or a bfloat16
                trunk, the layers run under autocast, as in training.
            resting: entered while rows run through the lower layers alone, to give up what the others hold meanwhile.

        Raises:
            ConfigError: the states are not functions of the row (something below trains, dropout, random masking,
                positions that shift with padding), or they do not fit on the disk.
            DataError: a row has no number or one that is not its own.
        """
        import torch

        boundary = Boundary(model)
        narrow = any(weight.dtype == torch.bfloat16 for weight in model.parameters())
        dtype = dtype or (torch.bfloat16 if narrow else torch.float32)
        if dtype not in (torch.bfloat16, torch.float32):
            raise ConfigError(f"expected states of torch.bfloat16 or torch.float32, received {dtype}")
        autocast = narrow or dtype == torch.bfloat16
        lengths, rows_hash = _scan(dataset)
        training = model.training
        try:
            with torch.autocast(next(model.parameters()).device.type, torch.bfloat16, enabled=autocast):
                order = sorted(range(len(lengths)), key=lambda i: int(lengths[i]))
                picked = sorted({round(i * (len(order) - 1) / (_PROBED - 1)) for i in range(_PROBED)})
                few = [dataset[order[i]] for i in picked]
                seen = probe(model, boundary, few, collate, 5e-2 if autocast else 1e-3)
                details = [FORMAT, boundary.depth, str(dtype), str(seen.dtype), autocast, rows_hash]
                name = trunk_fingerprint(model, seen.above, {"details": details})[:32]
                target = Path(folder) / name
                reused = (target / META).is_file()
                if not reused:
                    total = int(lengths.sum()) if seen.tokens is None else len(lengths) * seen.tokens
                    _check_disk(target.parent, cache_bytes(total, seen.hidden, dtype))
                    model.eval()
                    with resting(), staged_directory(target) as stage:
                        _compute(model, boundary, seen, dataset, collate, stage, order, lengths, batch_size, dtype)
        finally:
            model.train(training)
        return cls(target, reused=reused)

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[Self]:
        """While open, a forward pass of ``model`` after :meth:`feed` starts from the stored states.

        Passes that were not fed, such as the scoring of other rows, run through all layers.

        Raises:
            ConfigError: the model's trained layers begin elsewhere than those of the model that the states are from.
        """
        boundary = Boundary(model)
        if boundary.depth != self.depth:
            raise ConfigError(
                f"the stored states enter layer {self.depth}, but the model trains from layer {boundary.depth} on; "
                "build the cache again"
            )
        self._main = main_input(model)
        with boundary.replaced(model, self._file.meta["forms"], self._fed):
            yield self

    def feed(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Hand the next forward pass the states of its rows.

        Args:
            inputs: a batch with ``row``, (batch,), the rows' numbers.

        Returns:
            The batch without ``row``, for the model.

        Raises:
            DataError: a row has no stored state, or other tokens than when its state was stored.
        """
        import torch

        rest = {name: value for name, value in inputs.items() if name != "row"}
        if "row" not in inputs or self._main not in inputs:
            raise DataError(
                f"expected a batch with 'row' and {self._main or 'input_ids'!r} to find stored states by (inside "
                f"FrozenCache.attached), received {', '.join(map(str, inputs))}"
            )
        rows = [int(row) for row in inputs["row"]]
        file = self._file
        if outside := [row for row in rows if not 0 <= row < len(file.tokens) or file.tokens[row] == 0]:
            raise DataError(f"row {outside[0]} has no stored state; build the cache for these rows")
        main = inputs[self._main]
        longest = int(file.tokens[rows].max())
        mask = inputs.get("attention_mask") if main.ndim == 2 else None
        if mask is None:
            mask = torch.ones(len(rows), main.shape[1] if main.ndim == 2 else longest, dtype=torch.bool)
        sums = row_checksums(main, mask if main.ndim == 2 else None)
        counts = mask.sum(1).tolist()
        for row, checksum, count in zip(rows, sums, counts, strict=True):
            if checksum != file.checksums[row] or count != file.tokens[row]:
                raise DataError(
                    f"row {row} has other tokens now than when its state was stored; build the cache for these rows"
                )
        stored = file.read(rows).to(main.device).to(getattr(torch, file.meta["state"]))
        states = stored.new_zeros(len(rows), mask.shape[1], stored.shape[1])
        states[mask.to(main.device).bool()] = stored
        self._fed.state = states
        return rest

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def cache_bytes(tokens: int, hidden: int, dtype: torch.dtype) -> int:
    """Bytes on the disk of the states of so many tokens of so many numbers."""
    size: int = tokens * hidden * dtype.itemsize
    return size


def _check_disk(folder: Path, need: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise ConfigError(
            f"the states of the frozen layers take {need / 1e9:.2f} GB, but {folder} has {free / 1e9:.2f} GB free; "
            "free some, choose another folder, or turn the cache off"
        )


def _scan(dataset: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray[Any, Any], str]:
    """Length of each row, and a hash of all."""
    import numpy as np

    if not len(dataset):
        raise DataError("there are no rows to store states of")
    lengths = np.zeros(len(dataset), np.int64)
    digest = hashlib.sha256()
    with progress.bar("read rows", len(dataset)) as bar:
        for index in range(len(dataset)):
            item = dataset[index]
            if int(item.get("row", index)) != index:
                raise DataError(f"expected rows in order; feature {index} says that it is row {item['row']}")
            lengths[index] = len(item.get("input_ids", (0,)))
            digest.update(item_bytes(dict(item)))
            if index % 256 == 0:
                bar.set(index)
    return lengths, digest.hexdigest()


def _compute(
    model: nn.Module,
    boundary: Boundary,
    seen: Probe,
    dataset: Sequence[Mapping[str, Any]],
    collate: Collate,
    stage: Path,
    order: list[int],
    lengths: np.ndarray[Any, Any],
    batch_size: int,
    dtype: torch.dtype,
) -> None:
    """Run all rows, shortest first, and write their states; a batch has about the same number of tokens throughout."""
    import torch

    budget = batch_size * int(lengths.max())
    writer = StateWriter(stage, len(order))
    holes = Holes()
    done = 0
    with progress.bar("states of frozen layers", len(order)) as bar, torch.no_grad():
        while done < len(order):
            rows = order[done : done + batch_size]
            while len(rows) < len(order) - done and (len(rows) + 1) * int(lengths[order[done + len(rows)]]) <= budget:
                rows.append(order[done + len(rows)])
            items = [dataset[row] for row in rows]
            batch = inputs_of(model, collate(items))
            state = boundary.state(model, batch)
            mask = mask_of(model, batch, items, state.shape[1])
            sums = row_checksums(batch[main_input(model)], mask)
            for i, row in enumerate(rows):
                real = state[i] if mask is None else state[i][mask[i]]
                writer.append(row, real.to(dtype), sums[i])
            done += len(rows)
            bar.advance(len(rows))
            holes.passed(_ACTIVATIONS * state.numel() * state.element_size())
    writer.close(
        {
            "format": FORMAT,
            "depth": boundary.depth,
            "forms": seen.forms,
            "hidden": seen.hidden,
            "dtype": str(dtype).removeprefix("torch."),
            "state": str(seen.dtype).removeprefix("torch."),
        }
    )

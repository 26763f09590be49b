"""A file of hidden states, one run of (tokens, hidden) numbers a row, read row by row.

Rows are read with plain reads, not through a memory map: mapped pages count as the process's memory, and the point of
the file is that the process needs little. The system's page cache makes repeated reads fast either way.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import torch

DATA, INDEX, META = "states.bin", "index.safetensors", "cache.json"


class StateWriter:
    """Appends the states of rows in any order; the folder is complete after :meth:`close`."""

    def __init__(self, folder: Path, rows: int) -> None:
        import numpy as np

        self._folder = folder
        self._file = (folder / DATA).open("wb")
        self._next = 0
        self._index = {
            "offset": np.full(rows, -1, np.int64),
            "tokens": np.zeros(rows, np.int64),
            "checksum": np.zeros(rows, np.int64),
        }

    def append(self, row: int, state: torch.Tensor, checksum: int) -> None:
        """Write the state (tokens, hidden) of one row, in the dtype that it has."""
        import torch

        array = state.detach().cpu().contiguous()
        data = array.view(torch.int16).numpy() if array.dtype == torch.bfloat16 else array.numpy()
        self._file.write(memoryview(data.reshape(-1)).cast("B"))
        self._index["offset"][row] = self._next
        self._index["tokens"][row] = array.shape[0]
        self._index["checksum"][row] = checksum
        self._next += array.numel() * array.element_size()

    def close(self, meta: dict[str, Any]) -> None:
        """Write the index and what is to be known of the states."""
        from safetensors.numpy import save_file

        self._file.close()
        save_file(self._index, self._folder / INDEX)
        (self._folder / META).write_text(json.dumps({**meta, "bytes": self._next}, indent=1), encoding="utf-8")


class StateFile:
    """States of rows, as :class:`StateWriter` wrote them.

    Attributes:
        tokens, checksums: of each row, (rows,).
        meta: what the writer was told.

    Raises:
        DataError: files are missing or cut short.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file

        try:
            self.meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
            index = load_file(folder / INDEX)
            self._file = (folder / DATA).open("rb", buffering=0)
            size = (folder / DATA).stat().st_size
        except (OSError, ValueError) as error:
            raise DataError(f"the stored states in {folder} are damaged ({error}); delete the folder") from error
        if size != self.meta["bytes"]:
            raise DataError(
                f"the stored states in {folder} are damaged (expected {self.meta['bytes']} bytes, found {size}); "
                "delete the folder"
            )
        self._offsets = index["offset"]
        self.tokens: np.ndarray[Any, Any] = index["tokens"]
        self.checksums: np.ndarray[Any, Any] = index["checksum"]

    def read(self, rows: list[int]) -> torch.Tensor:
        """States of the rows one after the other, (sum of tokens, hidden), in the stored dtype."""
        import torch

        dtype: torch.dtype = getattr(torch, self.meta["dtype"])
        hidden: int = self.meta["hidden"]
        states = torch.empty(int(self.tokens[rows].sum()), hidden, dtype=dtype)
        view = memoryview(states.view(torch.uint8).reshape(-1).numpy())
        start = 0
        for row in rows:
            stop = start + int(self.tokens[row]) * hidden * dtype.itemsize
            self._file.seek(int(self._offsets[row]))
            while start < stop:
                count = self._file.readinto(view[start:stop])
                if not count:
                    raise DataError(f"the stored states end before those of row {row}; delete {self._file.name}")
                start += count
        return states

    def close(self) -> None:
        """Close the file."""
        self._file.close()

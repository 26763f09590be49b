"""A safetensors file written part by part, so that no more than one part of it is in memory.

The ``safetensors`` library wants all tensors at once. Source of the format: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Chunks = Callable[[str], Iterable[NDArray[np.float32]]]


def write_safetensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    chunks: Chunks,
    *,
    narrow: bool,
    advance: Callable[[int], None],
) -> None:
    """Write tensors that come in parts.

    Args:
        path: the file to write.
        shapes: shape by name.
        chunks: gives a tensor's numbers in order, flattened, in parts of any length.
        narrow: round to bfloat16 (to the nearest, ties to even) instead of keeping float32.
        advance: is told of every number of bytes written.
    """
    import torch

    width, dtype = (2, "BF16") if narrow else (4, "F32")
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(shapes):  # as the library orders tensors of one type
        start, end = end, end + prod(shapes[name]) * width
        header[name] = {"dtype": dtype, "shape": list(shapes[name]), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of eight
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(shapes):
            for part in chunks(name):
                rounded = torch.from_numpy(part).to(torch.bfloat16).view(torch.int16).numpy() if narrow else part
                file.write(rounded.data)
                advance(rounded.nbytes)

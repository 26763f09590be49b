"""The head of a GGUF file: its metadata, and where each tensor lies.

The ``gguf`` library's reader makes several numpy objects for every string of the vocabulary (2.4 s for 49,152 tokens
and their merges) and does not notice the end of the file; this one takes 0.07 s and checks every read. Source of the
format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from deepseek.errors import ConfigError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Numbers of the value types, and what :mod:`struct` calls them."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of the file.

    Attributes:
        shape: rows first, as torch has it (the file has it the other way round).
        kind: number of the ggml type.
        start: its first byte in the file.
        size: its length in bytes.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself.

    Attributes:
        metadata: values by key; strings decoded, arrays as lists.
        tensors: by name, in the file's order.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def architecture(self) -> str:
        """The file's own name of its architecture (``general.architecture``)."""
        return str(self.metadata["general.architecture"])


def read_header(path: Path) -> Header:
    """Read a file's metadata and tensor table, and check that all its tensors are there.

    Raises:
        ConfigError: the file is no GGUF file that can be read, is damaged, or ends too early; the message has the
            place, what was expected there and what came.
        MissingExtraError: the ``gguf`` library is not installed.
    """
    check_magic(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _Parser(path, data).header()


def check_magic(path: Path) -> None:
    """Refuse a file that does not begin as GGUF files do.

    Raises:
        ConfigError: it does not.
    """
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise ConfigError(f"{path} is not a GGUF file: expected it to begin with {MAGIC!r}, received {magic!r}")


class _Parser:
    """Reads on from ``position``; every read is checked against the file's end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data = path, data
        self.position = len(MAGIC)

    def header(self) -> Header:
        version = self.number("I", "the version")
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
            self.fail(f"expected version 2 or 3, received {version}{' (a big-endian file)' if swapped else ''}")
        tensors, keys = self.number("Q", "the number of tensors"), self.number("Q", "the number of metadata keys")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            key = self.string("a metadata key")
            if key in metadata:
                self.fail(f"expected each metadata key once, received {key!r} twice")
            metadata[key] = self.value(self.number("I", f"the type of {key}"), key)
        if not isinstance(metadata.get("general.architecture"), str):
            self.fail("expected the metadata key 'general.architecture', received none")
        table = [self.entry() for _ in range(tensors)]
        return Header(self.path, metadata, self.placed(table, metadata.get("general.alignment", 32)))

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """One row of the tensor table: name, shape, type, distance from the start of the data."""
        name = self.string("a tensor's name")
        dimensions = self.number("I", f"the number of dimensions of {name}")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            self.fail(f"expected 1 to {MAX_DIMENSIONS} dimensions of {name!r}, received {dimensions}")
        shape = self.unpack(f"{dimensions}Q", f"the shape of {name}")
        return name, shape[::-1], self.number("I", f"the type of {name}"), self.number("Q", f"the offset of {name}")

    def placed(self, table: list[tuple[str, tuple[int, ...], int, int]], alignment: Any) -> dict[str, Tensor]:
        """The tensors with their places in the file, all inside it."""
        from gguf import GGML_QUANT_SIZES

        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            self.fail(f"expected a power of two as general.alignment, received {alignment!r}")
        sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
        data_start = -(-self.position // alignment) * alignment
        tensors: dict[str, Tensor] = {}
        for name, shape, kind, offset in table:
            if kind not in sizes:
                self.fail(f"expected a known ggml type of {name}, received number {kind}")
            block, block_bytes = sizes[kind]
            if shape[-1] % block:
                self.fail(f"expected rows of a multiple of {block} numbers in {name}, received {shape[-1]}")
            if offset % alignment:
                self.fail(f"expected {name} at a multiple of {alignment} bytes, received offset {offset}")
            if name in tensors:
                self.fail(f"expected each tensor once, received {name!r} twice")
            tensor = Tensor(name, shape, kind, data_start + offset, prod(shape) // block * block_bytes)
            if tensor.start + tensor.size > len(self.data):
                self.fail(
                    f"expected {name} in the bytes {tensor.start} to {tensor.start + tensor.size}, "
                    f"but the file ends after {len(self.data)} bytes"
                )
            tensors[name] = tensor
        return tensors

    def value(self, kind: int, key: str) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind], key)
        if kind == _STRING:
            return self.string(key)
        if kind != _ARRAY:
            self.fail(f"expected a known type of the value of {key}, received number {kind}")
        element, count = self.number("I", f"the type of {key}"), self.number("Q", f"the length of {key}")
        if element in _SCALARS:
            return list(self.unpack(f"{count}{_SCALARS[element]}", key))
        if element != _STRING:
            self.fail(f"expected numbers or strings in the list {key}, received elements of type number {element}")
        return [self.string(key) for _ in range(count)]

    def string(self, what: str) -> str:
        length = self.number("Q", what)
        start = self.advance(length, what)
        try:
            return self.data[start : start + length].decode("utf-8")
        except UnicodeDecodeError as error:
            self.fail(f"expected UTF-8 text as {what} at byte {start}: {error.reason}")

    def number(self, code: str, what: str) -> Any:
        return self.unpack(code, what)[0]

    def unpack(self, code: str, what: str) -> tuple[Any, ...]:
        form = f"<{code}"
        try:
            size = struct.calcsize(form)
        except (struct.error, OverflowError, MemoryError):
            self.fail(f"expected {what} at byte {self.position}, received a length that no file has")
        return struct.unpack_from(form, self.data, self.advance(size, what))

    def advance(self, size: int, what: str) -> int:
        """Step over ``size`` bytes; return where they begin."""
        start, left = self.position, len(self.data) - self.position
        if size > left:
            self.fail(
                f"expected {size} bytes of {what} at byte {start}, but the file ends after {len(self.data)} bytes"
            )
        self.position = start + size
        return start

    def fail(self, reason: str) -> NoReturn:
        raise ConfigError(f"{self.path} cannot be converted, it is damaged or of an unknown form: {reason}")

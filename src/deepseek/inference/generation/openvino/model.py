"""A decoder on the CPU with a paged cache: OpenVINO's, and for steps of few tokens C on the same cache.

Steps of few tokens are computed by :mod:`deepseek.inference.generation.native`, where that runs: OpenVINO 2026.4
unpacks weights for a single token at half the speed of memory. It also takes two seconds to compile a model. So it does
that in the background, and until it is done prompts are read in C as well, a few tokens at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.conversion.keeping import read_about
from deepseek.inference.generation.native.decoder import MOST, fast_up_to, few_tokens
from deepseek.inference.generation.openvino.conversion import MODEL
from deepseek.inference.generation.openvino.request import PagedRequest, cache
from deepseek.inference.generation.paged.blocks import BLOCK
from deepseek.inference.generation.paged.model import PagedModel, Piece, parts
from deepseek.inference.openvino.library import openvino, openvino_core

if TYPE_CHECKING:
    import torch


class OpenVinoModel(PagedModel):
    """A decoder on the CPU.

    Args:
        folder: what :func:`deepseek.inference.generation.openvino.conversion.decoder` made.
        name: for messages.
        precision: OpenVINO's name of what is computed in (``"f32"``, ``"bf16"``).
        cache_precision: OpenVINO's name of what keys and values are kept in (``"f32"``, ``"bf16"``, ``"u8"``).

    Attributes:
        ends: tokens that end a text; ``None`` if the checkpoint says none.

    Raises:
        ConfigError: OpenVINO cannot compile it; where it compiles in the background, :meth:`settle` raises this, or
            the first step that needs it.
    """

    def __init__(self, folder: Path, name: str, *, precision: str, cache_precision: str) -> None:
        import torch

        about = read_about(folder)
        self.name, self.device = name, torch.device("cpu")
        self.vocabulary, self.context_length = about["vocabulary"], about["context_length"]
        self.ends = frozenset(about["end_tokens"]) or None
        openvino_core()  # in this thread, which stays: it sets up the thread that makes it
        threads = torch.get_num_threads()
        narrow = (precision, cache_precision) == ("bf16", "bf16")
        self._few = few_tokens(folder, threads) if narrow else None
        self._up_to = fast_up_to()
        background = ThreadPoolExecutor(1, "openvino-compile")
        self._compiling: Future[PagedRequest] = background.submit(
            PagedRequest, folder, precision=precision, cache_precision=cache_precision, threads=threads
        )
        background.shutdown(wait=False)
        if self._few is not None:
            self.weight_bytes = self._few.weight_bytes
            self._sizes: list[list[int]] = [list(self._few.block)] * (2 * about["layers"])
            self._kinds: list[Any] = [openvino().Type.bf16] * len(self._sizes)
        else:
            self.weight_bytes = (folder / MODEL).with_suffix(".bin").stat().st_size
            request = self._compiling.result()
            self._sizes, self._kinds = request.sizes, request.kinds
        each_block = (math.prod(size) * kind.bitwidth // 8 for size, kind in zip(self._sizes, self._kinds, strict=True))
        self.token_bytes = sum(each_block) // BLOCK
        self._cache: list[Any] = []
        self._attached: list[Any] | None = None

    def allocate(self, blocks: int) -> None:
        self._cache = cache(self._sizes, self._kinds, blocks)
        if self._few is not None:
            addresses = [tensor.data.ctypes.data for tensor in self._cache]
            self._few.attach(addresses[0::2], addresses[1::2])
        if self._compiling.done() and not self._compiling.exception():  # what it held before is free at once
            self._request()

    def release(self) -> None:
        self.allocate(1)

    def settle(self) -> None:
        self._request()

    def forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        import torch

        few = self._few
        tokens = sum(len(piece.ids) for piece in pieces)
        if few is not None and (tokens <= self._up_to or not self._compiling.done()):
            found = [few.forward(part) for part in parts(pieces, MOST)]
            return found[0] if len(found) == 1 else torch.cat(found)
        return self._request().forward(pieces)

    def _request(self) -> PagedRequest:
        """OpenVINO's, with the present cache."""
        request = self._compiling.result()
        if self._attached is not self._cache:
            if request.sizes != self._sizes or request.kinds != self._kinds:
                raise ConfigError(
                    f"this OpenVINO's cache has blocks of {request.sizes[0]} {request.kinds[0]}, expected "
                    f"{self._sizes[0]} {self._kinds[0]}. Take the generation core 'torch', or another openvino"
                )
            request.attach(self._cache)
            self._attached = self._cache
        return request

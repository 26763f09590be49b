"""A compiled decoder with a paged key-value cache: sequences of any lengths, prompts and single tokens, in one pass.

Steps of few tokens are computed by :mod:`deepseek.inference.generation.native` on the same cache, where that runs:
OpenVINO 2026.4 unpacks weights for a single token at half the speed of memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.conversion.keeping import read_about
from deepseek.inference.generation.native.decoder import MOST, few_tokens
from deepseek.inference.generation.openvino.conversion import MODEL
from deepseek.inference.generation.paged.blocks import BLOCK, blocks_for
from deepseek.inference.generation.paged.model import PagedModel, Piece
from deepseek.inference.openvino.library import openvino, openvino_core

if TYPE_CHECKING:
    import torch

ROWS = "rows"
"""The input that says of which tokens logits are wanted; a prompt's many others would cost as much as a layer."""


class OpenVinoModel(PagedModel):
    """A decoder on the CPU.

    Args:
        folder: what :func:`deepseek.inference.generation.openvino.conversion.decoder` made.
        name: for messages.
        precision: OpenVINO's name of what is computed in (``"f32"``, ``"bf16"``).
        cache_precision: OpenVINO's name of what keys and values are kept in (``"f32"``, ``"bf16"``, ``"u8"``).

    Attributes:
        ends: tokens that end a text; ``None`` if the checkpoint says none.
    """

    def __init__(self, folder: Path, name: str, *, precision: str, cache_precision: str) -> None:
        import torch

        about = read_about(folder)
        self.weight_bytes = (folder / MODEL).with_suffix(".bin").stat().st_size
        self.name, self.device = name, torch.device("cpu")
        self.vocabulary, self.context_length = about["vocabulary"], about["context_length"]
        self.ends = frozenset(about["end_tokens"]) or None
        model = openvino_core().read_model(folder / MODEL)
        _to_paged(model)
        # no CACHE_DIR: OpenVINO 2026.4 does not find a model with paged attention again (LOADED_FROM_CACHE stays false)
        # and cannot import one, so each load would only write its weights once more
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "KV_CACHE_PRECISION": cache_precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        compiled = openvino_core().compile_model(model, "CPU", settings)
        self._request = compiled.create_infer_request()
        names = [f"{part}_cache.{layer}" for layer in range(about["layers"]) for part in ("key", "value")]
        self._ports = [(each, compiled.input(each)) for each in names]
        self._sizes = [[d.get_length() for d in list(port.partial_shape)[1:]] for _, port in self._ports]
        if {size[1] for size in self._sizes} != {BLOCK}:
            raise ConfigError(
                f"this OpenVINO keeps {self._sizes[0][1]} tokens in a block of its cache; expected {BLOCK}. Take the "
                "generation core 'torch', or another version of openvino"
            )
        each_block = (
            math.prod(size) * port.element_type.bitwidth // 8
            for size, (_, port) in zip(self._sizes, self._ports, strict=True)
        )
        self.token_bytes = sum(each_block) // BLOCK
        narrow = (precision, cache_precision) == ("bf16", "bf16")
        self._few = few_tokens(folder, torch.get_num_threads()) if narrow else None
        if self._few is not None:
            self.weight_bytes = self._few.weight_bytes

    def allocate(self, blocks: int) -> None:
        library = openvino()
        self._cache = [
            library.Tensor(port.element_type, library.Shape([blocks, *size]))
            for size, (_, port) in zip(self._sizes, self._ports, strict=True)
        ]
        for (name, _), tensor in zip(self._ports, self._cache, strict=True):
            self._request.set_tensor(name, tensor)
        if self._few is not None:
            addresses = [tensor.data.ctypes.data for tensor in self._cache]
            self._few.attach(addresses[0::2], addresses[1::2])

    def release(self) -> None:
        self.allocate(1)

    def warm(self) -> None:
        """Run once: OpenVINO makes its kernels with the first pass, half a second that no request should wait for."""
        self._forward([Piece([0], 0, [0], rows=1)])

    def forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        if self._few is not None and sum(len(piece.ids) for piece in pieces) <= MOST:
            return self._few.forward(pieces)
        return self._forward(pieces)

    def _forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        import numpy as np
        import torch

        counts = np.array([len(piece.ids) for piece in pieces])
        starts = np.array([piece.start for piece in pieces])
        begins = np.concatenate([[0], np.cumsum(counts)])
        blocks = [blocks_for(int(length)) for length in starts + counts]
        places = np.arange(begins[-1]) - np.repeat(begins[:-1] - starts, counts)
        rows = [np.arange(end - piece.rows, end) for piece, end in zip(pieces, begins[1:], strict=True)]
        held = [block for piece, count in zip(pieces, blocks, strict=True) for block in piece.blocks[:count]]
        given = {
            "input_ids": np.array([token for piece in pieces for token in piece.ids], np.int64),
            "position_ids": places.astype(np.int64),
            "past_lens": starts.astype(np.int32),
            "subsequence_begins": begins.astype(np.int32),
            "block_indices": np.array(held, np.int32),
            "block_indices_begins": np.concatenate([[0], np.cumsum(blocks)]).astype(np.int32),
            "max_context_len": np.array((starts + counts).max(), np.int32),
            ROWS: np.concatenate(rows).astype(np.int64),
        }
        self._request.infer(given, share_inputs=True)
        logits = torch.from_numpy(self._request.get_output_tensor(0).data)
        return logits.view(-1, self.vocabulary)


def _to_paged(model: Any) -> None:
    """Attention with state becomes paged attention, and the head sees the wanted tokens only, in place."""
    import numpy as np
    import openvino.opset13 as op
    from openvino._offline_transformations import paged_attention_transformation

    library = openvino()
    paged_attention_transformation(model)
    head = next(node for node in model.get_ops() if node.get_friendly_name() == "lm_head")
    rows = op.parameter([-1], library.Type.i64, name=ROWS)
    rows.output(0).get_tensor().set_names({ROWS})
    wanted = op.gather(head.input(0).get_source_output(), rows, op.constant(np.array(0, np.int64)))
    head.input(0).replace_source_output(wanted.output(0))
    model.add_parameters([rows])
    model.validate_nodes_and_infer_types()

"""A decoder that OpenVINO compiled for a paged cache: sequences of any lengths, prompts and tokens, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.conversion.keeping import read_about
from deepseek.inference.generation.openvino.conversion import MODEL
from deepseek.inference.generation.paged.blocks import BLOCK, blocks_for
from deepseek.inference.generation.paged.model import Piece
from deepseek.inference.openvino.library import openvino, openvino_core

if TYPE_CHECKING:
    import torch

ROWS = "rows"
"""The input that says of which tokens logits are wanted; a prompt's many others would cost as much as a layer."""


class PagedRequest:
    """A compiled decoder and its request, which has run once.

    Args:
        folder: what :func:`deepseek.inference.generation.openvino.conversion.decoder` made.
        precision: OpenVINO's name of what is computed in (``"f32"``, ``"bf16"``).
        cache_precision: OpenVINO's name of what keys and values are kept in (``"f32"``, ``"bf16"``, ``"u8"``).
        threads: that compute a pass.

    Attributes:
        sizes: of a block of each tensor of the cache, keys and values of each layer in turn.
        kinds: OpenVINO's types of their numbers.

    Raises:
        ConfigError: this OpenVINO has another cache than the block pool.
    """

    def __init__(self, folder: Path, *, precision: str, cache_precision: str, threads: int) -> None:
        about = read_about(folder)
        self._vocabulary: int = about["vocabulary"]
        model = openvino_core().read_model(folder / MODEL)
        _to_paged(model)
        # no CACHE_DIR: OpenVINO 2026.4 does not find a model with paged attention again (LOADED_FROM_CACHE stays false)
        # and cannot import one, so each load would only write its weights once more
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "KV_CACHE_PRECISION": cache_precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        compiled = openvino_core().compile_model(model, "CPU", settings)
        self._request = compiled.create_infer_request()
        self._names = [f"{part}_cache.{layer}" for layer in range(about["layers"]) for part in ("key", "value")]
        ports = [compiled.input(name) for name in self._names]
        self.sizes = [[d.get_length() for d in list(port.partial_shape)[1:]] for port in ports]
        self.kinds = [port.element_type for port in ports]
        if {size[1] for size in self.sizes} != {BLOCK}:
            raise ConfigError(
                f"this OpenVINO keeps {self.sizes[0][1]} tokens in a block of its cache; expected {BLOCK}. Take the "
                "generation core 'torch', or another version of openvino"
            )
        # OpenVINO makes its kernels with the first pass, half a second that no request should wait for
        self.attach(cache(self.sizes, self.kinds, 1))
        self.forward([Piece([0], 0, [0], rows=1)])

    def attach(self, tensors: Sequence[Any]) -> None:
        """Take a cache, in the order of ``sizes``."""
        for name, tensor in zip(self._names, tensors, strict=True):
            self._request.set_tensor(name, tensor)

    def forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """As :meth:`PagedModel.forward`."""
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
        return logits.view(-1, self._vocabulary)


def cache(sizes: Sequence[Sequence[int]], kinds: Sequence[Any], blocks: int) -> list[Any]:
    """Tensors of a cache: a block's sizes, types of numbers, how many blocks."""
    library = openvino()
    return [library.Tensor(kind, library.Shape([blocks, *size])) for size, kind in zip(sizes, kinds, strict=True)]


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

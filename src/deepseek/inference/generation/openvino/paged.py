"""A compiled decoder with a paged key-value cache: sequences of any lengths, prompts and single tokens, in one pass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepseek.artifacts.cache import cache_dir
from deepseek.errors import ConfigError
from deepseek.inference.generation.openvino.conversion import ABOUT, MODEL
from deepseek.inference.openvino.library import openvino


@dataclass(frozen=True)
class Part:
    """New tokens of one sequence.

    Attributes:
        ids: the tokens.
        start: how many tokens of the sequence are in the cache.
        blocks: of the sequence, with room for these tokens.
        rows: of how many of the last tokens logits are wanted.
    """

    ids: Sequence[int]
    start: int
    blocks: Sequence[int]
    rows: int


class PagedDecoder:
    """Runs parts of sequences.

    Args:
        folder: what :func:`deepseek.inference.generation.openvino.conversion.decoder` made.
        precision: OpenVINO's name of what is computed in (``"f32"``, ``"bf16"``).
        cache_precision: OpenVINO's name of what keys and values are kept in (``"f32"``, ``"bf16"``, ``"u8"``).
        threads: of the processor.

    Attributes:
        block: tokens of a block, which the device says.
        block_bytes: bytes of a block in all layers.
        about: ``layers``, ``context_length``, ``end_tokens``, ``vocabulary``.
    """

    def __init__(self, folder: Path, *, precision: str, cache_precision: str, threads: int) -> None:
        self.about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        library = openvino()
        core = library.Core()
        model = core.read_model(folder / MODEL)
        _to_paged(model)
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "KV_CACHE_PRECISION": cache_precision,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
                "CACHE_DIR": str(cache_dir() / "openvino" / "kernels"),
            },
        )
        self._request = self._compiled.create_infer_request()
        self._ports = [
            (name, self._compiled.input(name))
            for layer in range(self.about["layers"])
            for name in (f"key_cache.{layer}", f"value_cache.{layer}")
        ]
        sizes = [[d.get_length() for d in list(port.partial_shape)[1:]] for _, port in self._ports]
        self.block = int(sizes[0][1])
        self._sizes = sizes
        self.block_bytes = sum(
            _product(size) * port.element_type.size for size, (_, port) in zip(sizes, self._ports, strict=True)
        )

    def allocate(self, blocks: int) -> None:
        """Make the cache; what was in it is lost."""
        library = openvino()
        for size, (name, port) in zip(self._sizes, self._ports, strict=True):
            self._request.set_tensor(name, library.Tensor(port.element_type, library.Shape([blocks, *size])))

    def run(self, parts: Sequence[Part]) -> Any:
        """Logits of the wanted tokens, (rows, vocabulary) in float32, in the parts' order; valid until the next run."""
        import numpy as np

        counts = np.array([len(part.ids) for part in parts])
        begins = np.concatenate([[0], np.cumsum(counts)])
        past = np.array([part.start for part in parts], np.int32)
        blocks = [-(-(part.start + len(part.ids)) // self.block) for part in parts]
        rows = [np.arange(end - part.rows, end) for part, end in zip(parts, begins[1:], strict=True)]
        given = {
            "input_ids": np.fromiter((t for part in parts for t in part.ids), np.int64, int(begins[-1])),
            "position_ids": np.concatenate(
                [np.arange(part.start, part.start + count) for part, count in zip(parts, counts, strict=True)]
            ).astype(np.int64),
            "past_lens": past,
            "subsequence_begins": begins.astype(np.int32),
            "block_indices": np.fromiter(
                (b for part, count in zip(parts, blocks, strict=True) for b in part.blocks[:count]),
                np.int32,
                sum(blocks),
            ),
            "block_indices_begins": np.concatenate([[0], np.cumsum(blocks)]).astype(np.int32),
            "max_context_len": np.array(int((past + counts).max()), np.int32),
            ROWS: np.concatenate(rows).astype(np.int64),
        }
        self._request.infer(given, share_inputs=True)
        logits = self._request.get_output_tensor(0).data
        return logits.reshape(-1, logits.shape[-1])


ROWS = "rows"
"""The input that says of which tokens logits are wanted; a prompt's many others would cost as much as a layer."""


def _to_paged(model: Any) -> None:
    """Attention with state becomes paged attention, and the head sees the wanted tokens only, in place."""
    import numpy as np
    import openvino.opset13 as op
    from openvino._offline_transformations import paged_attention_transformation

    library = openvino()
    try:
        paged_attention_transformation(model)
    except RuntimeError as error:
        raise ConfigError(f"OpenVINO finds no attention to page in this model: {error}") from error
    head = next(node for node in model.get_ops() if node.get_friendly_name() == "lm_head")
    rows = op.parameter([-1], library.Type.i64, name=ROWS)
    rows.output(0).get_tensor().set_names({ROWS})
    wanted = op.gather(head.input(0).get_source_output(), rows, op.constant(np.array(0, np.int64)))
    head.input(0).replace_source_output(wanted.output(0))
    model.add_parameters([rows])
    model.validate_nodes_and_infer_types()


def _product(values: Sequence[int]) -> int:
    total = 1
    for value in values:
        total *= value
    return total

"""A GGUF file's tensors under the names of a transformers model, as rows of float32."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepseek.errors import ConfigError
from deepseek.models.gguf.header import Header, Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 1 << 19
"""Numbers de-quantised at a time: their temporaries stay near the processor's caches, whatever the tensor's size."""

_RECOMPUTED = re.compile(r"rope_freqs\.weight|blk\.\d+\.attn_rot_embd\.weight")
"""Tensors without a parameter: transformers computes the rotary angles from the config."""


class Weights:
    """The weights of ``model`` (on the ``meta`` device) in a GGUF file.

    Attributes:
        shapes: shape of each parameter, by transformers' name; tied parameters once.

    Raises:
        ConfigError: a parameter has no tensor, a tensor has no parameter, shapes differ, or the ``gguf`` library cannot
            de-quantise a type.
    """

    def __init__(self, header: Header, model: PreTrainedModel) -> None:
        from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

        self._header = header
        self._tensors = _named(header, model)
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)
        self._processor: Any = processor(config=model.config.to_dict())
        # copy on write: torch warns of arrays that it could not write to
        self._data: NDArray[np.uint8] = np.memmap(header.path, dtype=np.uint8, mode="c").view(np.ndarray)
        self._check_types()

    def chunks(self, name: str) -> Iterator[NDArray[np.float32]]:
        """The parameter ``name`` in float32, flattened, a part at a time (:data:`CHUNK` numbers)."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

        tensor = self._tensors[name]
        kind = GGMLQuantizationType(tensor.kind)
        raw = self._data[tensor.start : tensor.start + tensor.size]
        if len(tensor.shape) == 1:
            yield np.ascontiguousarray(self._processed(dequantize(raw, kind), tensor))
            return
        # llama.cpp's permutation of q and k moves whole rows, so it is undone while they are still small
        raw = np.ascontiguousarray(self._processed(raw.reshape(tensor.shape[0], -1), tensor)).reshape(-1)
        block, block_bytes = GGML_QUANT_SIZES[kind]
        step = CHUNK // block * block_bytes
        for start in range(0, len(raw), step):
            # one long row: the library works on 16 rows at a time, too few numbers for numpy
            yield dequantize(raw[start : start + step].reshape(1, -1), kind).reshape(-1)

    def _processed(self, values: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
        processed: NDArray[Any] = self._processor.process(weights=values, name=tensor.name).weights
        return processed

    def _check_types(self) -> None:
        """Try every type on one block of zeros, before anything is written."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

        for kind in {tensor.kind for tensor in self._tensors.values()}:
            known = GGMLQuantizationType(kind)
            try:
                dequantize(np.zeros((1, GGML_QUANT_SIZES[known][1]), np.uint8), known)
            except NotImplementedError as error:
                raise ConfigError(f"{self._header.path} cannot be converted: {error}") from error


def _named(header: Header, model: PreTrainedModel) -> dict[str, Tensor]:
    """The file's tensors by the names of the model's parameters, with the parameters' shapes."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == header.architecture)
    names = get_tensor_name_map(architecture, model.config.num_hidden_layers)
    found: dict[str, Tensor] = {}
    missing, other = [], []
    for name, parameter in model.named_parameters():
        stem, _, suffix = name.rpartition(".")
        tensor = header.tensors.get(f"{names.get_name(stem)}.{suffix}")
        if tensor is None:
            missing.append(name)
        elif tensor.shape != tuple(parameter.shape):
            other.append(f"{tensor.name}: expected {tuple(parameter.shape)}, received {tensor.shape}")
        else:
            found[name] = tensor
    used = {tensor.name for tensor in found.values()}
    extra = [name for name in header.tensors if name not in used and not _RECOMPUTED.fullmatch(name)]
    if other:
        raise _refused(header, "shapes differ from what its metadata say", other)
    if missing:
        raise _refused(header, f"tensors of {type(model).__name__} are missing", missing)
    if extra:
        raise _refused(header, f"it has tensors that {type(model).__name__} has no place for", extra)
    return found


def _refused(header: Header, reason: str, what: list[str]) -> ConfigError:
    more = f" and {len(what) - 5} more" if len(what) > 5 else ""
    return ConfigError(f"{header.path} cannot be converted: {reason}: {', '.join(what[:5])}{more}")

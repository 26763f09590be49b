"""Weights as constants of a graph: as they are, in 8 bits, or in 4 bits with groups.

OpenVINO's CPU kernels multiply packed weights directly, and take scales and zero points in floating point. That is
worth having: a zero point rounded to a whole number, as most formats store it, moves every weight of its group by up to
half a step. With float zero points the grid of a group goes through its smallest and its largest weight exactly;
weights that come from a 4-bit file with minima (GGUF's Q4_1) are then found on their own grid again, and nothing is
lost. SmolLM2-135M from Q4_1: perplexity 0.3% above float32 in 4 bits, as in 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deepseek.inference.openvino.library import openvino

KINDS = ("float", "int8", "int4", "auto")
GROUP = 32
"""Weights of a row that share a scale and a zero point in 4 bits."""


class Packer:
    """Makes constants. Keeps the arrays that they point to until the model is written.

    Args:
        kind: ``"float"`` (as the checkpoint stores them), ``"int8"`` (a scale for each row), ``"int4"`` (a scale and a
            zero point for each 32 weights; embeddings and the head, which suffer most, in int8), or ``"auto"`` (4 bits
            for matrices that lose nothing by it, 8 for others).
        packed: is told of each packed matrix: its name, whole numbers, scale, and zero point or ``None`` (8 bits).
    """

    def __init__(self, kind: str, packed: Callable[[str, Any, Any, Any], None] = lambda *_: None) -> None:
        import openvino.opset13 as ops

        assert kind in KINDS, kind
        self._kind, self._ov, self._op = kind, openvino(), ops
        self._kept: list[Any] = []
        self._packed = packed

    def node(self, name: str, tensor: Any) -> Any:
        """A node that yields ``tensor`` (a torch tensor; a matrix is (out, in)) in float32."""
        if tensor.ndim != 2 or self._kind == "float":
            return self._plain(tensor)
        delicate = name.endswith(("embed_tokens.weight", "lm_head.weight"))
        weight = tensor.float().numpy()
        if self._kind != "int8" and not delicate and tensor.shape[1] % GROUP == 0:
            whole, scale, zero = in_4_bits(weight)
            if self._kind == "int4" or _lossless(weight, whole, scale, zero):
                self._packed(name, whole, scale, zero)
                return self._int4(whole, scale, zero)
        return self._int8(name, weight)

    def _plain(self, tensor: Any) -> Any:
        import torch

        op, kinds = self._op, self._ov.Type
        if tensor.dtype == torch.bfloat16:
            bits = self._keep(tensor.contiguous().view(torch.int16).numpy())
            stored = op.constant(self._ov.Tensor(bits, self._ov.Shape(list(tensor.shape)), kinds.bf16))
        else:
            stored = op.constant(self._keep(tensor.contiguous().numpy()))
        return stored if tensor.dtype == torch.float32 else self._decompressed(op.convert(stored, "f32"))

    def _int8(self, name: str, weight: Any) -> Any:
        import numpy as np

        op = self._op
        scale = np.abs(weight).max(axis=1, keepdims=True) / 127
        scale[scale == 0] = 1
        scale = scale.astype(np.float32)
        whole = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
        self._packed(name, whole, scale, None)
        stored = op.convert(op.constant(self._keep(whole)), "f32")
        return self._decompressed(op.multiply(stored, op.constant(self._keep(scale))))

    def _int4(self, whole: Any, scale: Any, zero: Any) -> Any:
        import numpy as np

        op, ov = self._op, self._ov
        rows, groups, size = whole.shape
        nibbles = whole.reshape(-1)
        packed = self._keep(nibbles[0::2] | (nibbles[1::2] << 4))
        stored = op.constant(ov.Tensor(packed, ov.Shape([rows, groups, size]), ov.Type.u4))
        shifted = op.subtract(op.convert(stored, "f32"), op.constant(self._keep(zero)))
        scaled = op.multiply(shifted, op.constant(self._keep(scale)))
        return self._decompressed(op.reshape(scaled, op.constant(np.array([rows, groups * size], np.int64)), False))

    def _keep(self, array: Any) -> Any:
        import numpy as np

        own = np.ascontiguousarray(array)
        self._kept.append(own)
        return own

    @staticmethod
    def _decompressed(node: Any) -> Any:
        """Marked so that no pass computes it beforehand, which would unpack the weights in memory."""
        node.get_rt_info()["decompression"] = True
        return node


def in_4_bits(weight: Any) -> tuple[Any, Any, Any]:
    """A float32 matrix (out, in) on a grid of 16 values for each group of :data:`GROUP` weights of a row.

    Returns:
        Whole numbers from 0 to 15, uint8 (out, groups, GROUP), and scales and zero points, float32 (out, groups, 1): a
        weight is ``(whole - zero) * scale``.
    """
    import numpy as np

    rows, columns = weight.shape
    groups = weight.reshape(rows, columns // GROUP, GROUP)
    low, high = groups.min(axis=-1, keepdims=True), groups.max(axis=-1, keepdims=True)
    scale = ((high - low) / 15).astype(np.float32)
    flat = scale == 0  # equal weights, which are one step from zero
    scale[flat] = np.where(low[flat] == 0, 1.0, np.abs(low[flat]))
    zero = (-low / scale).astype(np.float32)
    return np.clip(np.rint(groups / scale + zero), 0, 15).astype(np.uint8), scale, zero


LOSSLESS = 1e-3
"""Of the weights' norm, what is rounding: 4-bit files keep scales and minima in float16."""


def _lossless(weight: Any, whole: Any, scale: Any, zero: Any) -> bool:
    import numpy as np

    error = ((whole - zero) * scale).reshape(weight.shape) - weight
    return bool(np.linalg.norm(error) <= LOSSLESS * np.linalg.norm(weight))

"""Weights as constants of a graph: as they are, in 8 bits, or in 4 bits with groups.

OpenVINO's CPU kernels multiply packed weights directly, and take scales and zero points in floating point. That is worth
having: a zero point rounded to a whole number, as most formats store it, moves every weight of its group by up to half a
step. With float zero points the grid of a group goes through its smallest and its largest weight exactly; weights that
come from a 4-bit file with minima (GGUF's Q4_1) are then found on their own grid again, and nothing is lost.
"""

from __future__ import annotations

from typing import Any

from deepseek.inference.openvino.library import openvino

KINDS = ("float", "int8", "int4")
GROUP = 32
"""Weights of a row that share a scale and a zero point in 4 bits."""


class Packer:
    """Makes constants. Keeps the arrays that they point to until the model is written.

    Args:
        kind: ``"float"`` (as the checkpoint stores them), ``"int8"`` (a scale for each row) or ``"int4"`` (a scale and a
            zero point for each 32 weights; embeddings and the head, which suffer most, in int8).
    """

    def __init__(self, kind: str) -> None:
        import openvino.opset13 as ops

        assert kind in KINDS, kind
        self._kind, self._ov, self._op = kind, openvino(), ops
        self._kept: list[Any] = []

    def node(self, name: str, tensor: Any) -> Any:
        """A node that yields ``tensor`` (a torch tensor; a matrix is (out, in)) in float32."""
        if tensor.ndim != 2 or self._kind == "float":
            return self._plain(tensor)
        delicate = name.endswith(("embed_tokens.weight", "lm_head.weight"))
        if self._kind == "int4" and not delicate and tensor.shape[1] % GROUP == 0:
            return self._int4(tensor.float().numpy())
        return self._int8(tensor.float().numpy())

    def _plain(self, tensor: Any) -> Any:
        import torch

        op, kinds = self._op, self._ov.Type
        if tensor.dtype == torch.bfloat16:
            bits = self._keep(tensor.contiguous().view(torch.int16).numpy())
            stored = op.constant(self._ov.Tensor(bits, self._ov.Shape(list(tensor.shape)), kinds.bf16))
        else:
            stored = op.constant(self._keep(tensor.contiguous().numpy()))
        return stored if tensor.dtype == torch.float32 else self._decompressed(op.convert(stored, "f32"))

    def _int8(self, weight: Any) -> Any:
        import numpy as np

        op = self._op
        scale = np.abs(weight).max(axis=1, keepdims=True) / 127
        scale[scale == 0] = 1
        scale = scale.astype(np.float32)
        whole = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
        stored = op.convert(op.constant(self._keep(whole)), "f32")
        return self._decompressed(op.multiply(stored, op.constant(self._keep(scale))))

    def _int4(self, weight: Any) -> Any:
        import numpy as np

        op, ov = self._op, self._ov
        rows, columns = weight.shape
        groups = weight.reshape(rows, columns // GROUP, GROUP)
        low, high = groups.min(axis=-1, keepdims=True), groups.max(axis=-1, keepdims=True)
        scale = ((high - low) / 15).astype(np.float32)
        flat = scale < 1e-12 * np.maximum(1, np.abs(low))
        scale[flat] = np.where(low[flat] == 0, 1.0, np.abs(low[flat]))  # equal weights: one step from zero
        zero = (-low / scale).astype(np.float32)
        whole = np.clip(np.rint(groups / scale + zero), 0, 15).astype(np.uint8)
        nibbles = whole.reshape(-1)
        packed = self._keep(nibbles[0::2] | (nibbles[1::2] << 4))
        stored = op.constant(ov.Tensor(packed, ov.Shape(list(groups.shape)), ov.Type.u4))
        shifted = op.subtract(op.convert(stored, "f32"), op.constant(self._keep(zero)))
        scaled = op.multiply(shifted, op.constant(self._keep(scale)))
        return self._decompressed(op.reshape(scaled, op.constant(np.array([rows, columns], np.int64)), False))

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

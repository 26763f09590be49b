"""Packed weights in the order in which the C source reads them: sixteen rows beside each other, four columns at a time.

A file of safetensors beside the OpenVINO model, which is mapped when it is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "few_tokens.safetensors"
ROWS, GROUP = 16, 32
PARTS = {
    "qkv": "self_attn.qkv_proj", "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
"""Matrices of a layer: the C source's names, and the checkpoint's."""
NORMS = {
    "attention_norm": "input_layernorm", "feed_norm": "post_attention_layernorm",
    "query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm",
}  # fmt: skip
EMBEDDING, HEAD, FINAL_NORM = "model.embed_tokens", "lm_head", "model.norm"


def four_bits(whole: Any, scale: Any, zero: Any) -> Any:
    """Bytes of a matrix in 4 bits.

    Args:
        whole: numbers from 0 to 15, uint8 (N, groups, 32).
        scale, zero: float32 (N, groups, 1); a weight is ``(whole - zero) * scale``.

    Returns:
        uint8 (N / 16, groups, 320): 256 bytes of weights, 16 scales and 16 minima in float16.
    """
    import numpy as np

    rows, groups, _ = whole.shape
    both = whole[..., :16] | (whole[..., 16:] << 4)
    beside = both.reshape(rows // ROWS, ROWS, groups, 4, 4).transpose(0, 2, 3, 1, 4).reshape(rows // ROWS, groups, 256)
    ends = [
        part.astype(np.float16).reshape(rows // ROWS, ROWS, groups).transpose(0, 2, 1).copy().view(np.uint8)
        for part in (scale, -zero * scale)
    ]
    return np.concatenate([beside, *ends], axis=-1)


def eight_bits(whole: Any) -> Any:
    """Bytes of a matrix in 8 bits, int8 (N, columns): uint8 (N / 16, columns / 32, 512), each 128 higher."""
    import numpy as np

    rows, columns = whole.shape
    shifted = (whole.astype(np.int16) + 128).astype(np.uint8)
    parts = shifted.reshape(rows // ROWS, ROWS, columns // GROUP, 8, 4)
    return np.ascontiguousarray(parts.transpose(0, 2, 3, 1, 4)).reshape(rows // ROWS, columns // GROUP, 512)


class FewTokensWriter:
    """Takes a decoder's weights as they are packed for OpenVINO, and writes them for the C source.

    Args:
        plain: a weight of the checkpoint by its name, as a float32 array; ``None`` if there is none.
    """

    def __init__(self, plain: Any) -> None:
        self._plain = plain
        self._arrays: dict[str, Any] = {}
        self._fits = True

    def packed(self, name: str, whole: Any, scale: Any, zero: Any) -> None:
        """A matrix: in 4 bits with zero points, or in 8 (``zero`` is ``None``)."""
        stem = name.removesuffix(".weight")
        if whole.shape[0] % ROWS or (zero is None and whole.shape[1] % GROUP):
            self._fits = False
        elif zero is None:
            self._arrays |= {f"{stem}.data": eight_bits(whole), f"{stem}.scale": scale.reshape(-1)}
        else:
            self._arrays[f"{stem}.data"] = four_bits(whole, scale, zero)

    def write(self, folder: Path, about: dict[str, Any]) -> None:
        """Write the file, if the C source can compute such a decoder.

        Args:
            about: ``layers``, ``hidden``, ``heads``, ``kv_heads``, ``head_size``, ``epsilon``, ``rotary_scale``,
                ``activation``, ``tied``, and ``frequencies`` (float32 (D / 2)).
        """
        from safetensors.numpy import save_file

        about = dict(about)
        size, activation = about["head_size"], about.pop("activation")
        if not self._fits or activation != "silu" or size % 16 or (about["heads"] * size) % GROUP:
            return
        arrays = self._arrays | {
            "frequencies": about.pop("frequencies"),
            f"{FINAL_NORM}.weight": self._norm(FINAL_NORM),
        }
        for layer in range(about["layers"]):
            prefix = f"model.layers.{layer}."
            for part in (prefix + name for name in NORMS.values()):
                if (norm := self._norm(part)) is not None:
                    arrays[f"{part}.weight"] = norm
            for part in (prefix + name for name in PARTS.values()):
                if f"{part}.data" not in arrays:
                    return  # a matrix that is not packed
                if (bias := self._plain(f"{part}.bias")) is not None:
                    arrays[f"{part}.bias"] = bias
        save_file(arrays, folder / FILE, metadata={"about": json.dumps(about)})

    def _norm(self, name: str) -> Any:
        return self._plain(f"{name}.weight")

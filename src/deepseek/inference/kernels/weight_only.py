# ruff: noqa: N803, N806, N815 - names end in their shape
"""Products of a few rows with weights of 4 or 8 bits: decoding reads all weights for each token, so bytes count.

Four bits are asymmetric in groups along the inputs: ``w = (q - zero) * scale`` with ``q`` from 0 to 15, scale and zero
in float16, the zero not rounded (HQQ, Badri and Shaji, 2023; groups as of GPTQ, arXiv 2210.17323). Eight bits are
symmetric, one scale an output. What a program reads at once lies side by side, inputs next to one another as matrix
units take them. A byte's low four bits belong to the first half of a group, the high four to the second, so that
neither needs to be moved after unpacking.

Not here: activations of 8 bits, and calibration (weights are rounded to the nearest). More than :data:`MOST_ROWS` rows
at once, and rows of float32, are computed from unpacked weights by PyTorch.

Shapes: M rows, K inputs, N outputs, G groups, H half a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepseek.errors import ConfigError
from deepseek.inference.kernels.needs import need_triton

if TYPE_CHECKING:
    import torch

GROUPS = (32, 64, 128)
MOST_ROWS = 64
"""Beyond, a product is bound by arithmetic, which PyTorch's own does better."""
STEPS_TO_ZERO = 1024
"""The farthest that zero may lie from a group's weights, in steps: float16 still tells halves of a step there."""


@dataclass(frozen=True)
class PackedInt4:
    """Weights of four bits.

    Attributes:
        quants_GNH: uint8 ``[G, N, H]``; a byte holds input ``h`` of its group in the low bits, ``H + h`` in the high.
        scales_GN, zeros_GN: float16 ``[G, N]``.
    """

    quants_GNH: torch.Tensor
    scales_GN: torch.Tensor
    zeros_GN: torch.Tensor

    @property
    def inputs(self) -> int:
        """K."""
        return int(self.quants_GNH.shape[0] * self.group)

    @property
    def outputs(self) -> int:
        """N."""
        return int(self.quants_GNH.shape[1])

    @property
    def group(self) -> int:
        """Inputs that share a scale and a zero."""
        return int(2 * self.quants_GNH.shape[2])

    @property
    def bytes(self) -> int:
        """What a product reads of it."""
        return sum(t.numel() * t.element_size() for t in (self.quants_GNH, self.scales_GN, self.zeros_GN))

    def to(self, device: torch.device | str) -> PackedInt4:
        """The same on a device."""
        return PackedInt4(self.quants_GNH.to(device), self.scales_GN.to(device), self.zeros_GN.to(device))

    def unpacked(self) -> torch.Tensor:
        """The weights that it stands for, float32 ``[N, K]``."""
        import torch

        halves = [self.quants_GNH & 15, self.quants_GNH >> 4]
        quants_GNI = torch.cat(halves, dim=2).float()
        weight_GNI = (quants_GNI - self.zeros_GN.float()[..., None]) * self.scales_GN.float()[..., None]
        return weight_GNI.transpose(0, 1).flatten(1)


@dataclass(frozen=True)
class PackedInt8:
    """Weights of eight bits.

    Attributes:
        quants_NK: int8 ``[N, K]``.
        scales_N: float32 ``[N]``.
    """

    quants_NK: torch.Tensor
    scales_N: torch.Tensor

    @property
    def inputs(self) -> int:
        """K."""
        return int(self.quants_NK.shape[1])

    @property
    def outputs(self) -> int:
        """N."""
        return int(self.quants_NK.shape[0])

    @property
    def bytes(self) -> int:
        """What a product reads of it."""
        return sum(t.numel() * t.element_size() for t in (self.quants_NK, self.scales_N))

    def to(self, device: torch.device | str) -> PackedInt8:
        """The same on a device."""
        return PackedInt8(self.quants_NK.to(device), self.scales_N.to(device))

    def unpacked(self) -> torch.Tensor:
        """The weights that it stands for, float32 ``[N, K]``."""
        return self.quants_NK.float() * self.scales_N[:, None]


def pack_int4(weight_NK: torch.Tensor, group: int = 128) -> PackedInt4:
    """Round a linear layer's weights to four bits.

    Args:
        weight_NK: outputs by inputs, as ``torch.nn.Linear`` has them.
        group: inputs that share a scale: 32, 64 or 128. Fewer are more exact and take more bytes: 4 bits and 32 a
            group.

    Raises:
        ConfigError: the group is not known, or does not divide the inputs; or weights are not finite, or too large
            for float16.
    """
    import torch

    if group not in GROUPS:
        raise ConfigError(f"expected a group of {', '.join(map(str, GROUPS))}, received {group!r}")
    weight_NK = _checked(weight_NK)
    outputs, inputs = weight_NK.shape
    if inputs % group:
        raise ConfigError(f"{inputs} inputs cannot be cut into groups of {group}; expected a group that divides them")
    weight_GNI = weight_NK.view(outputs, inputs // group, group).transpose(0, 1)
    least_GN, most_GN = weight_GNI.amin(2), weight_GNI.amax(2)
    farthest_GN = torch.maximum(least_GN.abs(), most_GN.abs())
    scales_GN = torch.maximum((most_GN - least_GN) / 15, farthest_GN / STEPS_TO_ZERO).half()
    scales_GN[scales_GN == 0] = 1.0  # nothing but zeros, or what float16 takes for such
    # by what is stored, so that the rounding of scale and zero is no error of its own
    scale_GN1 = scales_GN.float()[..., None]
    zeros_GN = (-least_GN / scale_GN1[..., 0]).half()
    quants_GNI = torch.round(weight_GNI / scale_GN1 + zeros_GN.float()[..., None]).clamp(0, 15).to(torch.uint8)
    half = group // 2
    packed_GNH = quants_GNI[..., :half] | (quants_GNI[..., half:] << 4)
    return PackedInt4(packed_GNH.contiguous(), scales_GN, zeros_GN)


def pack_int8(weight_NK: torch.Tensor) -> PackedInt8:
    """Round a linear layer's weights ``[N, K]`` to eight bits.

    Raises:
        ConfigError: weights are not finite, or too large for float16.
    """
    import torch

    weight_NK = _checked(weight_NK)
    scales_N = weight_NK.abs().amax(1) / 127
    scales_N[scales_N == 0] = 1.0
    return PackedInt8(torch.round(weight_NK / scales_N[:, None]).to(torch.int8), scales_N)


def _checked(weight_NK: torch.Tensor) -> torch.Tensor:
    import torch

    if weight_NK.ndim != 2 or not weight_NK.is_floating_point():
        raise ConfigError(
            f"expected weights [outputs, inputs] of floating point, received {list(weight_NK.shape)} of "
            f"{weight_NK.dtype}"
        )
    exact_NK = weight_NK.detach().float().contiguous()
    if not bool((exact_NK.abs() <= torch.finfo(torch.float16).max).all()):
        raise ConfigError("expected finite weights within float16's range")
    return exact_NK


def weight_only_matmul(x_MK: torch.Tensor, weight: PackedInt4 | PackedInt8) -> torch.Tensor:
    """``x @ w.T``: few rows of 16 bits on a GPU by Triton, all else by :func:`reference_matmul`.

    Args:
        x_MK: rows, float16, bfloat16 or float32.
        weight: of ``K`` inputs, on the same device.

    Returns:
        ``[M, N]`` of the rows' precision; sums are in float32.

    Raises:
        ConfigError: the shapes do not fit.
        MissingExtraError: the rows are on a GPU, and Triton is not here.
    """
    if x_MK.ndim != 2 or x_MK.shape[1] != weight.inputs:
        raise ConfigError(f"expected rows [M, {weight.inputs}], received {list(x_MK.shape)}")
    small = x_MK.shape[0] <= MOST_ROWS and x_MK.element_size() == 2
    if x_MK.device.type != "cuda" or not small:
        return reference_matmul(x_MK, weight)
    need_triton()
    from deepseek.inference.kernels.triton_weight_only import launch_matmul

    return launch_matmul(x_MK, weight)


def reference_matmul(x_MK: torch.Tensor, weight: PackedInt4 | PackedInt8) -> torch.Tensor:
    """The same in plain PyTorch, on any device, from unpacked weights of the rows' precision."""
    return x_MK @ weight.unpacked().to(x_MK.dtype).T

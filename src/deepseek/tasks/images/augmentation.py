"""Flips and crops of a whole batch at once, drawn from torch's generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def augment(pixels: torch.Tensor, *, flip: bool, crop: float) -> torch.Tensor:
    """Pictures mirrored with probability 1/2 and cropped, at their old size.

    Args:
        pixels: (batch, channels, height, width).
        crop: largest share of a side that is cut away; each picture's share and place are random.
    """
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    count = len(pixels)
    draws = torch.rand((4, count))
    scale = 1 - crop * draws[0]
    sign = torch.where(draws[3] < 0.5, -1.0, 1.0) if flip else torch.ones(count)
    matrix = torch.zeros((count, 2, 3))
    matrix[:, 0, 0], matrix[:, 1, 1] = scale * sign, scale
    matrix[:, 0, 2], matrix[:, 1, 2] = (1 - scale) * (2 * draws[1] - 1), (1 - scale) * (2 * draws[2] - 1)
    grid = affine_grid(matrix, list(pixels.shape), align_corners=False)
    found = grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return found.to(pixels.dtype)

"""Dynamic positional encoding: a learned relative-position matrix of two scales.

- *Near*, where single tokens count: ``rotary`` features at the end of each query and key turn with the position
  (RoFormer, arXiv:2104.09864), so that their product depends on the distance alone, and on the content of both. All
  periods are within the training length, so that a longer text shows no angle that training did not. Biases of the
  projections make the part that does not depend on content; in half of the heads they begin so that the head looks at
  a token or two beside its own (:func:`looking_at`) and, by its first rows r, not at far blocks
  (:func:`leaving_far_blocks`).
- *Far*, where blocks count: a learned row r[bucket] of each head for log-spaced block distances; it meets the query's
  content, ``c_i . r[bucket(I - J)]`` (Shaw et al. 2018, arXiv:1803.02155; the content-to-position term of DeBERTa,
  arXiv:2006.03654), and is the same for all keys of a block. Rows are kept as steps from one distance to the next:
  a distance that training never saw has a step of zero, hence the row of the longest that it did see.

Nothing here is n x n: rotary features are part of the dot product, the far term is one number a query and block. Both
are applied to activations, after the projections, so that int8 weights leave them as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from deepseek.models.attention.native.rotation import native_rotates, native_rotation_


def rotary_tables(
    positions: Tensor, features: int, *, shortest: float, longest: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each position's angles.

    Args:
        positions: (T,) whole numbers.
        features: rotary features, even: two for each period.
        shortest, longest: periods in tokens, between which the others lie log-spaced.

    Returns:
        Two tensors (T, features / 2).
    """
    frequency = _frequencies(features, shortest, longest, positions.device)
    angle = positions.float()[:, None] * frequency
    return angle.cos().to(dtype), angle.sin().to(dtype)


def _frequencies(features: int, shortest: float, longest: float, device: torch.device | None = None) -> Tensor:
    number = features // 2
    step = math.log(longest / shortest) / max(1, number - 1)
    return 2 * math.pi / (shortest * torch.exp(step * torch.arange(number, device=device)))


def first_looks(heads: int, layer: int, *, causal: bool) -> list[tuple[int, float]]:
    """Where each head looks first, in tokens before its own (-1 is the next one), and its share of the strength.

    The first half of the heads look at neighbours, each four half as strongly as the four before; the share of the
    others, which look everywhere, is 0. A decoder needs both from the start: what it copies from afar a head finds by
    what one below took from the token before (induction heads, arXiv:2209.11895), and heads that begin with
    neighbours are long in leaving them.
    """
    local = -(-heads // 2)
    near = [1, 2, 3, 4] if causal else [1, -1, 2, -2]
    turn = layer % 2 if local == 1 and not causal else 0  # a single one looks back in one layer, ahead in the next
    looks = [(near[(head + turn) % 4], 0.5 ** (head // 4)) for head in range(local)]
    return looks + [(near[0], 0.0)] * (heads - local)


def looking_at(
    looks: Sequence[tuple[int, float]], features: int, *, strength: float, shortest: float, longest: float
) -> tuple[Tensor, Tensor]:
    """Rotary features to begin with: whatever a token is, its product with the keys is greatest at one distance.

    The product of constant features is ``strength`` there and falls with the logarithm of how far off a key is, as
    periods are log-spaced. A model whose heads begin to look everywhere alike has to find out first that words depend
    on their neighbours: the product of two features that are both 0 has no gradient.

    Args:
        looks: of each head, the distance in tokens before its own, and its share of the strength.
        features: rotary features.

    Returns:
        What to add to queries and to keys, each (H, features).
    """
    frequency = _frequencies(features, shortest, longest)
    distance_H1 = torch.tensor([[float(distance)] for distance, _ in looks])
    share_H1 = torch.tensor([[share] for _, share in looks])
    length_H1 = (strength * share_H1 / max(1, len(frequency))).sqrt()
    angle_HF = distance_H1 * frequency
    key = length_H1 * torch.cat([angle_HF.cos(), angle_HF.sin()], 1)
    query = torch.cat([length_H1.expand(angle_HF.shape), torch.zeros_like(angle_HF)], 1)
    return query, key


def leaving_far_blocks(looks: Sequence[tuple[int, float]], content: int, *, strength: float) -> tuple[Tensor, Tensor]:
    """Content features and rows r to begin with: whatever a token is, far blocks' logits have ``strength`` less.

    Angles of periods come around: without this, a head that looks one token back would also look back 513 tokens when
    the longest period is 512, and the longer a text, the less of its attention would stay with the neighbour.

    Args:
        looks: as in :func:`looking_at`.
        content: content features.

    Returns:
        What to add to queries, and the step to the first distance's row, each (H, content).
    """
    query = torch.zeros(len(looks), content)
    query[:, 0] = torch.tensor([strength * share for _, share in looks]).sqrt()
    return query, -query


def rotate(x_BTHE: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the last ``2 * tables[0].shape[-1]`` features of (B, T, H, E) by their positions' angles."""
    cos, sin = tables[0][:, None], tables[1][:, None]
    half = cos.shape[-1]
    first, second = x_BTHE[..., -2 * half : -half], x_BTHE[..., -half:]
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat([x_BTHE[..., : -2 * half], *turned], -1)


class Turns:
    """The turns of one pass' positions for vectors that are turned in place, where no gradient is asked for, on a CPU.

    In C where that runs; else as matrices: one product for all vectors of a position instead of sums and products over
    rows of a few numbers, which leave a CPU's vectors half empty. Features that do not turn are not copied.

    Args:
        tables: cosines and sines, two (T, F / 2).
    """

    def __init__(self, tables: tuple[Tensor, Tensor]) -> None:
        self._tables = tables

    @property
    def dtype(self) -> torch.dtype:
        """Of vectors that can be turned."""
        return self._tables[0].dtype

    @cached_property
    def matrices_TFF(self) -> Tensor:
        """The turn of each position as a matrix to multiply row vectors with."""
        cos, sin = (torch.diag_embed(table) for table in self._tables)
        return torch.cat([torch.cat([cos, sin], 2), torch.cat([-sin, cos], 2)], 1)

    def turn_(self, x_BTHSE: Tensor) -> None:
        """As :func:`rotate`, in place, (B, T, H, S, E)."""
        if native_rotates(x_BTHSE):
            native_rotation_(x_BTHSE, self._tables)
        else:
            self.multiply_(x_BTHSE)

    def multiply_(self, x_BTHSE: Tensor) -> None:
        """As :meth:`turn_`, by matrices."""
        tokens, features, _ = self.matrices_TFF.shape
        by_position = x_BTHSE[..., -features:].transpose(0, 1)
        turned = torch.bmm(by_position.reshape(tokens, -1, features), self.matrices_TFF)
        by_position.copy_(turned.view(by_position.shape))


def relative_rows(steps_HSMC: Tensor) -> Tensor:
    """The rows r of each head from the steps between distances: (H, sides, buckets, C) to (H, sides * buckets, C)."""
    return steps_HSMC.cumsum(2).flatten(1, 2)

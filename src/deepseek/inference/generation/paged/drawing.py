"""A request's random numbers: one for each token of its answer, whatever else runs and however it is computed."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_AT_ONCE = 64


class Draws:
    """Uniform numbers in [0, 1), the same for the same seed on every device.

    The number for a token depends on its place in the answer alone, so a sequence that gave way, or whose tokens were
    guessed and verified several at once, is sampled as if it had run by itself.
    """

    def __init__(self, seed: int | None) -> None:
        self._seed = secrets.randbits(63) if seed is None else seed
        self._generator: torch.Generator | None = None
        self._drawn: list[float] = []

    def at(self, place: int) -> float:
        """The number for the token at ``place`` of the answer."""
        import torch

        if self._generator is None:
            self._generator = torch.Generator().manual_seed(self._seed)
        while len(self._drawn) <= place:
            fresh = torch.rand(_AT_ONCE, generator=self._generator, dtype=torch.float64)
            self._drawn += fresh.tolist()
        return self._drawn[place]

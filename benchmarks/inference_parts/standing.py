"""Where ours stands among peers over many cells: its worst cell, and all cells against the best single peer."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.harness import Figure


@dataclass(frozen=True)
class Standing:
    """Times of every contestant in every cell, compared.

    Attributes:
        best: cell -> its fastest peer.
        ratios: cell -> that peer's time divided by ours.
        overall: peer -> geometric mean over the cells of its time divided by ours.
    """

    best: dict[str, str]
    ratios: dict[str, float]
    overall: dict[str, float]

    @classmethod
    def of(cls, times: Mapping[str, Mapping[str, float]], ours: str, peers: Sequence[str]) -> Standing:
        """Compare ``times`` (cell -> contestant -> seconds) of ``ours`` with those of ``peers``."""
        best = {cell: min(peers, key=found.__getitem__) for cell, found in times.items()}
        ratios = {cell: times[cell][peer] / times[cell][ours] for cell, peer in best.items()}
        overall = {peer: _geometric([found[peer] / found[ours] for found in times.values()]) for peer in peers}
        return cls(best, ratios, overall)

    def figures(self, prefix: str, *, among: str, worst_note: str) -> dict[str, Figure]:
        """``PREFIX_worst_cell_vs_best_peer`` and ``PREFIX_overall_vs_best_single_peer``.

        Args:
            among: what the single peer is the fastest of.
            worst_note: what to add to the first: each cell, say.
        """
        worst = min(self.ratios, key=self.ratios.__getitem__)
        single = min(self.overall, key=self.overall.__getitem__)
        each = "; ".join(f"{name} {value:.2f}" for name, value in self.overall.items())
        return {
            f"{prefix}_worst_cell_vs_best_peer": Figure(
                value=self.ratios[worst],
                unit="times as fast",
                baseline=1.0,
                baseline_name=f"{self.best[worst]} in {worst}",
                note=f"bigger is better; promised 0.95. The least over {len(self.ratios)} cells of the best peer's "
                f"time there divided by ours. {worst_note}.",
            ),
            f"{prefix}_overall_vs_best_single_peer": Figure(
                value=self.overall[single],
                unit="times as fast",
                baseline=1.0,
                baseline_name=f"{single}, the fastest {among} over all cells",
                note=f"bigger is better; promised 1. Geometric mean over {len(self.ratios)} cells of a peer's time "
                f"divided by ours: {each}.",
            ),
        }


def _geometric(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))

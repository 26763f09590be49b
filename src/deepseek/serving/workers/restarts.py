"""When a dead worker is started again, and when that is given up."""

from __future__ import annotations

from deepseek.serving.workers.config import WorkersConfig


class Restarts:
    """Exponential waits, counted apart for workers that died before their model was loaded and for those that served.

    Apart, because a worker that answers says nothing about whether another one can be started, and a model that loads
    says nothing about whether it survives its first batch.
    """

    def __init__(self, config: WorkersConfig) -> None:
        self._config = config
        self._loading = self._serving = 0
        self.given_up = False
        """Whether too many died in a row; that is final."""

    def loaded(self) -> None:
        """A worker has its model."""
        self._loading = 0

    def answered(self) -> None:
        """A worker has answered a batch."""
        self._serving = 0

    def died(self, *, loaded: bool) -> float:
        """Count a death; returns the seconds to wait before the next start."""
        if loaded:
            self._serving += 1
        else:
            self._loading += 1
        in_a_row = max(self._loading, self._serving)
        self.given_up = self.given_up or in_a_row >= self._config.max_failures
        wait: float = self._config.restart_delay_seconds * 2.0 ** (in_a_row - 1)
        return min(wait, self._config.max_restart_delay_seconds)

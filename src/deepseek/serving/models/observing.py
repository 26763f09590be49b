"""What the monitoring is told of models: that they came, how they do, that they are gone."""

from __future__ import annotations

from deepseek.monitoring.metrics.models import ModelState
from deepseek.monitoring.server_monitor import ServerMonitor
from deepseek.serving.models.loaded_model import LoadedModel


class ModelObserver:
    """Gives each served model its meter and its quality monitor."""

    def __init__(self, monitor: ServerMonitor) -> None:
        self._monitor = monitor

    def added(self, loaded: LoadedModel) -> None:
        """Watch a model; drift is measured against the training data's statistics where the model knows them."""
        model, batcher = loaded.model, loaded.batcher
        metrics = getattr(model, "reference_metrics", None) or {}
        loaded.meter = self._monitor.add_model(
            loaded.name,
            loaded.version,
            state=lambda: ModelState(loaded.answers, batcher.queued_rows, loaded.max_queue),
            task=loaded.task,
            platform=model.platform,
            reference=getattr(model, "reference", None) or None,
            answer_column=getattr(model, "answer_column", None),
            reference_accuracy=metrics.get("accuracy"),
        )
        loaded.quality = self._monitor.quality(loaded.name, loaded.version)

    def removed(self, loaded: LoadedModel) -> None:
        """Stop watching it."""
        self._monitor.remove_model(loaded.name, loaded.version)

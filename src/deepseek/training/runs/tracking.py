"""Experiment trackers beside the run folder. Nothing is sent anywhere unless the recipe names a place."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deepseek.artifacts.cache import write_text
from deepseek.errors import ConfigError, require
from deepseek.training.runs.config import TrackingConfig

if TYPE_CHECKING:
    from transformers import TrainerCallback

TENSORBOARD = "tensorboard"
MLFLOW_RUN = "mlflow_run.txt"
LONGEST_PARAMETER = 500
"""MLflow refuses longer values of parameters."""


def trackers(
    config: TrackingConfig, folder: Path | None, *, name: str, parameters: Mapping[str, Any], resumed: int
) -> list[TrainerCallback]:
    """The callbacks that log loss, learning rate, gradient norm, validation metrics and parameters.

    Args:
        folder: the run folder; TensorBoard's files go to ``tensorboard`` in it.
        name: the run's name.
        parameters: settings of the run, nested; logged under dotted names.
        resumed: the step that the run goes on from, 0 for a new one.

    Raises:
        MissingExtraError: a tracker is not installed (extra ``tracking``).
        ConfigError: TensorBoard was asked for without a run folder, or the tracking server cannot be reached.
    """
    found: list[TrainerCallback] = []
    flat = flatten(parameters)
    if config.tensorboard:
        if folder is None:
            raise ConfigError("tracking.tensorboard writes into the run folder; give fit a folder")
        require("tensorboard", "tracking")
        found.append(_tensorboard(folder / TENSORBOARD, flat, resumed))
    if config.mlflow is not None:
        require("mlflow", "tracking")
        found.append(_mlflow(config, folder, name, flat, resumed))
    return found


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` to ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _tensorboard(folder: Path, parameters: dict[str, Any], resumed: int) -> TrainerCallback:
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    # points after the checkpoint, which an interrupted run left, are taken back
    writer = SummaryWriter(log_dir=str(folder), purge_step=resumed + 1 if resumed else None)
    table = "\n".join(f"| {key} | {value} |" for key, value in parameters.items())
    writer.add_text("recipe", f"| setting | value |\n| --- | --- |\n{table}", resumed)
    return TensorBoardCallback(writer)


def _check_reachable(uri: str) -> None:
    """Say at once that a server is not there; MLflow's client tries for four minutes."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=10).close()
    except OSError as error:
        raise ConfigError(f"tracking.mlflow: {uri!r} cannot be used: no answer from the server ({error})") from error


def _mlflow(
    config: TrackingConfig, folder: Path | None, name: str, parameters: dict[str, Any], resumed: int
) -> TrainerCallback:
    """An own callback: transformers' is set up by environment variables of the whole process, logs every field of its
    arguments as parameters, and ends up in whatever run is active."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from transformers import TrainerCallback

    _check_reachable(str(config.mlflow))
    client = MlflowClient(tracking_uri=config.mlflow)
    kept = folder / MLFLOW_RUN if folder is not None else None
    try:
        if resumed and kept is not None and kept.is_file():
            run = kept.read_text(encoding="utf-8").strip()
            client.update_run(run, status="RUNNING")
        else:
            experiment = client.get_experiment_by_name(config.experiment)
            number = experiment.experiment_id if experiment else client.create_experiment(config.experiment)
            run = client.create_run(number, run_name=name).info.run_id
            for key, value in parameters.items():
                client.log_param(run, key, str(value)[:LONGEST_PARAMETER])
    except (MlflowException, OSError) as error:
        raise ConfigError(f"tracking.mlflow: {config.mlflow!r} cannot be used: {error}") from error
    if kept is not None:
        write_text(kept, run)

    class MLflowTracker(TrainerCallback):  # type: ignore[misc]
        ended = False

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            for key, value in (logs or {}).items():
                if isinstance(value, int | float):
                    client.log_metric(run, key, float(value), step=state.global_step)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            client.set_terminated(run, "FINISHED")
            self.ended = True

        def failed(self) -> None:
            """Say in MLflow that the run did not end well."""
            if not self.ended:
                client.set_terminated(run, "FAILED")

    return MLflowTracker()

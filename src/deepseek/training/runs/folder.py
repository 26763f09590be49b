"""The folder of a run: all that is needed to know what was trained, on what, where, and how it went.

``recipe.yaml`` (the settings that ran), ``data.json`` (source, version, fingerprint, rows), ``environment.json``
(versions, machine, commit), ``base.json`` (fingerprint of a frozen base), ``metrics.json``, ``curve.csv`` and
``curve.png``, ``encoded/`` (training features), ``checkpoints/`` (``checkpoint-N``, ``best-N``), ``tensorboard/``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deepseek.artifacts.cache import write_text
from deepseek.errors import ConfigError
from deepseek.training.recipe import TrainingRecipe
from deepseek.training.runs.environment import environment

if TYPE_CHECKING:
    from deepseek.models.adapters.fingerprint import Fingerprint
    from deepseek.training.encoding.row_source import RowSource

RECIPE, DATA, ENVIRONMENT, METRICS = "recipe.yaml", "data.json", "environment.json", "metrics.json"
BASE = "base.json"
OF_A_RUN = (RECIPE, DATA, ENVIRONMENT, METRICS, BASE, "curve.csv", "curve.png", "mlflow_run.txt", "plan.json")
FOLDERS_OF_A_RUN = ("checkpoints", "tensorboard")

FREE_TO_CHANGE = frozenset(
    {"tracking", "keep_checkpoints", "micro_batch_size", "gradient_checkpointing", "distributed"}
)
"""Training settings that an interrupted run may be resumed with other values of: they do not change what is trained."""


class RunFolder:
    """The files of one run in ``path``; ``main`` is false in processes that must not write."""

    def __init__(self, path: Path, *, main: bool = True) -> None:
        self.path, self.main = path, main
        self.checkpoints = path / "checkpoints"
        self.encoded = path / "encoded"

    def begin(self, recipe: TrainingRecipe, data: Mapping[str, Any]) -> None:
        """Start a new run here; what an older run left is removed, but for what is found by a fingerprint
        (encoded rows, states of frozen layers)."""
        if not self.main:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        for name in FOLDERS_OF_A_RUN:
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in OF_A_RUN:
            (self.path / name).unlink(missing_ok=True)
        self.checkpoints.mkdir()
        settings = recipe.model_dump(mode="json")
        write_text(self.path / RECIPE, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        self._json(DATA, data)
        self._json(ENVIRONMENT, environment())

    def check_base(self, base: Fingerprint | None) -> None:
        """Note the frozen base that a run trains on; a run that is resumed must have the same one.

        Checkpoints hold what trains, so on another base they would give a model that was never trained.

        Raises:
            ConfigError: the run began on another base.
        """
        path = self.path / BASE
        if base is None:
            return
        if not path.is_file():
            self._json(BASE, base.model_dump(mode="json"))
            return
        before = type(base).model_validate_json(path.read_text(encoding="utf-8"))
        if not before.same_base(base):
            raise ConfigError(
                f"the run in {self.path} began on another base model (fingerprint {before}, and now {base}); give it "
                "the model that it began on, or choose another folder"
            )

    def check_same(self, recipe: TrainingRecipe, data: Mapping[str, Any]) -> None:
        """Refuse to resume a run with other settings or on other rows than it began with.

        Raises:
            ConfigError: what differs.
        """
        before = yaml.safe_load((self.path / RECIPE).read_text(encoding="utf-8"))
        names = set(TrainingRecipe.model_fields)
        was, now = (
            _compared({k: before.get(k) for k in names}),
            _compared(recipe.model_dump(mode="json", include=names)),
        )
        for key in sorted({*was, *now}):
            if was.get(key) != now.get(key):
                raise ConfigError(
                    f"the run in {self.path} was started with another recipe: {key} was {was.get(key)!r} and is "
                    f"{now.get(key)!r}; resume with {self.path / RECIPE}, or choose another folder"
                )
        known = json.loads((self.path / DATA).read_text(encoding="utf-8"))
        for part in ("train", "validation"):
            if known.get(part) != json.loads(json.dumps(data.get(part))):
                raise ConfigError(
                    f"the run in {self.path} was started on other {part} rows: {_short(known.get(part))}, and now "
                    f"{_short(data.get(part))}; give it the same rows, or choose another folder"
                )

    @property
    def has_run(self) -> bool:
        """Whether a run began here."""
        return (self.path / RECIPE).is_file() and (self.path / DATA).is_file()

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json``."""
        if self.main:
            self._json(METRICS, metrics)

    def _json(self, name: str, content: Mapping[str, Any]) -> None:
        write_text(self.path / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def data_record(train: RowSource, validation: RowSource | None) -> dict[str, Any]:
    """What ``data.json`` says: where rows come from, their version or hash, how many, and their columns."""
    return {
        "train": {**train.identity(), "columns": train.columns},
        "validation": None if validation is None else {**validation.identity(), "columns": validation.columns},
    }


def _compared(recipe: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        if key == "training" and isinstance(value, Mapping):
            flat |= {f"training.{k}": v for k, v in value.items() if k not in FREE_TO_CHANGE}
        else:
            flat[key] = value
    return flat


def _short(identity: Mapping[str, Any] | None) -> str:
    if identity is None:
        return "none"
    version = f", version {identity['version']}" if "version" in identity else ""
    return f"{identity.get('rows')} rows of {identity.get('source')}{version}"

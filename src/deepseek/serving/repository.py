"""The models of one server: by name and version, each with its batcher and its codec."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from deepseek.errors import ConfigError, DeepSeekError, UnknownNameError
from deepseek.serving.batching import MicroBatcher
from deepseek.serving.config import ServingConfig
from deepseek.serving.errors import NotReadyError
from deepseek.serving.model import Outputs, Parameters, ServedModel
from deepseek.serving.oip.codec import Codec
from deepseek.tasks.signature import Field

logger = logging.getLogger("deepseek.serving")


class LoadedModel:
    """A model with what serving adds to it: a batcher, a codec compiled from its signature, and readiness."""

    def __init__(self, model: ServedModel, config: ServingConfig) -> None:
        self.model = model
        self.name = model.name
        self.version = model.version
        self.task = model.task
        self.codec = Codec(model.signature)
        self.loaded_at = int(time.time())
        self.ready = False
        self.batcher = MicroBatcher(
            self._predict,
            name=model.name,
            max_batch_size=config.max_batch_size,
            max_batch_delay_ms=config.max_batch_delay_ms,
            max_queue=config.max_queue,
        )

    def _predict(self, rows: Any, parameters: Parameters) -> Outputs:
        return self.model.predict(rows, parameters or None)

    def require_ready(self) -> None:
        """Raise :class:`NotReadyError` while the model is warming up."""
        if not self.ready:
            raise NotReadyError(f"model {self.name!r} is still loading; retry later")

    async def warm_up(self) -> None:
        """Run one tiny row, so that the first client does not pay for lazy initialisation, then become ready.

        A model may refuse our made-up row (``ValueError``): it answered, so it is ready. Any other exception is raised
        as :class:`DeepSeekError`, because every real request would meet it too.
        """
        parameters = {"max_new_tokens": 1} if "max_new_tokens" in self.codec.parameters else None
        try:
            await self.batcher.submit([sample_row(self.model.signature.inputs)], parameters)
        except ValueError as error:
            logger.warning("model %r refused the warm-up row: %s", self.name, error)
        except Exception as error:
            raise DeepSeekError(
                f"model {self.name!r} failed on its warm-up row with {type(error).__name__}: {error}"
            ) from error
        self.ready = True


class ModelRepository:
    """Names and versions mapped to loaded models; used on the event loop only, once the server runs."""

    def __init__(self, config: ServingConfig) -> None:
        self._config = config
        self._models: dict[str, dict[str, LoadedModel]] = {}

    def __iter__(self) -> Iterator[LoadedModel]:
        for versions in self._models.values():
            yield from versions.values()

    @property
    def names(self) -> list[str]:
        """Names of all models, sorted."""
        return sorted(self._models)

    @property
    def ready(self) -> bool:
        """Whether every model is ready."""
        return all(loaded.ready for loaded in self)

    def add(self, model: ServedModel) -> LoadedModel:
        """Add a model, not ready until :meth:`LoadedModel.warm_up`; raises :class:`ConfigError` on a duplicate."""
        if not model.name or not model.version:
            raise ConfigError(f"a served model needs a name and a version, received {model.name!r}, {model.version!r}")
        versions = self._models.setdefault(model.name, {})
        if model.version in versions:
            raise ConfigError(f"model {model.name!r} version {model.version!r} is served already")
        loaded = versions[model.version] = LoadedModel(model, self._config)
        return loaded

    async def remove(self, name: str, version: str = "") -> None:
        """Stop serving a model: new requests get "unknown model", queued ones are still answered."""
        loaded = self.get(name, version)
        versions = self._models[name]
        del versions[loaded.version]
        if not versions:
            del self._models[name]
        await loaded.batcher.drain()

    def get(self, name: str, version: str = "") -> LoadedModel:
        """Return a model; without a version the newest. Raises :class:`UnknownNameError` with the nearest names."""
        versions = self._models.get(name)
        if versions is None:
            raise UnknownNameError("model", name, self._models)
        if version:
            if version not in versions:
                raise UnknownNameError(f"version of model {name!r}", version, versions)
            return versions[version]
        return next(iter(versions.values())) if len(versions) == 1 else max(versions.values(), key=_age)

    def versions(self, name: str) -> list[str]:
        """Versions of a model, oldest first; raises :class:`UnknownNameError`."""
        self.get(name)
        return [loaded.version for loaded in sorted(self._models[name].values(), key=_age)]

    def for_task(self, task: str) -> LoadedModel:
        """Return the newest version of the first model added for ``task``; raises :class:`UnknownNameError`."""
        for versions in self._models.values():
            fitting = [loaded for loaded in versions.values() if loaded.task == task]
            if fitting:
                return max(fitting, key=_age)
        raise UnknownNameError("task", task, {loaded.task for loaded in self}, "No model here serves it.")

    async def drain(self) -> None:
        """Answer everything that waits, then end the models' threads."""
        for loaded in list(self):
            await loaded.batcher.drain()

    def close(self) -> None:
        """End the models' threads; whatever waits fails with :class:`NotReadyError`."""
        for loaded in self:
            loaded.batcher.close()


def _age(loaded: LoadedModel) -> tuple[bool, int, int]:
    """Sorts numeric versions by number ("10" after "9"), after all others, which keep their order of loading."""
    numeric = loaded.version.isdecimal()
    return numeric, int(loaded.version) if numeric else 0, loaded.loaded_at


def sample_row(inputs: tuple[Field, ...]) -> dict[str, Any]:
    """A smallest plausible row for a signature: short text, zeros, sizes that vary set to 1."""
    import numpy as np

    samples: dict[str, Any] = {"string": "warm up", "bytes": b"warm up", "bool": False, "float32": 0.0, "float64": 0.0}
    row: dict[str, Any] = {}
    for field in inputs:
        if field.optional:
            continue
        value = samples.get(field.dtype, 0)
        if field.shape:
            shape = tuple(1 if size < 0 else size for size in field.shape)
            array = np.full(shape, value, dtype=object if field.dtype in ("string", "bytes") else field.dtype)
            row[field.name] = array.tolist() if array.dtype == object else array
        else:
            row[field.name] = value
    return row

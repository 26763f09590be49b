"""The models of one server: by name and version; loaded, swapped and unloaded while it runs.

A model comes from a :class:`ModelSource`, which can load it again. Loading happens in a thread, and the new model is
warmed up beside the old one before it takes its place, so that no request waits for it or is lost: requests that
reached the old one are answered by it, and those that are between two steps at that moment go to the new one.

Triton's model repository extension is the interface (github.com/triton-inference-server/server, docs/protocol).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.serving.config import ServingConfig
from deepseek.serving.loaded_model import LoadedModel
from deepseek.serving.model import ServedModel


class ModelSource(Protocol):
    """Where a model comes from; loads it as often as asked."""

    @property
    def name(self) -> str:
        """The name under which its models are served."""

    def load(self) -> ServedModel:
        """Load the model as it is now; blocks. Raises a :class:`~deepseek.errors.DeepSeekError` saying why not."""


class Observer(Protocol):
    """Is told of models that come and go."""

    def added(self, loaded: LoadedModel) -> None:
        """A model is served from now on."""

    def removed(self, loaded: LoadedModel) -> None:
        """A model is not served any more."""


class Entry(NamedTuple):
    """A line of the repository's index; without a version when the model is not loaded."""

    name: str
    version: str
    state: str
    """``READY``, ``LOADING`` or ``UNAVAILABLE``."""
    reason: str = ""


class ModelRepository:
    """Names and versions mapped to loaded models; used on the event loop only, once the server runs."""

    def __init__(self, config: ServingConfig, observer: Observer | None = None) -> None:
        self._config, self._observer = config, observer
        self._models: dict[str, dict[str, LoadedModel]] = {}
        self._sources: dict[str, ModelSource] = {}
        self._failures: dict[str, str] = {}
        self._loading: dict[str, asyncio.Lock] = {}

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

    def register(self, source: ModelSource) -> None:
        """Make a model known that can be loaded later; raises :class:`ConfigError` on a duplicate."""
        if source.name in self._sources:
            raise ConfigError(f"two sources have models of the name {source.name!r}; give one of them another name")
        self._sources[source.name] = source

    def add(self, model: ServedModel, source: ModelSource | None = None) -> LoadedModel:
        """Add a model, not ready until :meth:`LoadedModel.warm_up`; raises :class:`ConfigError` on a duplicate.

        ``source`` is what it came from, if it can be loaded again.
        """
        if not model.name or not model.version:
            raise ConfigError(f"a served model needs a name and a version, received {model.name!r}, {model.version!r}")
        versions = self._models.setdefault(model.name, {})
        if model.version in versions:
            raise ConfigError(f"model {model.name!r} version {model.version!r} is served already")
        loaded = versions[model.version] = LoadedModel(model, self._config, source)
        if self._observer is not None:
            self._observer.added(loaded)
        return loaded

    async def load(self, name: str) -> LoadedModel:
        """Load a model from its source, and put it in the place of what came from there before.

        When loading or the warm-up fails, what was served goes on. Raises :class:`UnknownNameError` for a name without
        a source, and what the source raises.
        """
        source = self._sources.get(name)
        if source is None:
            raise UnknownNameError("model to load", name, self._sources, "Only models with a source can be loaded.")
        async with self._loading.setdefault(name, asyncio.Lock()):
            self._failures.pop(name, None)
            try:
                model = await asyncio.to_thread(source.load)
                loaded = LoadedModel(model, self._config, source)
                try:
                    await loaded.warm_up()
                except BaseException:
                    loaded.batcher.close()
                    loaded.release()
                    raise
            except Exception as error:
                self._failures[name] = str(error) or type(error).__name__
                raise
            versions = self._models.setdefault(loaded.name, {})
            replaced = [old for old in versions.values() if old.source is source or old.version == loaded.version]
            for old in replaced:
                del versions[old.version]
                old.successor = loaded
                self._gone(old)
            versions[loaded.version] = loaded
            if self._observer is not None:
                self._observer.added(loaded)
            for old in replaced:
                await old.retire(loaded)
            return loaded

    async def unload(self, name: str) -> None:
        """Stop serving every version of a model: new requests get "unknown model", queued ones are still answered."""
        self.get(name)
        async with self._loading.setdefault(name, asyncio.Lock()):
            for loaded in self._models.pop(name, {}).values():
                self._gone(loaded)
                await loaded.retire()

    def _gone(self, loaded: LoadedModel) -> None:
        if self._observer is not None:
            self._observer.removed(loaded)

    async def remove(self, name: str, version: str = "") -> None:
        """Stop serving one version of a model, as :meth:`unload` does for all."""
        loaded = self.get(name, version)
        versions = self._models[name]
        del versions[loaded.version]
        if not versions:
            del self._models[name]
        self._gone(loaded)
        await loaded.retire()

    def index(self, *, ready: bool = False) -> list[Entry]:
        """All models that are served, then all that could be loaded; ``ready``: only those that answer now."""
        entries = [
            Entry(loaded.name, loaded.version, "READY" if loaded.ready else "LOADING")
            for name in self.names
            for loaded in self._models[name].values()
        ]
        for name in sorted(self._sources):
            lock = self._loading.get(name)
            if name not in self._models:
                state = "LOADING" if lock is not None and lock.locked() else "UNAVAILABLE"
                entries.append(Entry(name, "", state, self._failures.get(name, "unloaded")))
        return [entry for entry in entries if entry.state == "READY"] if ready else entries

    def failure(self, name: str) -> str:
        """Why a model could not be loaded the last time; empty when it could."""
        return self._failures.get(name, "")

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

    def chosen(self, name: str = "", version: str = "") -> list[LoadedModel]:
        """Models of a name and version, each of which may be left open; raises :class:`UnknownNameError`."""
        if name and version:
            return [self.get(name, version)]
        if name:
            return [self.get(name, each) for each in self.versions(name)]
        return [loaded for known in self.names for loaded in self.chosen(known)]

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
            await loaded.retire()

    def close(self) -> None:
        """End the models' threads; whatever waits fails with :class:`NotReadyError`."""
        for loaded in self:
            loaded.batcher.close()
            with contextlib.suppress(Exception):  # the server ends anyway, and the other models must be freed too
                loaded.release()


def _age(loaded: LoadedModel) -> tuple[bool, int, int]:
    """Sorts numeric versions by number ("10" after "9"), after all others, which keep their order of loading."""
    numeric = loaded.version.isdecimal()
    return numeric, int(loaded.version) if numeric else 0, loaded.loaded_at

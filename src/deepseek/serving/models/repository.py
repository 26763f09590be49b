"""The models of one server: by name and version; loaded, swapped and unloaded while it runs.

A model comes from a :class:`ModelSource`, which can load it again. Loading happens in a thread, and the new model is
warmed up beside the old one before it takes its place, so that no request waits for it or is lost: requests that
reached the old one are answered by it, and those that are between two steps at that moment go to the new one.

Triton's model repository extension is the interface (github.com/triton-inference-server/server, docs/protocol).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.serving.config import ServingConfig
from deepseek.serving.models.loaded_model import LoadedModel
from deepseek.serving.models.served_model import ServedModel

logger = logging.getLogger("deepseek.serving")


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
        return all(loaded.answers for loaded in self)

    @property
    def worker_restarts(self) -> int:
        """How many worker processes of the models here were started because another had died."""
        return sum(getattr(loaded.executor, "restarts", 0) for loaded in self)

    def register(self, source: ModelSource) -> None:
        """Make a model known that can be loaded later; raises :class:`ConfigError` on a duplicate."""
        if source.name in self._sources:
            raise ConfigError(f"two sources have models of the name {source.name!r}; give one of them another name")
        self._sources[source.name] = source

    def add(self, model: ServedModel, source: ModelSource | None = None) -> LoadedModel:
        """Add a model, not ready until :meth:`LoadedModel.warm_up`; raises :class:`ConfigError` on a duplicate.

        ``source`` is what it came from, if it can be loaded again. The adapters of a model that has some are added
        with it, under their own names.
        """
        family = [LoadedModel(each, self._config, source) for each in family_of(model)]
        for loaded in family:
            if not loaded.name or not loaded.version:
                received = f"{loaded.name!r}, {loaded.version!r}"
                raise ConfigError(f"a served model needs a name and a version, received {received}")
            if loaded.version in self._models.get(loaded.name, {}):
                raise ConfigError(f"model {loaded.name!r} version {loaded.version!r} is served already")
        for loaded in family:
            self._come(loaded)
        return family[0]

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
                family = await self._fetch(source)
            except Exception as error:
                self._failures[name] = str(error) or type(error).__name__
                raise
            successors = {loaded.name: loaded for loaded in family}
            same = {(loaded.name, loaded.version) for loaded in family}
            replaced = [old for old in self if old.source is source or (old.name, old.version) in same]
            for old in replaced:
                old.successor = successors.get(old.name)
                self._go(old)
            for loaded in family:
                self._come(loaded)
            await _retire(replaced)
            return family[0]

    async def _fetch(self, source: ModelSource) -> list[LoadedModel]:
        """Load a model, in worker processes where that is configured and the model can be."""
        spec = getattr(source, "spec", None)
        wanted = self._config.workers.workers > 0
        told = spec() if spec is not None and wanted else None
        if wanted and told is None:
            logger.warning("model %r cannot run in worker processes; it runs in the server's own", source.name)
        if told is None:
            return await self._warm(await asyncio.to_thread(source.load), source)
        from deepseek.serving.workers.pool import WorkerPool

        pool = WorkerPool(told, self._config.workers)
        await pool.start()
        loaded = LoadedModel(pool.model, self._config, source, pool)
        loaded.ready = True  # its workers have warmed up
        return [loaded]

    async def _warm(self, model: ServedModel, source: ModelSource) -> list[LoadedModel]:
        """A model and its adapters, ready; what cannot be made so is freed."""
        family: list[LoadedModel] = []
        try:
            for each in family_of(model):
                family.append(LoadedModel(each, self._config, source))
                await family[-1].warm_up()
        except BaseException:
            for loaded in family:
                loaded.batcher.close()
            for loaded in family:
                loaded.release()
            raise
        return family

    async def unload(self, name: str) -> None:
        """Stop serving a model, every version of it and its adapters; queued requests are still answered."""
        chosen = [self.get(name, version) for version in self.versions(name)]
        sources = [loaded.source for loaded in chosen if loaded.source is not None and loaded.source.name == name]
        async with self._loading.setdefault(name, asyncio.Lock()):
            going = [
                loaded for loaded in self if loaded in chosen or any(loaded.source is source for source in sources)
            ]
            for loaded in going:
                self._go(loaded)
            await _retire(going)

    async def remove(self, name: str, version: str = "") -> None:
        """Stop serving one version of a model, as :meth:`unload` does for all."""
        loaded = self.get(name, version)
        self._go(loaded)
        await _retire([loaded])

    def _come(self, loaded: LoadedModel) -> None:
        self._models.setdefault(loaded.name, {})[loaded.version] = loaded
        if self._observer is not None:
            self._observer.added(loaded)

    def _go(self, loaded: LoadedModel) -> None:
        versions = self._models[loaded.name]
        del versions[loaded.version]
        if not versions:
            del self._models[loaded.name]
        if self._observer is not None:
            self._observer.removed(loaded)

    def index(self, *, ready: bool = False) -> list[Entry]:
        """All models that are served, then all that could be loaded; ``ready``: only those that answer now."""
        entries = [
            Entry(loaded.name, loaded.version, "READY" if loaded.answers else "LOADING")
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
        await _retire(list(self))

    def close(self) -> None:
        """End the models' threads; whatever waits fails with :class:`NotReadyError`."""
        for loaded in self:
            loaded.batcher.close()
            with contextlib.suppress(Exception):  # the server ends anyway, and the other models must be freed too
                loaded.release()


async def _retire(going: Sequence[LoadedModel]) -> None:
    """Answer what waits, then free the models: all are empty before the first is, because adapters share an engine."""
    for loaded in going:
        await loaded.batcher.drain()
    for loaded in going:
        loaded.release()


def family_of(model: ServedModel) -> Sequence[ServedModel]:
    """A model and, where it has adapters (``family()``), these as models of their own."""
    family = getattr(model, "family", None)
    return [model] if family is None else family()


def _age(loaded: LoadedModel) -> tuple[bool, int, int]:
    """Sorts numeric versions by number ("10" after "9"), after all others, which keep their order of loading."""
    numeric = loaded.version.isdecimal()
    return numeric, int(loaded.version) if numeric else 0, loaded.loaded_at

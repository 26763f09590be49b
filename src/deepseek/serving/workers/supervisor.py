"""Keeps as many workers as there should be.

It counts the workers that are not to be replaced. One that dies is missing, so another is started, after a wait that
doubles with each death in a row. One that has grown too large, or has worked long enough, is not counted any more, so
another is started; when that one has its model, the old one is dismissed and ends after its batch. One at a time is
replaced, since it takes the memory of one more model. A model that cannot be kept alive is given up.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Generic, Protocol, TypeVar

from deepseek.errors import ConfigError, DeepSeekError
from deepseek.serving.errors import NotReadyError
from deepseek.serving.workers.config import LoaderSpec, WorkersConfig
from deepseek.serving.workers.description import ModelDescription
from deepseek.serving.workers.faults import raised
from deepseek.serving.workers.messages import Answer, Loaded, LoadFailed
from deepseek.serving.workers.restarts import Restarts
from deepseek.serving.workers.worker import State, Worker

logger = logging.getLogger("deepseek.serving")

Task = TypeVar("Task")


class Crew(Protocol[Task]):
    """Whom the supervisor tells."""

    def joined(self, worker: Worker[Task]) -> None:
        """A worker is ready for work."""

    def dismissed(self, worker: Worker[Task]) -> None:
        """A worker has been replaced and is to stop when it is idle."""

    def left(self, worker: Worker[Task]) -> None:
        """A worker's process has ended; its task, if it has one, is undone."""

    def answered(self, worker: Worker[Task], message: Answer) -> None:
        """A worker has answered a batch."""

    def given_up(self, why: str) -> None:
        """There are no workers, and no more will be started."""


class Supervisor(Generic[Task]):
    """Starts, watches, replaces and ends the workers of one model."""

    def __init__(self, spec: LoaderSpec, config: WorkersConfig, crew: Crew[Task]) -> None:
        self._spec, self._config, self._crew = spec, config, crew
        self._model: ModelDescription | None = None
        self._restarts = Restarts(config)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._started: asyncio.Future[None] | None = None
        self._ending = False
        self.workers: list[Worker[Task]] = []
        self.restarts = 0
        """Workers that were started because another had died."""
        self.replacements = 0
        """Workers that were started because another had grown too large or worked long enough."""

    @property
    def model(self) -> ModelDescription:
        """What the workers have loaded; raises :class:`NotReadyError` before the start."""
        if self._model is None:
            raise NotReadyError(f"{self._spec.function!r} has not been loaded; await start() first")
        return self._model

    @property
    def name(self) -> str:
        """The model's name, as far as it is known."""
        return self._model.name if self._model is not None else self._spec.function

    @property
    def serving(self) -> int:
        """Workers that have a model and live."""
        return sum(worker.state in (State.IDLE, State.BUSY) for worker in self.workers)

    async def start(self) -> None:
        """Start the workers and wait until all have their model; see :meth:`WorkerPool.start`."""
        self._started = asyncio.get_running_loop().create_future()
        self._replenish()
        self._watch()
        await self._started

    async def stop(self) -> None:
        """End the workers after the batches that they run."""
        self._end()
        for worker in list(self.workers):
            if worker.state is State.LOADING:
                worker.close()  # it has nothing to finish
                self.workers.remove(worker)
            else:
                worker.stop()
        await asyncio.gather(*(worker.gone() for worker in self.workers))

    def close(self) -> None:
        """Kill the workers."""
        self._end()
        for worker in self.workers:
            worker.kill("was closed")
        for worker in self.workers:
            worker.close()
        self.workers.clear()

    def _end(self) -> None:
        self._ending = True
        for timer in self._timers.values():
            timer.cancel()
        for task in self._starting:
            task.cancel()

    def _replenish(self) -> None:
        self._timers.pop("restart", None)
        missing = self._config.workers - sum(not worker.leaving for worker in self.workers)
        for _ in range(missing):
            worker: Worker[Task] = Worker(self._spec, self._config, self)
            self.workers.append(worker)
            task = asyncio.get_running_loop().create_task(self._start(worker))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start(self, worker: Worker[Task]) -> None:
        try:
            await worker.start()
        except OSError as error:
            worker.close()
            self.died(worker, f"could not be started: {error}")

    def loaded(self, worker: Worker[Task], message: Loaded | LoadFailed) -> None:
        """From a worker: it has its model, or says why not."""
        if isinstance(message, LoadFailed):
            self._load_failed(raised(message.fault))
            return  # its process ends by itself, and is counted then
        model, size = ModelDescription.told(message), message.statistics.rss_bytes
        limit = self._config.max_worker_memory
        if limit is not None and size > limit:
            self._load_failed(
                ConfigError(f"expected max_worker_memory above the loaded {size} bytes, received {limit}")
            )
            worker.kill("was ended: its model alone takes more than max_worker_memory")
            return
        if self._model is not None and model != self._model:
            worker.kill("was ended: what it has loaded differs from what the others have; load the model anew")
            return
        self._model = model
        self._restarts.loaded()
        worker.loaded = True
        worker.state = State.IDLE
        worker.statistics = message.statistics
        logger.info("worker %d of model %r is ready", worker.pid, self.name)
        self._crew.joined(worker)
        leaving = next((old for old in self.workers if old.leaving and not old.dismissed), None)
        if leaving is not None:
            leaving.dismissed = True
            self._crew.dismissed(leaving)
        if self._started is not None and not self._started.done() and self.serving == self._config.workers:
            self._started.set_result(None)

    def _load_failed(self, error: Exception) -> None:
        if self._started is not None and not self._started.done():
            self._started.set_exception(error)
        else:
            logger.error("a worker could not load model %r: %s", self.name, error, exc_info=error)

    def answered(self, worker: Worker[Task], message: Answer) -> None:
        """From a worker: it has answered a batch."""
        self._restarts.answered()
        self._crew.answered(worker, message)
        self._replace_if_due(worker)

    def beaten(self, worker: Worker[Task]) -> None:
        """From a worker: it is alive."""
        self._replace_if_due(worker)

    def died(self, worker: Worker[Task], how: str) -> None:
        """From a worker: its process has ended."""
        self.workers.remove(worker)
        if self._ending:
            self._crew.left(worker)
            return
        if not worker.dismissed:
            logger.error("worker %d of model %r %s", worker.pid, self.name, how)
            self._start_another(worker, how)
        self._crew.left(worker)
        if self._restarts.given_up and not self.workers:
            why = f"model {self.name!r} is not ready: its workers died {self._config.max_failures} times in a row"
            logger.error("%s; no more are started", why)
            self._crew.given_up(f"{why}; the server's log has the reason")

    def _start_another(self, worker: Worker[Task], how: str) -> None:
        wait = self._restarts.died(loaded=worker.loaded)
        if self._started is not None and not self._started.done():
            self._started.set_exception(DeepSeekError(f"a worker that was to load {self._spec.function!r} {how}"))
        elif not self._restarts.given_up:
            self.restarts += 1
            if "restart" not in self._timers:
                self._timers["restart"] = asyncio.get_running_loop().call_later(wait, self._replenish)

    def _replace_if_due(self, worker: Worker[Task]) -> None:
        config, size = self._config, worker.statistics.rss_bytes
        if config.max_worker_memory is not None and size > config.max_worker_memory:
            why = f"has grown to {size} bytes, more than {config.max_worker_memory}"
        elif config.max_worker_requests is not None and worker.requests >= config.max_worker_requests:
            why = f"has answered {worker.requests} requests"
        else:
            return
        others = any(other.leaving or other.state is State.LOADING for other in self.workers)
        if others or worker.state in (State.LOADING, State.ENDED) or self._restarts.given_up or self._ending:
            return
        logger.info("worker %d of model %r %s; it is replaced", worker.pid, self.name, why)
        worker.leaving = True
        self.replacements += 1
        self._replenish()

    def _watch(self) -> None:
        """Every beat: whoever has been silent or loading for too long is ended."""
        config = self._config
        loop = asyncio.get_running_loop()
        self._timers["watch"] = loop.call_later(config.beat_seconds, self._watch)
        for worker in list(self.workers):
            worker.silent += 1
            if worker.state is State.ENDED:
                continue
            if worker.ended():
                worker.lost()
            elif worker.silent * config.beat_seconds > config.beat_timeout_seconds:
                worker.kill(f"was killed: it has given no sign of life for {config.beat_timeout_seconds:g} seconds")
            elif worker.state is State.LOADING and loop.time() > worker.created + config.load_timeout_seconds:
                worker.kill(f"was killed: it has not loaded its model within {config.load_timeout_seconds:g} seconds")

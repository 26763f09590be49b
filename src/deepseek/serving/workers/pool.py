"""The processes that run one model: an executor whose batches survive the death of a process.

- Each worker runs one batch at a time; the one that has been idle the longest gets the next.
- A worker's death says nothing about who is to blame, so its batch is tried again; when that kills as well, its
  requests go one by one, and only those that kill alone fail. Retries go before new batches.
- A batch whose time is up is not tried again: it has had its time.

Retrying is harmless because models answer rows and keep nothing; a model that does keep something may see rows twice.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from deepseek.errors import ConfigError
from deepseek.serving.batching.alarm import Alarm
from deepseek.serving.batching.executor import Changed, Finished
from deepseek.serving.batching.request import Batch, Outcome
from deepseek.serving.errors import DeadlineError, NotReadyError
from deepseek.serving.workers.attempts import Attempt, Job
from deepseek.serving.workers.config import LoaderSpec, WorkersConfig
from deepseek.serving.workers.description import ModelDescription
from deepseek.serving.workers.messages import Answer
from deepseek.serving.workers.supervisor import Supervisor
from deepseek.serving.workers.worker import State, Worker


@dataclass(frozen=True)
class WorkerStatus:
    """One process, as of its last answer or beat."""

    pid: int
    state: str
    """``loading``, ``idle``, ``busy`` or ``ended``."""
    rss_bytes: int
    busy_share: float
    """From 0 to 1, between the last two beats."""
    batches: int
    rows: int
    requests: int


class WorkerPool:
    """Runs the batches of one model in processes of their own; an :class:`~deepseek.serving.batching.Executor`.

    ``await start()`` before use; then :attr:`model` describes what was loaded.
    """

    def __init__(self, spec: LoaderSpec, config: WorkersConfig) -> None:
        if config.workers < 1:
            raise ConfigError(f"expected at least one worker process, received {config.workers}")
        if sys.platform == "win32":
            raise ConfigError("worker processes need Unix sockets, which Python lacks on Windows; use workers=0")
        self._config = config
        self._supervisor: Supervisor[Attempt] = Supervisor(spec, config, self)
        self._idle: deque[Worker[Attempt]] = deque()
        self._retries: deque[Attempt] = deque()
        self._jobs: dict[Batch, Job] = {}
        self._numbers = count(1)
        self._timeout = math.inf
        self._alarm = Alarm(self._overdue)
        self._finished: Finished = lambda batch, outcomes: None
        self._changed: Changed = lambda: None
        self.refusal: str | None = None

    @property
    def model(self) -> ModelDescription:
        """What the workers have loaded; raises :class:`NotReadyError` before the start."""
        return self._supervisor.model

    @property
    def free(self) -> int:
        """Workers without a batch."""
        return len(self._idle)

    @property
    def width(self) -> int:
        """Workers that there should be."""
        return self._config.workers

    @property
    def ready(self) -> bool:
        """Whether any worker can answer."""
        return self.refusal is None and self._supervisor.serving > 0

    @property
    def restarts(self) -> int:
        """Workers that were started because another had died."""
        return self._supervisor.restarts

    @property
    def replacements(self) -> int:
        """Workers that were started because another had grown too large or worked long enough."""
        return self._supervisor.replacements

    @property
    def statistics(self) -> list[WorkerStatus]:
        """Each process that there is."""
        return [
            WorkerStatus(
                pid=worker.pid,
                state=worker.state.value,
                rss_bytes=worker.statistics.rss_bytes,
                busy_share=worker.busy_share,
                batches=worker.statistics.batches,
                rows=worker.statistics.rows,
                requests=worker.requests,
            )
            for worker in self._supervisor.workers
        ]

    async def start(self) -> None:
        """Start the workers and wait until each has loaded and warmed up its model.

        Raises what the loader raised, and :class:`DeepSeekError` when a process died or took longer than
        ``load_timeout_seconds``; none is left running then.
        """
        try:
            await self._supervisor.start()
        except BaseException:
            self.close()
            raise

    def attach(self, finished: Finished, changed: Changed, timeout_seconds: float | None) -> None:
        """As :meth:`Executor.attach`."""
        self._finished, self._changed = finished, changed
        self._timeout = math.inf if timeout_seconds is None else timeout_seconds

    def run(self, batch: Batch) -> None:
        """Give a batch to the worker that has been idle the longest."""
        job = self._jobs[batch] = Job(batch)
        self._give(self._idle.popleft(), Attempt(job, range(len(batch.chunks))))

    def cancel(self, batch: Batch) -> None:
        """Tell the workers that run it that nobody waits for it."""
        for worker in self._supervisor.workers:
            if worker.task is not None and worker.task.job.batch is batch:
                worker.cancel()

    async def stop(self) -> None:
        """End the workers, after the batches that run; those that take longer than ``stop_seconds`` are killed."""
        self._alarm.off()
        await self._supervisor.stop()

    def close(self) -> None:
        """Kill the workers; what runs fails with :class:`NotReadyError`."""
        self._alarm.off()
        self._supervisor.close()
        self._idle.clear()
        self._fail_all(f"model {self._supervisor.name!r} was shut down")

    # From the supervisor

    def joined(self, worker: Worker[Attempt]) -> None:
        """A worker is ready for work."""
        self._idle.append(worker)
        self._go_on()

    def dismissed(self, worker: Worker[Attempt]) -> None:
        """A worker has been replaced; if it has a batch, it stops after that."""
        if worker in self._idle:
            self._idle.remove(worker)
            worker.stop()

    def left(self, worker: Worker[Attempt]) -> None:
        """A worker's process has ended: try again what it was doing."""
        if worker in self._idle:
            self._idle.remove(worker)
        attempt, worker.task = worker.task, None
        if attempt is not None:
            again = attempt.after_death(self._config.max_retries)
            self._retries.extend(again)
            if not again:
                self._settle(attempt, [attempt.crashed(self._supervisor.name)])
        self._go_on()

    def given_up(self, why: str) -> None:
        """There are no workers any more."""
        self.refusal = why
        self._fail_all(why)
        self._changed()

    def answered(self, worker: Worker[Attempt], message: Answer) -> None:
        """A worker has answered: settle what it was given, and let it have the next."""
        attempt = worker.task
        if attempt is None or message.number != worker.number or len(message.outputs) != len(attempt.places):
            worker.kill("was killed: it answered what it was not asked")
            return
        worker.task = None
        worker.requests += len(attempt.places)
        worker.state = State.IDLE
        if worker.dismissed:
            worker.stop()
        else:
            self._idle.append(worker)
            self._try_again()
        self._settle(attempt, attempt.outcomes(message))

    # Running

    def _go_on(self) -> None:
        self._try_again()
        self._changed()

    def _try_again(self) -> None:
        while self._retries and self._idle:
            attempt = self._retries.popleft()
            if attempt.wanted:
                self._give(self._idle.popleft(), attempt)
            else:
                self._settle(attempt, [[] for _ in attempt.places])

    def _give(self, worker: Worker[Attempt], attempt: Attempt) -> None:
        loop = asyncio.get_running_loop()
        try:
            worker.predict(attempt.message(next(self._numbers)))
        except (TypeError, ValueError, OverflowError) as error:  # a value that cannot cross: find out whose
            self._idle.appendleft(worker)
            loop.call_soon(self._not_sent, attempt, error)
            return
        worker.task = attempt
        worker.due = loop.time() + self._timeout
        self._alarm.set(worker.due, loop)

    def _not_sent(self, attempt: Attempt, error: Exception) -> None:
        if len(attempt.places) == 1:
            self._settle(attempt, [error])
        else:
            self._retries.extend(attempt.alone())
        self._go_on()

    def _settle(self, attempt: Attempt, outcomes: Sequence[Outcome]) -> None:
        job = attempt.job
        complete = job.settle(attempt.places, outcomes)
        if complete is not None and self._jobs.pop(job.batch, None) is not None:
            self._finished(job.batch, complete)

    def _overdue(self, now: float) -> float:
        """End the workers whose batch has taken too long; returns when the next one has."""
        busy = [worker for worker in self._supervisor.workers if worker.task is not None]
        for worker in busy:
            attempt = worker.task
            if attempt is not None and worker.due <= now:
                worker.task = None
                worker.kill(f"was killed: it has worked for {self._timeout:g} seconds on one batch")
                name = self._supervisor.name
                message = f"model {name!r} took more than {self._timeout:g} seconds for a batch; it was given up"
                self._settle(attempt, [DeadlineError(message) for _ in attempt.places])
        return min((worker.due for worker in busy if worker.task is not None), default=math.inf)

    def _fail_all(self, why: str) -> None:
        self._retries.clear()
        jobs = list(self._jobs)
        self._jobs.clear()
        for batch in jobs:
            self._finished(batch, [NotReadyError(why) for _ in batch.chunks])

"""Batches on their way through workers that may die: what is running, what is left, who is to blame."""

from __future__ import annotations

from collections.abc import Sequence

from deepseek.serving.batching.request import Batch, Outcome
from deepseek.serving.errors import WorkerCrashError
from deepseek.serving.workers.faults import raised
from deepseek.serving.workers.messages import Answer, Predict
from deepseek.serving.workers.values import lifted


class Job:
    """One batch and the outcomes of its chunks, which may come one by one."""

    __slots__ = ("_missing", "_outcomes", "batch")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._outcomes: list[Outcome] = [[]] * len(batch.chunks)
        self._missing = len(batch.chunks)

    def settle(self, places: Sequence[int], outcomes: Sequence[Outcome]) -> list[Outcome] | None:
        """Note the outcomes of some chunks; returns all of them once none is missing."""
        for place, outcome in zip(places, outcomes, strict=True):
            self._outcomes[place] = outcome
        self._missing -= len(places)
        return None if self._missing else self._outcomes


class Attempt:
    """Some chunks of a batch, which one worker is given together."""

    __slots__ = ("deaths", "job", "places")

    def __init__(self, job: Job, places: Sequence[int], deaths: int = 0) -> None:
        self.job = job
        self.places = places
        self.deaths = deaths

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for any of it."""
        return any(self.job.batch.wanted(place) for place in self.places)

    def message(self, number: int) -> Predict:
        """What a worker is told."""
        chunks = [self.job.batch.chunks[place] for place in self.places]
        rows = chunks[0].rows if len(chunks) == 1 else [row for chunk in chunks for row in chunk.rows]
        return Predict(number, [len(chunk.rows) for chunk in chunks], lifted(rows), self.job.batch.parameters)

    def outcomes(self, answer: Answer) -> list[Outcome]:
        """What a worker's answer says of each chunk."""
        return [
            raised(answer.faults[index]) if index in answer.faults else outputs
            for index, outputs in enumerate(answer.outputs)
        ]

    def after_death(self, most_retries: int) -> list[Attempt]:
        """What to try now that the worker has died: the same again, each chunk alone, or nothing any more."""
        self.deaths += 1
        if self.deaths <= most_retries:
            return [self]
        if len(self.places) > 1:
            return self.alone(deaths=most_retries)
        return []

    def alone(self, deaths: int = 0) -> list[Attempt]:
        """Each chunk by itself."""
        return [Attempt(self.job, (place,), deaths) for place in self.places]

    def crashed(self, name: str) -> WorkerCrashError:
        """What its one request is told when nothing is tried any more."""
        return WorkerCrashError(
            f"the process that runs model {name!r} died each time that it was given this request; it is not tried again"
        )

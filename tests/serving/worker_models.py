"""Models that worker processes load: well behaved, and each broken in its own way. The rows say what happens."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from serving_fakes import ARRAYS

from deepseek.errors import DataError
from deepseek.tasks.signature import Field, Signature

COMMANDS = Signature(
    inputs=(Field(name="do", dtype="string"), Field(name="v", dtype="int64", optional=True)),
    outputs=(Field(name="v", dtype="int64"), Field(name="pid", dtype="int64")),
)

logger = logging.getLogger("worker_models")


class Obedient:
    """Does what each row's ``do`` says and answers with its ``v`` and the process id."""

    name, version, task, platform, signature = "obedient", "1", "test", "fake", COMMANDS

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.leak: list[bytearray] = []

    def predict(
        self, rows: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        return (
            [self._obey(row["do"], row.get("v", 0)) for row in rows]
            if "drop" not in {row["do"] for row in rows}
            else []
        )

    def _obey(self, do: str, value: int) -> dict[str, Any]:
        match do.split():
            case ["die"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["segfault"]:
                ctypes.string_at(0)
            case ["exit"]:
                os._exit(3)
            case ["refuse"]:
                raise DataError("expected an obedient row")
            case ["fail"]:
                raise ArithmeticError("a secret of the implementation")
            case ["sleep", seconds]:
                time.sleep(float(seconds))
            case ["until-cancelled", path]:
                self.cancelled.clear()
                Path(path).touch()
                if self.cancelled.wait(30):
                    return {"v": -1, "pid": os.getpid()}
            case ["freeze"]:
                os.kill(os.getpid(), signal.SIGSTOP)
            case ["leak", megabytes]:
                self.leak.append(bytearray(os.urandom(1024) * 1024 * int(megabytes)))
            case ["log", *words]:
                logger.warning("heard %s", " ".join(words))
            case ["object"]:
                return {"v": object(), "pid": os.getpid()}
            case ["threads"]:
                return {"v": int(os.environ["OMP_NUM_THREADS"]), "pid": os.getpid()}
            case ["once", path]:
                if not Path(path).exists():
                    Path(path).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return {"v": value, "pid": os.getpid()}

    def cancel(self) -> None:
        self.cancelled.set()


def obedient() -> Obedient:
    return Obedient()


def referenced() -> Obedient:
    """One that knows its training data."""
    import pyarrow as pa

    from deepseek.data import profile

    model: Any = Obedient()
    model.reference = profile(pa.table({"v": list(range(1000))}))
    model.reference_metrics = {"accuracy": 0.94}
    model.answer_column = "label"
    return model  # type: ignore[no-any-return]


class Echo:
    """Gives every input back."""

    name, version, task, platform, signature = "echo", "1", "test", "fake", ARRAYS

    def predict(
        self, rows: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        return [dict(row) | {"writable": np.asarray(row["x"]).flags.writeable} for row in rows]


def echo() -> Echo:
    return Echo()


def broken(how: str, marker: str = "") -> Any:
    """A loader that does not load; with a marker it works the first time."""
    if marker and not Path(marker).exists():
        Path(marker).touch()
        return Obedient()
    if how == "other":
        return Echo()
    if how == "raise":
        raise DataError("the weights are not there")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        time.sleep(60)
    return object()

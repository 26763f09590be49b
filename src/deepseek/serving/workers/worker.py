"""The server's side of one worker process: starting it, talking to it, noticing its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from deepseek.serving.workers.config import LoaderSpec, WorkersConfig
from deepseek.serving.workers.messages import (
    Answer,
    Beat,
    Cancel,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Predict,
    Record,
    Statistics,
    Stop,
)
from deepseek.serving.workers.streams import SOCKET_BYTES, LoopStream

logger = logging.getLogger("deepseek.serving")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_POLL_SECONDS = 0.005
_REAP_SECONDS = 2.0
"""Time that a killed process gets to end before it is called stuck."""

PROCESS = "deepseek.serving.workers.process"

Task = TypeVar("Task")


class State(Enum):
    """What a worker process does."""

    LOADING = "loading"
    IDLE = "idle"
    BUSY = "busy"
    ENDED = "ended"


class Owner(Protocol):
    """Whom a worker tells."""

    def loaded(self, worker: Worker[Any], message: Loaded | LoadFailed) -> None:
        """It has its model, or says why not."""

    def answered(self, worker: Worker[Any], message: Answer) -> None:
        """It has answered a batch."""

    def beaten(self, worker: Worker[Any]) -> None:
        """It is alive; its statistics are new."""

    def died(self, worker: Worker[Any], how: str) -> None:
        """The process has ended, wanted or not; ``how`` says with what."""


class Worker(Generic[Task]):
    """One process. ``task`` is what its owner has given it to do."""

    def __init__(self, spec: LoaderSpec, config: WorkersConfig, owner: Owner) -> None:
        self._spec, self._config, self._owner = spec, config, owner
        self._work = LoopStream(self._heard, self.lost)
        self._control = LoopStream(self._heard, self.lost)
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = False
        self._killed = ""
        self._reap_until = 0.0
        self.state = State.LOADING
        self.task: Task | None = None
        self.number = 0
        """Of the batch that runs."""
        self.due = 0.0
        """When that batch has taken too long, on the loop's clock."""
        self.loaded = False
        """Whether it has ever been ready for work."""
        self.leaving = False
        """Whether it is to be replaced; it works until the replacement does."""
        self.dismissed = False
        """Whether it has been replaced; it ends after its batch."""
        self.created = asyncio.get_running_loop().time()
        self.requests = 0
        self.silent = 0
        """Beats missed in a row."""
        self.statistics = Statistics()
        self.busy_share = 0.0
        """Of the time between the last two beats, from 0 to 1."""
        self._beat_at = 0.0
        self._beat_busy = 0.0
        self._gone = asyncio.Event()

    @property
    def pid(self) -> int:
        """Process id; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Start the process and let it load; the owner is told how that ends.

        It is started from the event loop's own thread: Linux ends it (``PR_SET_PDEATHSIG``) when the thread that
        started it does.
        """
        with contextlib.ExitStack() as ours:
            work, their_work = _pair(ours)
            control, their_control = _pair(ours)
            for sock in (work, their_work):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            descriptors = (their_work.fileno(), their_control.fileno())
            self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                [sys.executable, "-P", "-m", PROCESS, *map(str, descriptors), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                env=self._environment(),
                pass_fds=descriptors,
                process_group=0,  # a Ctrl-C is for the server; and what the model starts can be ended with it
            )
            their_work.close()
            their_control.close()
            await self._work.open(work)
            await self._control.open(control)
            ours.pop_all()  # the streams have them now
        level = logging.getLogger("deepseek").getEffectiveLevel()
        self._work.send(Load(self._spec.function, self._spec.arguments, self._config.beat_seconds, level))

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        # What can be imported here can be imported there.
        environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        if (threads := self._config.threads) is not None:
            environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
        return environment

    def predict(self, message: Predict) -> None:
        """Give it a batch; raises ``TypeError`` or ``OverflowError`` for values that cannot cross."""
        self._work.send(message)
        self.number = message.number
        self.state = State.BUSY

    def cancel(self) -> None:
        """Tell it that nobody waits for its batch."""
        self._control.send(Cancel(self.number))

    def stop(self) -> None:
        """Let it end after its batch; it is killed if it does not within ``stop_seconds``."""
        if self.state is State.ENDED or self._ending:
            return
        self._ending = True
        self._work.send(Stop())
        asyncio.get_running_loop().call_later(self._config.stop_seconds, self._kill_late)

    def _kill_late(self) -> None:
        if not self._gone.is_set():
            self.kill(f"was killed, because it did not end within {self._config.stop_seconds:g} seconds")

    def kill(self, how: str) -> None:
        """End it, and whatever it has started, now; the owner is told ``how``."""
        if self._process is not None and self._process.returncode is None:
            self._killed = self._killed or how
            self._signal()

    def _signal(self) -> None:
        if self._process is not None:
            # PermissionError is what macOS says of a group of zombies.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it without telling the owner, and wait for its end, which then is a matter of milliseconds."""
        self.state = State.ENDED
        self.kill("was closed")
        self._work.close()
        self._control.close()
        self._gone.set()
        if self._process is not None:
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                logger.error("worker process %d was killed, but does not end", self.pid)

    async def gone(self) -> None:
        """Wait for its end."""
        await self._gone.wait()

    def ended(self) -> bool:
        """Whether the process has ended, even if something that it started keeps its streams open."""
        return self._process is not None and self._process.poll() is not None

    def _heard(self, message: Message) -> None:
        if self.state is State.ENDED:
            return
        if isinstance(message, Answer):
            self.statistics = message.statistics
            self._owner.answered(self, message)
        elif isinstance(message, Beat):
            self._beaten(message.statistics)
        elif isinstance(message, Record):
            self._log(message)
        elif isinstance(message, Loaded | LoadFailed):
            self._owner.loaded(self, message)

    def _beaten(self, statistics: Statistics) -> None:
        now = asyncio.get_running_loop().time()
        self.silent = 0
        self.statistics = statistics
        if self._beat_at and now > self._beat_at:
            share = (statistics.busy_seconds - self._beat_busy) / (now - self._beat_at)
            self.busy_share = min(1.0, max(0.0, share))
        self._beat_at, self._beat_busy = now, statistics.busy_seconds
        self._owner.beaten(self)

    def _log(self, record: Record) -> None:
        target = logging.getLogger(record.logger)
        if target.isEnabledFor(record.level):
            text = f"[worker {self.pid}] {record.message}"
            if record.traceback:
                text += f"\n{record.traceback.rstrip()}"
            made = target.makeRecord(record.logger, record.level, "", 0, text, (), None)
            made.created = record.created
            target.handle(made)

    def lost(self) -> None:
        """It is gone, or one of its streams is closed."""
        if self.state is State.ENDED:
            return
        self.state = State.ENDED
        patience = _REAP_SECONDS
        if self._ending:
            patience += self._config.stop_seconds  # its interpreter may have things to finish
        else:
            # It is on its way out, for which the signal changes nothing, or it has closed its streams and is not well.
            self._signal()
        self._reap_until = asyncio.get_running_loop().time() + patience
        self._reap()

    def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        if not self.ended() and loop.time() < self._reap_until:
            loop.call_later(_POLL_SECONDS, self._reap)
            return
        self._work.close()
        self._control.close()
        self._gone.set()
        self._owner.died(self, self._how())

    def _how(self) -> str:
        if self._killed:
            return self._killed
        code = self._process.returncode if self._process is not None else None
        if code is None:
            return "is stuck in the kernel after it was killed"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = " (out of memory, unless somebody killed it)" if code == -signal.SIGKILL else ""
        return f"was ended by {name}{hint}"


def _pair(stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, which the stack closes; closing one twice is harmless."""
    one, other = socket.socketpair()
    return stack.enter_context(one), stack.enter_context(other)

"""The cluster engine: Ray tasks.

Stays with the cluster that this process is connected to; otherwise joins the one at ``address`` (``"host:port"`` or
``"auto"``), else the one that ``RAY_ADDRESS`` names. Without any it starts Ray on this machine, which takes 3 to 10
seconds, and stops it on :meth:`RayEngine.close` or when the process ends. ``ray://`` addresses are handed to Ray's
client as they are; no test covers them.

Every node needs this package in the driver's version (bake it into the image, or ship it:
``runtime_env={"py_modules": [deepseek]}``) and access to the tables' storage: a shared file system or an object store.

A piece whose worker or node dies is run again, and results lost with a node are computed again, up to ``retries``
times. An error that the piece itself raises is not retried: it is raised here, typed as it is.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from deepseek.data.engines.engine import Engine, Item, Result, Shared, Value, call
from deepseek.errors import ConfigError, EngineError, require

_FRESH_SECONDS = 2.0
_starting = threading.Lock()


class RayEngine(Engine):
    """Tasks on a Ray cluster.

    Args:
        address: as in ``ray.init``; ``"local"`` always starts Ray on this machine.
        cores: cores that one piece asks for; ``memory``: bytes that it asks for, which keeps a node from running more
            pieces at once than its memory holds.
        retries: how often a piece is run again after its worker or node died.
        runtime_env: Ray's environment for the workers, such as ``{"py_modules": [deepseek]}``.

    Raises:
        EngineError: there is no cluster at that address, or Ray did not start.
        MissingExtraError: Ray is not installed.
    """

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        *,
        cores: float = 1,
        memory: int | None = None,
        retries: int = 3,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        if cores <= 0 or retries < 0:
            raise ConfigError(f"expected cores > 0 and retries >= 0, received cores={cores} and retries={retries}")
        self._ray: Any = require("ray", "ray")
        self._cores = cores
        with _starting:
            self._owner = self._connect(address or os.environ.get("RAY_ADDRESS"), runtime_env)
        options: dict[str, Any] = {"num_cpus": cores, "max_retries": retries, "scheduling_strategy": "SPREAD"}
        if memory is not None:
            options["memory"] = memory
        if runtime_env and not self._owner:
            options["runtime_env"] = dict(runtime_env)
        self._submit = self._ray.remote(**options)(_piece).remote
        self._counted = (-_FRESH_SECONDS, 1)

    def _connect(self, address: str | None, runtime_env: Mapping[str, Any] | None) -> bool:
        """Connect this process; whether that started Ray here."""
        if self._ray.is_initialized():
            return False
        # Never whatever cluster another program left its address of in /tmp, which Ray would take when none is given
        address = address or "local"
        own = address == "local"
        options: dict[str, Any] = {"runtime_env": dict(runtime_env)} if runtime_env else {}
        if own:
            options |= {"include_dashboard": False}
        try:
            if not own:
                _require_listener(address)
            os.environ.setdefault("RAY_gcs_rpc_server_connect_timeout_s", "30")  # after that Ray ends the process
            with _search_path() if own else contextlib.nullcontext():
                self._ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
        except (ConnectionError, TimeoutError, RuntimeError, ValueError, OSError) as error:
            raise EngineError(
                f"no Ray cluster answers at {address!r}: {error}. Check RAY_ADDRESS, or start one: ray start --head"
                if not own
                else f"Ray did not start on this machine: {error}"
            ) from error
        return own

    @property
    def workers(self) -> int:
        """How many pieces the cluster's cores run at once, as Ray counts them now (at most two seconds ago)."""
        then, count = self._counted
        if time.monotonic() - then >= _FRESH_SECONDS:
            count = max(1, int(self._ray.cluster_resources().get("CPU", 1) / self._cores))
            self._counted = (time.monotonic(), count)
        return count

    def broadcast(self, value: Value) -> Shared[Value]:
        """Put the value into Ray's object store; see :meth:`Engine.broadcast`."""
        return Shared(self, self._ray.put(value))

    def _run(self, function: Callable[..., Result], items: Iterable[Item], handle: Any) -> Iterator[Result]:
        code = self._ray.put(function)
        pending: deque[Any] = deque()
        try:
            for item in items:
                pending.append(self._submit(code, item, handle))
                while len(pending) >= 2 * self.workers:
                    yield self._take(pending.popleft())
            while pending:
                yield self._take(pending.popleft())
        finally:
            for reference in pending:
                with contextlib.suppress(Exception):  # the connection may be what failed
                    self._ray.cancel(reference)

    def _take(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, errors.RayError):
                raise EngineError(f"the cluster could not run a piece: {cause}") from error
            if isinstance(cause, BaseException):
                cause.add_note(f"Raised on the cluster:\n{error}")
                raise cause from None  # the typed error of the piece itself, as the local engine raises it
            raise EngineError(f"a piece failed, and its error could not be brought here: {error}") from error
        except errors.RayError as error:
            raise EngineError(
                f"the cluster could not run a piece ({type(error).__name__}): {error}. Every node needs this package "
                f"in the driver's version, and memory for the pieces that run at once on it (memory=)"
            ) from error

    def close(self) -> None:
        """Stop Ray if this engine started it; a cluster that it joined keeps running, and so does the connection."""
        if self._owner and self._ray.is_initialized():
            self._ray.shutdown()
        self._owner = False


def _require_listener(address: str) -> None:
    """Raise ``OSError`` when nothing listens at ``address``: Ray would end the whole process after trying."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextlib.contextmanager
def _search_path() -> Iterator[None]:
    """Let workers started on this machine import what this process can: they inherit the environment."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in sys.path))  # noqa: PTH109
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _piece(function: Callable[..., Any], item: Any, handle: Any) -> Any:
    try:
        return call(function, item, handle)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        except Exception:  # noqa: BLE001 - whatever keeps it from travelling
            raise EngineError(f"a piece failed with {type(error).__name__}: {error}") from None
        raise

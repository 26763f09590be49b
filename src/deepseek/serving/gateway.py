"""One request's way through the server, whatever its protocol: who asks, whether they may, what it used, how it ended.

Every route of every protocol does the same five things in the same order, and this is where they are::

    with gateway.begin("rest", "infer", headers) as call:   # drain, identity; counts the request in, and out again
        loaded = call.model(name, version)                   # unknown, not ready, or not allowed for this key
        if (waiting := call.admit(rows)) is not None:        # rate limits and quotas
            await waiting
        ...                                                  # run it
        call.use(input_tokens=12, output_tokens=80)          # what it used, beyond its rows

Leaving the block records the outcome, an exception by the status that :func:`deepseek.serving.errors.describe` tells.

A server without keys, or without monitoring, runs none of their code. All of this runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from deepseek.monitoring.logs.request_ids import request_id
from deepseek.serving.batching.request import LOWEST_PRIORITY, NORMAL_PRIORITY
from deepseek.serving.errors import PermissionDeniedError, status_of
from deepseek.serving.lifecycle import Lifecycle
from deepseek.serving.models.loaded_model import LoadedModel
from deepseek.serving.models.repository import ModelRepository
from deepseek.serving.models.served_model import Outputs, Parameters, Row

if TYPE_CHECKING:
    from deepseek.monitoring.server_monitor import ServerMonitor
    from deepseek.monitoring.tracing.tracer import RequestTrace


REQUEST_ID = "x-request-id"


class Headers(Protocol):
    """What is used of a request's headers or metadata; names are in lower case."""

    def get(self, name: str, default: str | None = None) -> str | None: ...


class Principal(Protocol):
    """Who asks."""

    @property
    def key_id(self) -> str:
        """Public identifier of the key; empty for the anonymous one."""

    def allows(self, model: str) -> bool:
        """Whether the key's scopes cover a model."""


class Access(Protocol):
    """Who may ask, and how often. See :mod:`deepseek.serving.access`."""

    def authenticate(self, headers: Headers) -> Principal:
        """Find out who asks; raises :class:`~deepseek.serving.errors.AuthenticationError`."""

    def admit(self, principal: Principal, model: str, rows: int) -> Awaitable[None] | None:
        """Take a request of ``rows`` inferences from the key's limits, at once or after a round trip.

        Raises :class:`~deepseek.serving.errors.QuotaExceededError`, which says when to come again.
        """

    def charge(self, principal: Principal, model: str, rows: int, input_tokens: int, output_tokens: int) -> None:
        """Record what an answered request used."""


class Call:
    """One request, from its headers to its answer."""

    __slots__ = (
        "_gateway", "_loaded", "deadline", "first_output", "headers", "input_tokens", "operation", "output_tokens",
        "principal", "priority", "protocol", "rows", "size_bytes", "started", "trace",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, protocol: str, operation: str, headers: Headers) -> None:
        self._gateway = gateway
        self._loaded: LoadedModel | None = None
        self.protocol = protocol
        self.operation = operation
        self.headers = headers
        self.principal: Principal | None = None
        self.deadline: float | None = None
        """When the client stops waiting, on the event loop's clock; ``None``: it did not say."""
        self.priority = NORMAL_PRIORITY
        self.size_bytes = 0
        """What the request holds in memory, as far as is known."""
        self.trace: RequestTrace | None = None
        self.rows = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.started = perf_counter()
        self.first_output: float | None = None
        """When the first part of a generated answer was there (``time.perf_counter``), streamed or not."""

    def model(self, name: str, version: str = "") -> LoadedModel:
        """The model that answers.

        Raises:
            PermissionDeniedError: the key does not cover it.
            UnknownNameError: there is none.
            NotReadyError: it is warming up.
        """
        self.permit(name)
        self._loaded = loaded = self._gateway.repository.get(name, version)
        loaded.require_ready()
        return loaded

    @property
    def loaded(self) -> LoadedModel:
        """What :meth:`model` gave."""
        assert self._loaded is not None
        return self._loaded

    def permit(self, name: str) -> None:
        """Raise :class:`~deepseek.serving.errors.PermissionDeniedError` unless the key covers a model."""
        if self.principal is not None and not self.principal.allows(name):
            raise PermissionDeniedError(f"this key does not cover the model {name!r}; ask for one whose scopes do")

    def urge(self, priority: int, seconds: float | None) -> None:
        """Triton's request parameters: a priority of 1 (first) or more, 0 for the usual one; and how long to wait."""
        if priority:
            self.priority = min(priority - 1, LOWEST_PRIORITY)
        self.within(seconds)

    def within(self, seconds: float | None) -> None:
        """The client waits no longer than so many seconds from now; the sooner deadline counts."""
        if seconds is not None:
            deadline = asyncio.get_running_loop().time() + seconds
            self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)

    def admit(self, rows: int) -> Awaitable[None] | None:
        """Take ``rows`` inferences from the key's limits, at once or by what is returned, to be awaited.

        Raises ``QuotaExceededError``, here or there. It is no coroutine because most limits are decided at once.
        """
        self.rows = rows
        access, loaded = self._gateway.access, self._loaded
        if access is None or self.principal is None or loaded is None:
            return None
        return access.admit(self.principal, loaded.name, rows)

    def submit(self, rows: Sequence[Row], parameters: Parameters | None = None) -> asyncio.Future[Outputs]:
        """Queue admitted rows at the model; raises what :meth:`LoadedModel.submit` raises."""
        return self.loaded.submit(
            rows, parameters, priority=self.priority, deadline=self.deadline, size_bytes=self.size_bytes
        )

    def answered(self, rows: Sequence[Row], outputs: Outputs, request_id: str = "") -> None:
        """Tell the model's quality monitor what was asked and answered; labels are joined by the client's own id."""
        quality = self._loaded.quality if self._loaded is not None else None
        if quality is not None:
            quality.answered(request_id or self.headers.get(REQUEST_ID), rows, outputs)

    def use(self, *, input_tokens: int = 0, output_tokens: int = 0) -> None:
        """Add to what this request used."""
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._gateway.end(self, error)

    def end(self, error: BaseException | None) -> None:
        """What leaving the block does, for a request that callbacks answer."""
        self._gateway.end(self, error)


class Gateway:
    """What every protocol asks before it answers and tells afterwards."""

    def __init__(
        self,
        repository: ModelRepository,
        lifecycle: Lifecycle,
        *,
        access: Access | None = None,
        monitor: ServerMonitor | None = None,
    ) -> None:
        self.repository, self.lifecycle = repository, lifecycle
        self.access, self.monitor = access, monitor
        self._meters: dict[tuple[str, str], Any] = {}
        """Of requests that reached no model."""

    def begin(self, protocol: str, operation: str, headers: Headers) -> Call:
        """Count a request in; raises ``NotReadyError`` while draining, ``AuthenticationError``."""
        call = Call(self, protocol, operation, headers)
        if self.monitor is not None and self.monitor.tracer is not None:
            call.trace = self.monitor.tracer.begin(protocol, operation, headers)
        try:
            if self.access is not None:
                call.principal = self.access.authenticate(headers)
            self.lifecycle.enter()
        except Exception as error:
            self._record(call, error)
            raise
        return call

    def identify(self, headers: Headers) -> None:
        """For what is only information: raises ``AuthenticationError`` where keys are needed and there is none."""
        if self.access is not None:
            self.access.authenticate(headers)

    def end(self, call: Call, error: BaseException | None) -> None:
        """Count a request out, and record it."""
        self.lifecycle.leave()
        self._record(call, error)
        loaded = call._loaded
        if error is None and loaded is not None and call.principal is not None and self.access is not None:
            self.access.charge(call.principal, loaded.name, call.rows, call.input_tokens, call.output_tokens)

    def _record(self, call: Call, error: BaseException | None) -> None:
        seconds = perf_counter() - call.started
        loaded = call._loaded
        if loaded is not None:
            loaded.statistics.answered(seconds, call.rows, error is None)
        monitor = self.monitor
        if monitor is None:
            return
        known = self._meters if loaded is None else loaded.meters
        key = (call.protocol, call.operation)
        meter = known.get(key)
        if meter is None:
            name, version = (loaded.name, loaded.version) if loaded is not None else ("", "")
            meter = known[key] = monitor.meters.meter(*key, name, version)
        meter.record(seconds, error)
        if loaded is not None and loaded.meter is not None and error is None:
            loaded.meter.used(call.rows, call.input_tokens, call.output_tokens)
            if call.first_output is not None:
                first = call.first_output - call.started
                loaded.meter.first_token(first)
                if call.output_tokens > 1:
                    loaded.meter.per_output_token((seconds - first) / (call.output_tokens - 1))
        if monitor.logs.access.enabled or call.trace is not None:
            self._tell(monitor, call, seconds, error)

    def _tell(self, monitor: ServerMonitor, call: Call, seconds: float, error: BaseException | None) -> None:
        """Write the access line and end the trace, where they are wanted."""
        loaded, trace = call._loaded, call.trace
        code = 200 if error is None else status_of(error)
        if trace is not None:
            if loaded is not None:
                trace.model(loaded.name, loaded.version)
            trace.used(call.rows, call.input_tokens, call.output_tokens)
            trace.end(code, error)
        if monitor.logs.access.enabled:
            monitor.logs.access.record(
                request_id=request_id(call.headers.get(REQUEST_ID)),
                protocol=call.protocol,
                operation=call.operation,
                model=loaded.name if loaded is not None else "",
                version=loaded.version if loaded is not None else "",
                code=code,
                seconds=seconds,
                rows=call.rows,
                input_tokens=call.input_tokens,
                output_tokens=call.output_tokens,
                key_id=call.principal.key_id if call.principal is not None else "",
                trace_id=trace.trace_id if trace is not None else "",
            )

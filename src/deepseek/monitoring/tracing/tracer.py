"""OpenTelemetry traces of requests: one server span each, with the wait for the model and its run as children.

The trace context comes in and goes out as W3C ``traceparent`` and ``tracestate`` (w3.org/TR/trace-context). Attributes
follow OpenTelemetry's semantic conventions for HTTP and generative AI; names, counts and codes only, never prompts,
answers or an exception's message.

Choices
- The provider is our own and not the process's global one: an application that has one keeps it.
- Children are recorded after the fact, from the times that the batcher has anyway, so nothing is propagated through it.
  The span is therefore not *current* while a model runs: spans that a model's own code begins do not become its
  children.
- A server without tracing holds ``None`` in place of a :class:`Tracer`; a request then costs one comparison.
- Export is in batches from a thread, over OTLP/HTTP with protobuf; a queue of 2,048 spans, beyond which they are
  dropped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from deepseek.errors import require

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

_GENAI_OPERATIONS = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}
"""Beginnings of our operations' names, and OpenTelemetry's ``gen_ai.operation.name``."""


class Headers(Protocol):
    """What is used of a request's headers; names are in lower case."""

    def get(self, name: str, default: str | None = None) -> str | None: ...


class TracingConfig(BaseModel):
    """Where traces go and how many are taken. ``OTEL_*`` environment variables work too, where nothing is set here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str = Field(
        default="", description="OTLP/HTTP traces URL; empty: OTEL_EXPORTER_OTLP_ENDPOINT, else localhost:4318."
    )
    ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of requests traced that come without a trace; others say themselves.",
    )
    service_name: str = Field(default="deepseek", min_length=1, description="The resource attribute service.name.")


class Tracer:
    """Traces requests; used on the event loop.

    Args:
        exporter: where spans go at once, instead of in batches to ``config.endpoint``.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
    """

    def __init__(self, config: TracingConfig, *, version: str = "", exporter: SpanExporter | None = None) -> None:
        sdk = require("opentelemetry.sdk.trace", "telemetry")
        export = require("opentelemetry.sdk.trace.export", "telemetry")
        sampling = require("opentelemetry.sdk.trace.sampling", "telemetry")
        resources = require("opentelemetry.sdk.resources", "telemetry")
        self._api = require("opentelemetry.trace", "telemetry")
        self._propagator = require(
            "opentelemetry.trace.propagation.tracecontext", "telemetry"
        ).TraceContextTextMapPropagator()
        self._provider = sdk.TracerProvider(
            sampler=sampling.ParentBased(sampling.TraceIdRatioBased(config.ratio)),
            resource=resources.Resource.create({"service.name": config.service_name, "service.version": version}),
            shutdown_on_exit=False,  # close() does, in the order that a server needs
        )
        if exporter is not None:
            processor = export.SimpleSpanProcessor(exporter)
        else:
            otlp = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", "telemetry")
            processor = export.BatchSpanProcessor(otlp.OTLPSpanExporter(endpoint=config.endpoint or None))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("deepseek.serving", version)

    def begin(self, protocol: str, operation: str, headers: Headers) -> RequestTrace:
        """Begin the span of a request, as a child of the caller's if its headers have one."""
        context = self._propagator.extract(headers, getter=_GETTER)
        start = time.time_ns()
        span = self._tracer.start_span(
            operation,
            context=context,
            kind=self._api.SpanKind.SERVER,
            attributes={"deepseek.protocol": protocol, "deepseek.operation": operation},
            start_time=start,
        )
        return RequestTrace(self, span, operation, start - time.monotonic_ns())

    def child(self, parent: Span, name: str, start: int, end: int, attributes: dict[str, Any]) -> None:
        """Record a span that is over; times in nanoseconds since 1970."""
        context = self._api.set_span_in_context(parent)
        span = self._tracer.start_span(name, context=context, start_time=start, attributes=attributes)
        span.end(end)

    def headers(self, span: Span) -> dict[str, str]:
        """``traceparent`` and, if there is one, ``tracestate``."""
        found: dict[str, str] = {}
        self._propagator.inject(found, context=self._api.set_span_in_context(span))
        return found

    def failed(self, span: Span) -> None:
        """Mark a span as failed, without a message."""
        span.set_status(self._api.Status(self._api.StatusCode.ERROR))

    def close(self) -> None:
        """Export what waits and stop; blocks for at most some seconds."""
        self._provider.shutdown()


class RequestTrace:
    """The span of one request. Everything but :meth:`end` does nothing when the trace is not sampled.

    ``offset`` is what the wall clock was ahead of ``time.monotonic_ns`` at the start: a wall clock that is set back
    meanwhile must not let a span end before its start.
    """

    __slots__ = ("_offset", "_operation", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span, operation: str, offset: int) -> None:
        self._tracer, self._span, self._operation, self._offset = tracer, span, operation, offset

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, for logs."""
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def headers(self) -> dict[str, str]:
        """What to send with calls to other servers that belong to this request."""
        return self._tracer.headers(self._span)

    def model(self, name: str, version: str) -> None:
        """The model that answers."""
        if self._span.is_recording():
            self._span.update_name(f"{self._operation} {name}")
            self._span.set_attribute("gen_ai.request.model", name)
            self._span.set_attribute("deepseek.model.version", version)
            for beginning, operation in _GENAI_OPERATIONS.items():
                if self._operation.startswith(beginning):
                    self._span.set_attribute("gen_ai.operation.name", operation)

    def ran(self, arrived: float, began: float, ended: float, rows: int) -> None:
        """The request's rows waited from ``arrived`` to ``began``, ran until ``ended``, on ``time.monotonic``'s clock.

        ``rows`` is the size of the batch that they were in.
        """
        if self._span.is_recording():
            first, second, third = (self._offset + int(at * 1e9) for at in (arrived, began, ended))
            self._tracer.child(self._span, "queue", first, second, {})
            self._tracer.child(self._span, "execute", second, third, {"deepseek.batch.rows": rows})

    def used(self, rows: int, input_tokens: int, output_tokens: int) -> None:
        """What the request used."""
        if self._span.is_recording():
            self._span.set_attribute("deepseek.rows", rows)
            if input_tokens or output_tokens:
                self._span.set_attribute("gen_ai.usage.input_tokens", input_tokens)
                self._span.set_attribute("gen_ai.usage.output_tokens", output_tokens)

    def end(self, code: int, error: BaseException | None = None) -> None:
        """The request ended with this HTTP status; only the server's own faults (5xx) make the span an error."""
        span = self._span
        if span.is_recording():
            span.set_attribute("http.response.status_code", code)
            if error is not None:
                span.set_attribute("error.type", type(error).__qualname__)
            if code >= 500:
                self._tracer.failed(span)
        span.end(self._offset + time.monotonic_ns())


class _Getter:
    """Reads our headers for OpenTelemetry's propagator."""

    def get(self, carrier: Headers, key: str) -> Sequence[str] | None:
        value = carrier.get(key)
        return None if value is None else [value]

    def keys(self, carrier: Headers) -> list[str]:
        return []  # asked for by propagators of unknown names alone, and ours has two known ones


_GETTER = _Getter()

"""What chat and plain completions share: from a checked request to its answers, whole or streamed.

The response begins with the first token, so that whatever goes wrong before it still has a status of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import cast

import msgspec

from deepseek.errors import ConfigError, MissingExtraError
from deepseek.inference.generation.stream import Completion, Piece
from deepseek.serving.errors import DeadlineError
from deepseek.serving.gateway import Call, Gateway
from deepseek.serving.generation.answers import Answers
from deepseek.serving.generation.batching import GenerationBatcher
from deepseek.serving.generation.host import Ask
from deepseek.serving.models.loaded_model import LoadedModel
from deepseek.serving.openai.errors import ParameterError
from deepseek.serving.openai.event_stream import EventStream
from deepseek.serving.openai.requests import Generation
from deepseek.serving.openai.responses import FinishReason, Usage
from deepseek.serving.rest.bodies import BodyReader
from deepseek.serving.rest.disconnect import result_or_disconnect
from deepseek.serving.rest.http import Response, Scope, Transport, json_response
from deepseek.serving.version import server_version


class Rendering(ABC):
    """How the answers of one request are told.

    Args:
        request: as it came.
        loaded: the model that answers.
        batcher: of that model.
    """

    prefix: str
    """Of the answer's id."""

    def __init__(self, request: Generation, loaded: LoadedModel, batcher: GenerationBatcher) -> None:
        self.streamed = bool(request.stream)
        options = request.stream_options
        if options is not None and not self.streamed:
            raise ParameterError("'stream_options' is for streams: set 'stream' too", "stream_options", "invalid_value")
        if options is not None and options.include_obfuscation:
            raise ParameterError(
                "'include_obfuscation' is not supported by this server; leave it out",
                "stream_options.include_obfuscation",
                "unsupported_parameter",
            )
        self.with_usage = options is not None and bool(options.include_usage)
        self.id = f"{self.prefix}-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.model = request.model
        self.fingerprint = fingerprint(loaded.name, loaded.version, batcher.generator.platform)
        self.texts = batcher.generator.host.token_texts

    @property
    @abstractmethod
    def asks(self) -> Sequence[Ask]:
        """What the request asks of the engine."""

    @abstractmethod
    def events(self, news: Iterable[tuple[int, Piece]]) -> list[msgspec.Struct]:
        """Events for what is new of a stream."""

    @abstractmethod
    def usage(self, usage: Usage) -> msgspec.Struct:
        """The event that tells a stream's usage."""

    @abstractmethod
    def whole(self, completions: Sequence[Completion], usage: Usage) -> msgspec.Struct:
        """The body that has all answers."""


class GeneratingRoute(ABC):
    """A route whose answers a model generates."""

    operation: str
    """OpenTelemetry's ``gen_ai.operation.name``."""

    def __init__(self, gateway: Gateway, bodies: BodyReader) -> None:
        self._gateway, self._bodies = gateway, bodies

    @abstractmethod
    def decoded(self, body: bytes) -> Generation:
        """The checked body of a request."""

    @abstractmethod
    def rendering(self, request: Generation, loaded: LoadedModel, batcher: GenerationBatcher) -> Rendering:
        """How a request is answered; raises :class:`ParameterError`."""

    async def __call__(self, scope: Scope, transport: Transport) -> Response | None:
        """Answer one request; ``None``: it was streamed."""
        events = EventStream(transport)
        work = asyncio.get_running_loop().create_task(self._answer(scope, transport, events))
        try:
            return await result_or_disconnect(transport, work)  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            if events.started:
                return None
            raise
        except Exception as error:
            if not events.started:
                raise
            await events.fail(error)
            return None
        finally:
            events.close()

    async def _answer(self, scope: Scope, transport: Transport, events: EventStream) -> Response | None:
        with self._gateway.begin("openai", self.operation, scope.headers) as call:
            request = self.decoded(await self._bodies.json(scope.headers, transport))
            loaded = call.model(request.model)
            batcher = generating(loaded)
            rendering = self.rendering(request, loaded, batcher)
            asks = rendering.asks
            if (waiting := call.admit(sum(ask.choices for ask in asks))) is not None:
                await waiting
            try:
                async with asyncio.timeout_at(call.deadline) as clock:
                    with await _started(batcher, asks) as answers:
                        try:
                            return await _told(call, answers, rendering, events)
                        finally:
                            call.use(input_tokens=answers.prompt_tokens, output_tokens=answers.generated)
            except TimeoutError as error:
                if clock.expired():
                    raise DeadlineError("the answer was not complete in the time that the client gave it") from error
                raise


async def _started(batcher: GenerationBatcher, asks: Sequence[Ask]) -> Answers:
    try:
        return await batcher.start(asks)
    except (ConfigError, MissingExtraError) as error:  # the core cannot do what a parameter asks for
        raise ParameterError(str(error), "response_format" if "grammar" in str(error) else None) from error


async def _told(call: Call, answers: Answers, rendering: Rendering, events: EventStream) -> Response | None:
    def arrived() -> None:
        if call.first_output is None:
            call.first_output = time.perf_counter()

    if not rendering.streamed:
        completions = await answers.completions(arrived)
        return json_response(rendering.whole(completions, _usage(answers)))
    while news := await answers.news():
        arrived()
        if fresh := rendering.events(news):
            await events.send(fresh)
    await events.send([rendering.usage(_usage(answers))] if rendering.with_usage else [], last=True)
    return None


def _usage(answers: Answers) -> Usage:
    return Usage(answers.prompt_tokens, answers.generated, answers.prompt_tokens + answers.generated)


def generating(loaded: LoadedModel) -> GenerationBatcher:
    """The batcher of a model that generates; raises :class:`ParameterError` for any other."""
    if isinstance(loaded.batcher, GenerationBatcher):
        return loaded.batcher
    raise ParameterError(
        f"model {loaded.name!r} is served for {loaded.task} and generates no text; GET /v1/models lists the models",
        "model",
        "unsupported_model",
    )


def finished(reason: str | None) -> FinishReason | None:
    """The engine's reason; "cancelled" comes as an error instead (:meth:`Answers.news`)."""
    assert reason in (None, "stop", "length"), reason
    return cast("FinishReason | None", reason)


@lru_cache(maxsize=256)
def fingerprint(*parts: str) -> str:
    """Changes when what answers changes: with the same one, a seed gives the same answer."""
    return f"fp_{hashlib.sha256('/'.join((server_version(), *parts)).encode()).hexdigest()[:12]}"

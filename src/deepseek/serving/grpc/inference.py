"""Inference over gRPC: one message, and Triton's stream of messages in both directions.

A stream makes no task for each of its messages: what is asked goes to the batcher at once, and its future's callback
puts the answer where the stream's writer finds it. Answers go back as they are ready, by the requests' ids.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from functools import partial

from deepseek.serving.errors import describe
from deepseek.serving.gateway import Call, Gateway
from deepseek.serving.grpc.rpc import Metadata
from deepseek.serving.models.served_model import Outputs
from deepseek.serving.oip import proto_codec
from deepseek.serving.oip.codec import Inference
from deepseek.serving.proto import open_inference_pb2 as pb

STREAM_WINDOW = 64
"""Requests of one stream at once that are worked on, or answered and not yet sent; then it is read no further, and flow
control holds the client."""


async def infer(gateway: Gateway, request: pb.ModelInferRequest, metadata: Metadata) -> pb.ModelInferResponse:
    """Answer one request. A client that leaves cancels this coroutine, and so its rows."""
    with gateway.begin("grpc", "infer", metadata) as call:
        inference = _asked(call, request)
        if (waiting := call.admit(len(inference.rows))) is not None:
            await waiting
        return _answer(call, inference, await call.submit(inference.rows, inference.parameters))


class InferenceStream:
    """One call of ``ModelStreamInfer``; a request that fails is answered with its message, and the stream goes on."""

    def __init__(self, gateway: Gateway, metadata: Metadata) -> None:
        self._gateway, self._metadata = gateway, metadata
        self._running: set[asyncio.Future[Outputs]] = set()
        self._ready: deque[pb.ModelStreamInferResponse] = deque()
        self._reader_waits: asyncio.Future[None] | None = None
        self._writer_waits: asyncio.Future[None] | None = None

    async def answers(
        self, requests: AsyncIterator[pb.ModelInferRequest]
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """The answers, until the requests have ended and each has one."""
        loop = asyncio.get_running_loop()
        reader = loop.create_task(self._read(requests))
        reader.add_done_callback(self._wake_writer)
        try:
            while True:
                while self._ready:
                    yield self._ready.popleft()
                    self._wake_reader()
                if reader.done() and not self._running:
                    break
                self._writer_waits = loop.create_future()
                await self._writer_waits
            await reader
        finally:
            reader.cancel()
            for future in list(self._running):
                future.cancel()

    async def _read(self, requests: AsyncIterator[pb.ModelInferRequest]) -> None:
        loop = asyncio.get_running_loop()
        async for request in requests:
            while len(self._running) + len(self._ready) >= STREAM_WINDOW:
                self._reader_waits = loop.create_future()
                await self._reader_waits
            self._start(request)

    def _start(self, request: pb.ModelInferRequest) -> None:
        call = None
        try:
            call = self._gateway.begin("grpc", "infer", self._metadata)
            inference = _asked(call, request)
            waiting = call.admit(len(inference.rows))
            future = (
                call.submit(inference.rows, inference.parameters)
                if waiting is None
                else asyncio.ensure_future(_run_when_admitted(call, inference, waiting))
            )
        except Exception as error:  # noqa: BLE001  the stream goes on; the message says which request it was
            if call is not None:
                call.end(error)
            self._tell(_failed(request, error))
            return
        self._running.add(future)
        future.add_done_callback(partial(self._done, call, inference, request))

    def _done(
        self, call: Call, inference: Inference, request: pb.ModelInferRequest, future: asyncio.Future[Outputs]
    ) -> None:
        self._running.discard(future)
        if future.cancelled():  # the client left
            call.end(asyncio.CancelledError())
            return
        error = future.exception()
        if error is None:
            try:
                response = pb.ModelStreamInferResponse(infer_response=_answer(call, inference, future.result()))
            except Exception as unfit:  # noqa: BLE001  told to the client, as any other
                error = unfit
        if error is not None:
            response = _failed(request, error)
        call.end(error)
        self._tell(response)

    def _tell(self, response: pb.ModelStreamInferResponse) -> None:
        self._ready.append(response)
        self._wake_writer()

    def _wake_writer(self, *_: object) -> None:
        waits, self._writer_waits = self._writer_waits, None
        if waits is not None and not waits.done():
            waits.set_result(None)

    def _wake_reader(self) -> None:
        waits, self._reader_waits = self._reader_waits, None
        if waits is not None and not waits.done():
            waits.set_result(None)


def _asked(call: Call, request: pb.ModelInferRequest) -> Inference:
    loaded = call.model(request.model_name, request.model_version)
    call.size_bytes = request.ByteSize()
    inference = proto_codec.decode(loaded.codec, request)
    call.urge(inference.priority, inference.timeout)
    return inference


def _answer(call: Call, inference: Inference, rows: Outputs) -> pb.ModelInferResponse:
    loaded = call.loaded
    call.answered(inference.rows, rows, inference.id)
    return proto_codec.encode(loaded.name, loaded.version, inference, rows)


async def _run_when_admitted(call: Call, inference: Inference, waiting: Awaitable[None]) -> Outputs:
    await waiting
    return await call.submit(inference.rows, inference.parameters)


def _failed(request: pb.ModelInferRequest, error: BaseException) -> pb.ModelStreamInferResponse:
    response = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
    return pb.ModelStreamInferResponse(error_message=describe(error).message, infer_response=response)

"""One call by an ordinary client before any load: is the server there, and is its answer right?"""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from typing import Any

import grpc

from benchmarks.harness import StepFailed
from benchmarks.serving_parts.contest_requests import STREAM, Request, require_right
from benchmarks.serving_parts.server_process import Endpoint
from deepseek.serving.proto import open_inference_pb2 as pb

TIMEOUT_S = 10.0


class NotThere(ConnectionError):  # noqa: N818  # what a server is while it starts
    """There is no answer yet, or one that says so; not all servers have loaded the model when they listen."""


def rest_answer(endpoint: Endpoint, request: Request, who: str) -> bytes:
    """The body of a right answer.

    Raises:
        NotThere: there is none.
        StepFailed: it is wrong.
    """
    if endpoint.tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a certificate of our own, on loopback
        connection: Any = http.client.HTTPSConnection("127.0.0.1", endpoint.http_port, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.http_port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", request.path, request.body, {**request.headers, **endpoint.headers})
        response = connection.getresponse()
        body: bytes = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotThere(f"{who} does not answer {request.path}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise NotThere(f"{who} answers {request.path} with {response.status}: {body[:500]!r}")
    require_right(request, body, response.headers.get("inference-header-content-length"), who)
    return body


def grpc_answer(endpoint: Endpoint, request: Request, who: str, certificate: Path | None = None) -> bytes:
    """The message that answers a unary call; raises what :func:`rest_answer` raises."""
    with _channel(endpoint, certificate) as channel:
        call = channel.unary_unary(request.path)
        try:
            answer: bytes = call(request.body, timeout=TIMEOUT_S, metadata=_metadata(endpoint))
        except grpc.RpcError as error:
            raise _not_there(error, who, request.path) from error
    require_right(request, answer, None, who)
    return answer


def stream_answer(endpoint: Endpoint, request: Request, who: str, certificate: Path | None = None) -> bytes:
    """The message that answers the first one of a stream; raises what :func:`rest_answer` raises."""
    with _channel(endpoint, certificate) as channel:
        call = channel.stream_stream(STREAM)
        try:
            (answer,) = call(iter([request.body]), timeout=TIMEOUT_S, metadata=_metadata(endpoint))
        except grpc.RpcError as error:
            raise _not_there(error, who, STREAM) from error
    response = pb.ModelStreamInferResponse.FromString(answer)
    if response.error_message:
        raise StepFailed(f"{who} answers a stream with {response.error_message}")
    require_right(request, response.infer_response.SerializeToString(), None, who)
    return bytes(answer)


def _not_there(error: Any, who: str, path: str) -> NotThere:
    return NotThere(f"{who} answers {path} with {error.code().name}: {error.details()}")


def _metadata(endpoint: Endpoint) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in endpoint.headers.items()]


def _channel(endpoint: Endpoint, certificate: Path | None) -> grpc.Channel:
    address = f"127.0.0.1:{endpoint.grpc_port}"
    if not endpoint.tls:
        return grpc.insecure_channel(address)
    assert certificate is not None
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(certificate.read_bytes()))

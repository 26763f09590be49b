"""Run by KServe's client in its environment; prints what came: ``kserve_client_calls.py CALLS HTTP_URL GRPC [KEY]``."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from kserve.protocol.infer_type import RequestedOutput

X = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
N = np.array([1, -2], dtype=np.int32)
FLAG = np.array([True, False])
TAGS = np.array([["a", "文"], ["", "d"]], dtype=np.object_)
BLOB = np.array([b"\x00\xff", b""], dtype=np.object_)
TENSORS = (("x", X, "FP32"), ("n", N, "INT32"), ("flag", FLAG, "BOOL"), ("tags", TAGS, "BYTES"))
RAW_TENSORS = (*TENSORS, ("blob", BLOB, "BYTES"))  # these bytes are no text, and JSON has nothing else


def typed(*, nested: bool = False) -> list[InferInput]:
    return [
        InferInput(name, list(array.shape), datatype, data=(array if nested else array.ravel()).tolist())
        for name, array, datatype in TENSORS
    ]


def arrays() -> list[InferInput]:
    """The client itself chooses JSON for REST, raw bytes for gRPC."""
    return [InferInput(name, list(array.shape), datatype, data=array) for name, array, datatype in TENSORS]


def raw() -> list[InferInput]:
    inputs = []
    for name, array, datatype in RAW_TENSORS:
        inputs.append(InferInput(name, list(array.shape), datatype))
        inputs[-1].set_data_from_numpy(array, binary_data=True)
    return inputs


def empty() -> list[InferInput]:
    """A tensor without elements in binary form beside one in JSON: the client then sends no length of its JSON."""
    inputs = [InferInput("x", [2, 0, 2], "FP32"), InferInput("n", [2], "INT32")]
    inputs[0].set_data_from_numpy(np.zeros((2, 0, 2), np.float32), binary_data=True)
    inputs[1].set_data_from_numpy(N, binary_data=False)
    return inputs


def texts(*values: str) -> list[InferInput]:
    return [InferInput("text", [len(values)], "BYTES", data=list(values))]


def request(model: str, inputs: list[InferInput], **fields: Any) -> InferRequest:
    return InferRequest(model, inputs, **fields)


def told(response: Any) -> dict[str, Any]:
    """Every output as plain JSON: bytes as text or, where they are none, as hexadecimal digits."""
    found = {}
    for output in response.outputs:
        values = np.asarray(output.as_numpy())
        texts = values.dtype == np.object_
        found[output.name] = [_plain(value) for value in values.ravel()] if texts else values.tolist()
    return found


def _plain(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


async def failing(call: Awaitable[Any]) -> list[Any]:
    """What the client raises: the class, the status and the message."""
    try:
        await call
    except httpx.HTTPStatusError as error:
        return [type(error).__name__, error.response.status_code, str(error)]
    except grpc.aio.AioRpcError as error:
        return [type(error).__name__, error.code().name, error.details()]
    raise AssertionError("the call was expected to fail")


async def rest(url: str) -> dict[str, Any]:
    """Protocol v2 over HTTP, then what the client's default, v1, is told."""
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:

        async def infer(model: str, inputs: list[InferInput], **fields: Any) -> Any:
            return await client.infer(url, request(model, inputs, **fields), model_name=model)

        mixed = [RequestedOutput(name, {"binary_data": name != "blob"}) for name in ("tags", "x", "blob")]
        headers: dict[str, str] = {}
        plain = {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "bc"]}]}
        found: dict[str, Any] = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "models_ready": [
                await client.is_model_ready(url, name)
                for name in ("arrays", "sentiment/versions/1", "org/topic", "arays", "sentiment/versions/3")
            ],
            "typed": told(await infer("arrays", typed())),
            "nested": told(await infer("arrays", typed(nested=True))),
            "arrays": told(await infer("arrays", arrays())),
            "raw": told(await infer("arrays", raw())),
            "raw_out": told(
                await client.infer(
                    url,
                    request("arrays", raw()[:4], parameters={"binary_data_output": True}),
                    "arrays",
                    response_headers=headers,
                )
            ),
            "raw_type": headers["content-type"],
            "mixed": told(await infer("arrays", raw(), request_outputs=mixed)),
            "empty": [output.shape for output in (await infer("arrays", empty())).outputs[:2]],
            "text": told(await infer("sentiment", texts("ab", "文本"), parameters={"top_k": 3})),
            "slash": told(await infer("org/topic", texts("ab"))),
            "plain": told(await client.infer(url, plain, model_name="sentiment")),
            "id": (await infer("sentiment", texts("a"), request_id="seven")).id,
            "unknown": await failing(infer("arays", typed())),
            "unknown_version": await failing(infer("sentiment/versions/3", texts("a"))),
            "missing": await failing(infer("arrays", typed()[:1])),
            "refused": await failing(infer("sentiment", texts("bad"))),
        }
        await infer("sentiment/versions/1", texts("a", "b", "c"))
    async with InferenceRESTClient(RESTConfig()) as client:
        found["v1"] = await failing(client.infer(url, {"instances": ["a"]}, model_name="sentiment"))
        found["v1_ready"] = await client.is_model_ready(url, "sentiment")
    return found


async def grpc_v2(address: str) -> dict[str, Any]:
    """Protocol v2 over gRPC; the calls that the client has no method for go through its stub."""
    async with InferenceGRPCClient(address) as client:

        async def infer(model: str, inputs: list[InferInput], **fields: Any) -> Any:
            return await client.infer(request(model, inputs, **fields))

        chosen = [RequestedOutput("score"), RequestedOutput("label")]
        versioned = await infer(
            "sentiment",
            texts("a", "bc"),
            request_id="7",
            model_version="1",
            request_outputs=chosen,
            parameters={"top_k": 3},
        )
        found: dict[str, Any] = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "models_ready": [await client.is_model_ready(name) for name in ("arrays", "org/topic")],
            "typed": told(await infer("arrays", typed())),
            "arrays": told(await infer("arrays", arrays())),
            "raw": told(await infer("arrays", raw())),
            "versioned": [versioned.model_name, versioned.model_version, versioned.id],
            "chosen": [[output.name, output.as_numpy().tolist()] for output in versioned.outputs[:1]],
            "labels": told(versioned)["label"],
            "newest": (await infer("sentiment", texts("a"))).model_version,
            "unknown": await failing(infer("arays", typed())),
            "unknown_ready": await failing(client.is_model_ready("arays")),
            "unknown_version": await failing(infer("sentiment", texts("a"), model_version="3")),
            "missing": await failing(infer("arrays", typed()[:1])),
            "refused": await failing(infer("sentiment", texts("bad"))),
        }
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        metadata = await stub.ModelMetadata(pb.ModelMetadataRequest(name="sentiment"))
        found["server"] = (await stub.ServerMetadata(pb.ServerMetadataRequest())).name
        found["metadata"] = [list(metadata.versions), [[t.name, t.datatype, list(t.shape)] for t in metadata.inputs]]
        unloaded = await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="org/topic"))
        found["unloaded"] = [unloaded.model_name, unloaded.isUnloaded]
        again = stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="org/topic"))
        found["unloaded_again"] = await failing(again)
    return found


async def keys(url: str, address: str, key: str) -> dict[str, Any]:
    """A server that needs keys: with one as either header, with a wrong one, and without."""
    bearer, own, wrong = {"authorization": f"Bearer {key}"}, {"x-api-key": key}, {"authorization": "Bearer wrong"}
    found: dict[str, Any] = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:

        def post(model: str, headers: dict[str, str] | None) -> Any:
            return client.infer(url, request(model, texts("a")), model_name=model, headers=headers)

        found["rest"] = [told(await post("sentiment", dict(headers)))["label"] for headers in (bearer, own)]
        found["rest_errors"] = [
            await failing(post("sentiment", None)),
            await failing(post("sentiment", wrong)),
            await failing(post("other", bearer)),
        ]
        found["rest_health"] = [await client.is_server_ready(url), await client.is_model_ready(url, "sentiment")]
    async with InferenceGRPCClient(address) as client:

        def call(model: str, headers: dict[str, str]) -> Any:
            return client.infer(request(model, texts("a")), headers=tuple(headers.items()))

        found["grpc"] = [told(await call("sentiment", headers))["label"] for headers in (bearer, own)]
        found["grpc_errors"] = [
            await failing(call("sentiment", {})),
            await failing(call("sentiment", wrong)),
            await failing(call("other", bearer)),
        ]
        found["grpc_health"] = [await client.is_server_ready(), await client.is_model_ready("sentiment")]
    return found


async def every(url: str, address: str) -> dict[str, Any]:
    return {"rest": await rest(url), "grpc": await grpc_v2(address)}


print(json.dumps(asyncio.run({"every": every, "keys": keys}[sys.argv[1]](*sys.argv[2:]))))

"""Plain grpc.aio: the smallest service by hand that speaks the protocol's two inference calls, raw contents alone.

    python -m benchmarks.serving_parts.peer_grpc_aio_server '{"port": 8001, "loop": "uvloop"}'

The messages are the protocol's, generated from its definition; nothing else is ours.
"""

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.serving_parts.models import FEATURES, Model, chosen

MESSAGES = Path(__file__).parents[2] / "src" / "deepseek" / "serving" / "proto" / "open_inference_pb2.py"
SERVICE = "inference.GRPCInferenceService"


def messages() -> Any:
    """The protocol's generated messages, without importing the package that they are in."""
    spec = importlib.util.spec_from_file_location("open_inference_pb2", MESSAGES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def handlers(pb: Any, name: str, model: Model) -> dict[str, Any]:
    """Both calls."""

    def infer(request: Any) -> Any:
        rows = np.frombuffer(request.raw_input_contents[0], dtype="<f4").reshape(-1, FEATURES)
        answer = model(rows)
        output = pb.ModelInferResponse.InferOutputTensor(name="y", datatype="FP32", shape=answer.shape)
        return pb.ModelInferResponse(
            model_name=name, model_version="1", id=request.id, outputs=[output], raw_output_contents=[answer.tobytes()]
        )

    async def unary(request: Any, context: Any) -> Any:
        return infer(request)

    async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield pb.ModelStreamInferResponse(infer_response=infer(request))

    take = pb.ModelInferRequest.FromString
    return {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(unary, take, pb.ModelInferResponse.SerializeToString),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
            stream, take, pb.ModelStreamInferResponse.SerializeToString
        ),
    }


async def serve(port: int) -> None:
    """Serve until the process ends."""
    server = grpc.aio.server()
    generic = grpc.method_handlers_generic_handler(SERVICE, handlers(messages(), *chosen()))
    server.add_generic_rpc_handlers((generic,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    if given["loop"] == "uvloop":
        import uvloop

        uvloop.run(serve(given["port"]))
    else:
        asyncio.run(serve(given["port"]))

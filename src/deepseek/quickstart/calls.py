"""Call the running server as a client would: over the network, through each protocol's public interface."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

TIMEOUT_S = 30


@dataclass(frozen=True)
class Call:
    """One sentence, the label that came back, its probability, and the protocol."""

    protocol: str
    text: str
    label: str
    score: float


def call_rest(url: str, model: str, texts: Sequence[str]) -> list[Call]:
    """POST the texts to ``/v1/tasks/text-classification``."""
    body = json.dumps({"model": model, "inputs": list(texts)}).encode()
    request = urllib.request.Request(  # noqa: S310 - the URL is our own server's
        f"{url}/v1/tasks/text-classification", data=body, headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
        outputs = json.load(response)["outputs"]
    return [Call("REST", t, str(o["label"]), float(o["score"])) for t, o in zip(texts, outputs, strict=True)]


def call_grpc(address: str, model: str, texts: Sequence[str]) -> list[Call]:
    """Send the texts through ``inference.GRPCInferenceService/ModelInfer`` (Open Inference Protocol v2)."""
    import grpc

    from deepseek.serving.proto import open_inference_pb2 as messages
    from deepseek.serving.proto import open_inference_pb2_grpc as services

    request = messages.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
    tensor.contents.bytes_contents.extend(t.encode() for t in texts)
    with grpc.insecure_channel(address) as channel:
        stub = services.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        reply = stub.ModelInfer(request, timeout=TIMEOUT_S)
    outputs = {o.name: o for o in reply.outputs}
    labels = [b.decode() for b in outputs["label"].contents.bytes_contents]
    scores = outputs["score"].contents.fp32_contents
    return [Call("gRPC", t, label, float(s)) for t, label, s in zip(texts, labels, scores, strict=True)]

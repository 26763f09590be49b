"""Regenerate the Python beside ``open_inference.proto``: ``python -m deepseek.serving.proto.generate``.

Needs ``grpcio-tools`` (the ``dev`` extra). The generated files are committed, because an installation must not need a
protobuf compiler; a test compares them with a fresh generation.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from deepseek.errors import DeepSeekError, require

HEADER = (
    "# Generated from open_inference.proto; regenerate with: python -m deepseek.serving.proto.generate\n"
    "# ruff: noqa\n# fmt: off\n"
)
PROTO = "deepseek/serving/proto/open_inference.proto"
OUTPUTS = ("open_inference_pb2.py", "open_inference_pb2.pyi", "open_inference_pb2_grpc.py")


def generate() -> dict[str, str]:
    """Return the generated sources by file name; raises :class:`DeepSeekError` when the compiler reports an error."""
    protoc = require("grpc_tools.protoc", "dev")
    root = Path(__file__).resolve().parents[3]
    with tempfile.TemporaryDirectory() as out:
        targets = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
        status = protoc.main(["protoc", f"-I{root}", *targets, PROTO])
        if status != 0:
            raise DeepSeekError(f"protoc failed with status {status} on {PROTO}; its message is above")
        folder = (Path(out) / PROTO).parent
        return {name: HEADER + (folder / name).read_text(encoding="utf-8") for name in OUTPUTS}


def main() -> None:
    """Write the generated files beside the ``.proto`` file."""
    for name, source in generate().items():
        (Path(__file__).parent / name).write_text(source, encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    main()

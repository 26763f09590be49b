"""Regenerate the Python beside the ``.proto`` files: ``python -m deepseek.serving.proto.generate``.

Needs ``grpcio-tools`` (the ``dev`` extra). The generated files are committed, because an installation must not need a
protobuf compiler; a test compares them with a fresh generation.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from deepseek.errors import DeepSeekError, require

HEADER = (
    "# Generated from {name}.proto; regenerate with: python -m deepseek.serving.proto.generate\n"
    "# ruff: noqa\n# fmt: off\n"
)
FOLDER = "deepseek/serving/proto"
PROTOS = ("open_inference", "features")
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")
OUTPUTS = tuple(name + suffix for name in PROTOS for suffix in SUFFIXES)


def generate() -> dict[str, str]:
    """Return the generated sources by file name; raises :class:`DeepSeekError` when the compiler reports an error."""
    protoc = require("grpc_tools.protoc", "dev")
    grpc_tools = require("grpc_tools", "dev")
    root = Path(__file__).resolve().parents[3]
    standard = Path(str(grpc_tools.__file__)).parent / "_proto"
    sources: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as out:
        targets = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
        for name in PROTOS:
            proto = f"{FOLDER}/{name}.proto"
            status = protoc.main(["protoc", f"-I{root}", f"-I{standard}", *targets, proto])
            if status != 0:
                raise DeepSeekError(f"protoc failed with status {status} on {proto}; its message is above")
            for suffix in SUFFIXES:
                text = (Path(out) / FOLDER / (name + suffix)).read_text(encoding="utf-8")
                sources[name + suffix] = HEADER.format(name=name) + text
    return sources


def main() -> None:
    """Write the generated files beside the ``.proto`` files."""
    for name, source in generate().items():
        (Path(__file__).parent / name).write_text(source, encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    main()

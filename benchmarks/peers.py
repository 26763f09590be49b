"""Peers to compare with, each in a virtual environment of its own under the cache folder.

Their dependencies are not ours (Feast wants an older pandas), so they are never installed beside the package. An
environment is made once for each set of pins and used again; delete ``CACHE/bench-peers`` to make them anew.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import say
from deepseek.artifacts import cache_dir

FEAST = ("feast[redis,duckdb]==0.67.0", "pandas==2.3.3", "pyarrow==26.0.1", "duckdb==2.0.1", "ibis-framework==12.0.0")
DATASKETCH = ("datasketch==2.0.0", "numpy==2.4.6")
PANDAS = ("pandas==3.1.1", "pyarrow==25.0.1")
ENCODERS = (
    "torch==2.13.0", "transformers==5.23.0", "onnx==1.23.2", "onnxscript==0.7.2", "onnxruntime==1.32.0",
    "openvino==2026.4.1", "nncf==3.4.0", "numpy==2.4.6",
)  # fmt: skip
GENERATION = (
    "torch==2.13.0", "transformers==5.23.0", "gguf==0.19.0", "openvino==2026.4.1", "openvino-genai==2026.4.1.0",
    "onnxruntime==1.32.0", "onnxruntime-genai==0.18.0", "onnx==1.23.2", "onnx-ir==1.1.0", "numpy==2.4.6",
    "sentencepiece==0.2.3",
)  # fmt: skip
"""PyTorch is in the same call, so that nothing brings another build of it: the one that pip is set up for."""

TABULAR = ("numpy==2.4.6", "scikit-learn==1.9.1")
"""What every server of a contest computes with."""

FASTAPI = ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", *TABULAR)
LITSERVE = ("litserve==0.2.19", *TABULAR)
BENTOML = ("bentoml==1.4.40", *TABULAR)
MLSERVER = ("mlserver==1.7.1", "uvloop==0.21.0", *TABULAR)
"""Its parallel workers do not start with a later uvloop."""

GRPC_AIO = ("grpcio==1.85.1", "protobuf==7.36.2", "uvloop==0.23.0", *TABULAR)
LLAMA_CPP = ("llama-cpp-python==0.3.36", "numpy==2.4.6")
"""Built from source when it is installed, for twenty minutes."""


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The Python executable of an environment that holds ``requirements``; made when it is not there.

    Raises:
        RuntimeError: pip could not install them; the text holds what it said.
    """
    pins = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:10]
    home = cache_dir() / "bench-peers" / f"{name}-{pins}"
    python = home / "bin" / "python"
    done = home / "installed"
    if not done.exists():
        say(f"installing {', '.join(requirements)} in {home} ...")
        venv.create(home, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements]
        run = subprocess.run(pip, capture_output=True, text=True, check=False)
        if run.returncode:
            raise RuntimeError(f"the peer {name} cannot be installed: {run.stderr.strip()[-2000:]}")
        done.touch()
    return python


def versions(*pins: str) -> dict[str, str]:
    """Project to version, from pins such as ``feast[redis]==0.67.0``."""
    return {pin.split("==")[0].split("[")[0]: pin.split("==")[1] for pin in pins}

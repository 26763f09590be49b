"""What tests of Triton kernels share: scripts in processes of their own, and what a compiled kernel takes.

Triton's interpreter, once chosen, is for a whole process, so scripts beside the tests run the kernels and print JSON.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
SOURCES = TESTS.parent / "src"


def said_by(script: Path, *arguments: str, folder: Path, **variables: str) -> str:
    """What a script prints in a process of its own; ``folder`` keeps what Triton compiles."""
    paths = os.pathsep.join(filter(None, [str(SOURCES), str(TESTS), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": paths, "TRITON_CACHE_DIR": str(folder), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run([sys.executable, script, *arguments], env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def target_of(arguments: list[str]) -> Any:
    """The GPU that a command line names: backend, architecture, threads that run together."""
    from triton.backends.compiler import GPUTarget

    backend, architecture, together = arguments
    return GPUTarget(backend, int(architecture) if architecture.isdigit() else architecture, int(together))


def taken_by(name: str, result: Any) -> dict[str, Any]:
    """Which results a compiled kernel has, and what the assemblers said that it takes."""
    reply = {"name": name, "results": sorted(result.asm), "shared_bytes": result.metadata.shared}
    if "cubin" in result.asm:
        reply |= _of_cubin(result.asm["cubin"])
    if "amdgcn" in result.asm:
        reply |= {
            key: int(n) for key, n in re.findall(r"\.(vgpr_count|[sv]gpr_spill_count): *(\d+)", result.asm["amdgcn"])
        }
    return reply


def _of_cubin(binary: bytes) -> dict[str, int]:
    """Registers of a thread, and bytes of stack, which are spills: the kernels have no arrays of their own."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.is_file():
        return {}
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        said = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    return {key.lower(): int(n) for key, n in re.findall(r"\b(REG|STACK):(\d+)", said.stdout)}

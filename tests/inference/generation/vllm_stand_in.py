"""The stub of vLLM in place of vLLM, for a module of tests that imports the fixture."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deepseek.inference.generation.vllm.library import VARIABLES

HERE = Path(__file__).parent
FACTS = json.loads((HERE / "vllm_facts.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True, name="vllm")
def stub() -> Iterator[Any]:
    """The stub's module ``vllm``; afterwards all is as before."""
    pytest.importorskip("xgrammar")  # what vLLM reads grammars with
    variables = {name: os.environ.pop(name, None) for name in VARIABLES}
    kept = {name: sys.modules.pop(name) for name in modules()}
    sys.path.insert(0, str(HERE / "vllm_stub"))
    import vllm

    yield vllm
    sys.path.remove(str(HERE / "vllm_stub"))
    for name in modules():
        del sys.modules[name]
    sys.modules.update(kept)
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def modules() -> list[str]:
    """Modules of vLLM that are imported."""
    return [name for name in sys.modules if name.partition(".")[0] == "vllm"]

"""The contract's tests of all generation cores, with a real model, for the core over vLLM and its stub.

Slow, because the stub computes one sequence after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import test_cores
from test_cores import theirs  # noqa: F401 - a fixture of the contract's tests
from vllm_stand_in import stub  # noqa: F401 - the fixture "vllm"

from deepseek.inference.generation import CoreSettings, GenerationEngine

pytestmark = pytest.mark.slow
globals().update({name: test for name, test in vars(test_cores).items() if name.startswith("test_")})


@pytest.fixture(scope="module")
def engine(vllm: Any) -> Iterator[GenerationEngine]:
    """As for the other cores."""
    settings = CoreSettings(max_sequences=3, max_step_tokens=64, cache_tokens=2048)
    with GenerationEngine.load("smollm2-135m-instruct", core="vllm", dtype="float32", settings=settings) as loaded:
        yield loaded

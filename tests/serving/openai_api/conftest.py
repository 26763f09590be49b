from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from generation_fakes import Echo, FakeEmbedder, core_of, echoing
from serving_fakes import CONFIG, FakeClassifier

from deepseek.serving import Server


@pytest.fixture(scope="module")
def echo() -> Iterator[Any]:
    """A generating model with the adapter "pirate"."""
    with echoing(adapters=["pirate"]) as model:
        yield model


@pytest.fixture(scope="module")
def core(echo: Any) -> Echo:
    return core_of(echo)


@pytest.fixture(scope="module")
def openai_server(echo: Any) -> Iterator[Server]:
    with Server(CONFIG, [echo, FakeEmbedder(), FakeClassifier()]) as running:
        yield running


@pytest.fixture(scope="module")
def api(openai_server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{openai_server.http_url}/v1", timeout=30) as client:
        yield client

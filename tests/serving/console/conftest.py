from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from console_traffic import QUICK, Traffic, models
from headless_chromium import Browser

from deepseek.serving import Server


@pytest.fixture(scope="module")
def busy() -> Iterator[Server]:
    """A server that clients keep busy: six models, one of which has drifted; points every fifth of a second."""
    log = logging.getLogger("deepseek.serving")
    level = log.level
    log.setLevel(logging.CRITICAL)  # the faults are on purpose
    with Server(QUICK, models()) as server, Traffic(server, drifting=True, faults=0.05):
        yield server
    log.setLevel(level)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened

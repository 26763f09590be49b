"""A tiny encoder's checkpoint for the tests that start processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # also for the workers, which search where the tests do


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint folder of a tiny BERT."""
    from tiny_encoder import write_encoder

    return write_encoder(tmp_path_factory.mktemp("encoder"))

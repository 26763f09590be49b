"""What the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import save_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random encoder, without a head."""
    return save_tiny(tmp_path_factory.mktemp("tiny"))

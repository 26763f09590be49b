"""What the tests of inference share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from deepseek.inference import quantize


@pytest.fixture
def copied(bundle: Any, rows: list[dict[str, Any]], tmp_path: Path) -> Path:
    """The trained bundle with an int8 copy for the runtime ``amx``, which runs nothing else."""
    folder = tmp_path / "copied"
    shutil.copytree(bundle.path, folder)
    quantize(folder, rows * 6, runtime="amx", calibration=8)
    return folder

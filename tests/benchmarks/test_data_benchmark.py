"""The data benchmark runs from end to end on small data, peers included."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import CLAIMS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="the benchmark needs redis-server on the path")
def test_a_smoke_run_leaves_every_figure(tmp_path: Path) -> None:
    target = tmp_path / "data.json"
    command = [sys.executable, "benchmarks/data.py", "--quick", "--seed", "5", "--output", str(target)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    figures = json.loads(target.read_text(encoding="utf-8"))["figures"]
    only_in_full = {"neardup_vs_datasketch_1m"}  # a million texts, with --full
    assert {claim.key for claim in CLAIMS if claim.file == "data"} - only_in_full <= set(figures)
    assert all(math.isfinite(figure["value"]) for figure in figures.values())

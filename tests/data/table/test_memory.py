"""Memory is bounded by the batch: a table's life in a process of its own, at sizes far above what it may take.

Each step (create and append, scan, add a column, upsert, delete, SQL, compact) may take ``BUDGET`` MB above what the
process has before it, whatever the table's size. The slow test has tables of twenty times that.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("memory_script.py")
BUDGET = 160
SCAN_BUDGET = 400


def _peaks(folder, megabytes, width, kind):
    command = [sys.executable, str(SCRIPT), str(folder), str(megabytes * 1_000_000 // width), str(width), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["bytes"] > 0.8 * megabytes * 1_000_000
    return found["peaks"]


def _check(peaks):
    # Lance holds 200 to 320 MB while it scans small rows, whatever its buffers are set to
    assert peaks.pop("scan") < SCAN_BUDGET
    assert max(peaks.values()) < BUDGET, peaks


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("width", "kind"), [(40_000, "blobs"), (800, "plain")])
def test_memory_does_not_grow_with_the_table(tmp_path, width, kind):
    _check(_peaks(tmp_path, 400, width, kind))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("width", "kind"), [(40_000, "blobs"), (800, "plain")])
def test_tables_of_twenty_times_the_budget(tmp_path, width, kind):
    _check(_peaks(tmp_path, 20 * BUDGET, width, kind))

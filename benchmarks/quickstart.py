"""Claim: from raw sentences to a served model in under six minutes on two cores, 3 points over TF-IDF.

Runs `deepseek quickstart --once` in an empty folder, as a new user would, in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "quickstart.json"


def main() -> None:
    """Run the quickstart and leave its figures in results/quickstart.json."""
    command = Path(sys.executable).parent / "deepseek"
    with tempfile.TemporaryDirectory() as folder:
        ports = ["--http-port", "0", "--grpc-port", "0"]
        run = [str(command), "quickstart", "--once", "--output", folder + "/run", *ports, "--results", str(RESULTS)]
        subprocess.run([*run, *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()

"""What a local worker process runs first, as a script, before this package can be imported: ``start.py JOB.json``.

Output goes into the worker's log from the first line, modules are found where the launching process finds them, and
the worker ends when the launching process is gone, so that none is left behind.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    _job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    _log = os.open(
        Path(_job["logs"], f"worker-{os.environ['RANK']}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
    )
    os.dup2(_log, 1)
    os.dup2(_log, 2)
    threading.Thread(target=_follow, args=(_job["parent"],), daemon=True).start()
    sys.path[:] = _job["search_path"]
    from deepseek.training.distributed.worker import main

    main(_job)

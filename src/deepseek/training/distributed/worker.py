"""What runs in a worker, whoever launched it: call the job's function, hand over its result or its error."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from deepseek.artifacts.cache import write_text
from deepseek.errors import DeepSeekError
from deepseek.training.distributed import ranks


def main(job: dict[str, Any]) -> None:
    """Run in a process that is one worker; ends it with status 1 after an error."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the launcher's way to end the others when one worker failed
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // job["workers"])))
    from deepseek import progress

    progress.silence()  # the driver shows a bar
    try:
        work(job, again=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0)
    except BaseException:  # noqa: BLE001 - whatever it was, this process has to end at once
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # a normal exit would wait for workers that will never answer


def work(job: dict[str, Any], *, again: bool) -> None:
    """Call the job's function with its payload; the main worker writes what it returns, each writes its error.

    Args:
        again: whether workers were started before and died: the function then gets ``resume=True``.
    """
    folder = Path(job["folder"])
    error_file = folder / f"error-{ranks.rank()}.json"
    error_file.unlink(missing_ok=True)
    module, _, name = job["target"].partition(":")
    try:
        result = getattr(import_module(module), name)(job["payload"], resume=again)
        if ranks.is_main():
            write_text(folder / "result.json", json.dumps(result))
        ranks.wait_for_all()
    except BaseException as error:
        known = isinstance(error, DeepSeekError)
        write_text(
            error_file,
            json.dumps({
                "kind": type(error).__name__,
                "message": str(error),
                "time": time.time(),
                "ours": known,
                "trace": "".join(traceback.format_exception(error))[-4000:],
            }),
        )  # fmt: skip
        raise
    finally:
        if sys.exc_info()[0] is None and ranks.connected() and job["launcher"] == "local":
            import torch.distributed as dist

            dist.destroy_process_group()

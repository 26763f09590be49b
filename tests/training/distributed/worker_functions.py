"""What workers run in the launcher's tests."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from deepseek.errors import DataError


def meet(payload: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    """Add up the ranks."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    total = torch.tensor([dist.get_rank() + 1])
    dist.all_reduce(total)
    return {"total": int(total), "payload": payload, "rank": dist.get_rank(), "resume": resume}


def die(payload: dict[str, Any], *, resume: bool) -> str:
    """Worker 1 ends as the payload says; the others wait for it for ever."""
    folder = Path(payload["folder"])
    (folder / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    if payload.get("once") and resume:
        return "second time"
    if os.environ["RANK"] == "1":
        print("about to go wrong", file=sys.stderr, flush=True)
        if payload["how"] == "killed":
            os.kill(os.getpid(), 9)
        if payload["how"] == "ours":
            raise DataError("row 7: expected a label")
        if payload["how"] == "theirs":
            raise IndexError("list index out of range")
    time.sleep(600)
    return "never"

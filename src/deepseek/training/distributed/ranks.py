"""Which of several processes this one is, and what they agree on."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from deepseek.errors import ConfigError

Value = TypeVar("Value")


def world_size() -> int:
    """How many processes train together, as the launcher (``torchrun``, ``accelerate launch``, Ray, ours) says."""
    return max(1, _number("WORLD_SIZE", 1))


def rank() -> int:
    """This process's number, from 0."""
    return _number("RANK", 0)


def is_main() -> bool:
    """Whether this is the process that writes files and talks to the user."""
    return rank() == 0


def launched() -> bool:
    """Whether a launcher started this process as one of a group (of one or more)."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


def connected() -> bool:
    """Whether the processes can talk to each other yet (the Trainer connects them when it is made)."""
    import torch.distributed as dist

    return bool(dist.is_available() and dist.is_initialized())


def agreed(value: Value) -> Value:
    """The main process's ``value`` in every process: what all must decide alike, such as scores that may end a run.

    Every process has to call it at the same point. With one process, or before they are connected, the value itself.
    """
    if world_size() == 1 or not connected():
        return value
    import torch.distributed as dist

    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[no-any-return]


def wait_for_all() -> None:
    """Return when every process has come here; nothing with one process or before they are connected."""
    if world_size() > 1 and connected():
        import torch.distributed as dist

        dist.barrier()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"expected a number in the environment variable {name}, received {text!r}") from None

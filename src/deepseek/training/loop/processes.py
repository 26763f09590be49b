"""Work that one of several processes does for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from deepseek.training.distributed.ranks import agreed, connected, is_main, world_size

Value = TypeVar("Value")


def on_main(work: Callable[[], Value]) -> Value:
    """The main process's result of ``work``, or its error, in every process, which all wait for it."""
    if world_size() == 1 or not connected():
        return work()
    found: Value | BaseException | None = None
    if is_main():
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - raised again below, in every process
            found = error
    found = agreed(found)
    if isinstance(found, BaseException):
        raise found
    return found  # type: ignore[return-value]


def connect(use_cpu: bool) -> None:
    """Let the processes that a launcher started find each other, before the Trainer would."""
    if world_size() == 1 or connected():
        return
    from transformers import TrainingArguments

    arguments = TrainingArguments(
        output_dir=".", use_cpu=use_cpu, ddp_backend="gloo" if use_cpu else None, report_to="none"
    )
    _ = arguments.device  # the first look at it opens the process group

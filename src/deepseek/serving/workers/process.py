"""A worker process: loads one model and answers batches, until the server says stop or is gone.

Started by :mod:`deepseek.serving.workers.worker` as
``python -P -m deepseek.serving.workers.process WORK CONTROL PARENT``: the descriptors of two sockets and the server's
process id. Nothing else comes from outside, and nothing is unpickled.

The main thread runs the model and the work stream, because some libraries want the main thread, and a second thread
between the socket and the model would cost as much as the whole hop. The control stream has a thread of its own, which
says every second that the process lives, and ends it when the server's end is closed, whatever the model does then.

SIGINT and SIGTERM are ignored: a Ctrl-C in a terminal, or a service manager, sends them to every process at once, and
it is for the server to drain first.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from deepseek.serving.batching import answering
from deepseek.serving.batching.output_check import checked
from deepseek.serving.batching.request import Outcome
from deepseek.serving.models.served_model import Row, ServedModel
from deepseek.serving.workers.control import Control
from deepseek.serving.workers.faults import fault
from deepseek.serving.workers.loading import load, warm_up
from deepseek.serving.workers.messages import Answer, Fault, Load, Loaded, LoadFailed, Predict, Stop
from deepseek.serving.workers.streams import BlockingStream
from deepseek.serving.workers.values import lifted

_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> int:
    """Run until the server ends it; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    work, control, parent = (int(argument) for argument in arguments)
    _die_with(parent)
    faulthandler.enable()
    stream = BlockingStream(socket.socket(fileno=work))
    message = stream.receive()
    if not isinstance(message, Load):
        return 1
    watching = Control(BlockingStream(socket.socket(fileno=control)), message.beat_seconds)
    watching.forward_logs(message.log_level)
    watching.start()
    try:
        model = load(message.function, message.arguments)
        warm_up(model)
        watching.measure()
        stream.send(_introduction(model, watching))
    except Exception as error:  # noqa: BLE001  the server raises it
        stream.send(LoadFailed(fault(error)))
        return 1
    watching.model_loaded(getattr(model, "cancel", None))
    predict = checked(model)
    while isinstance(batch := stream.receive(), Predict):
        _answer(stream, watching, model.name, predict, batch)
    return 0 if batch is None or isinstance(batch, Stop) else 1


def _die_with(parent: int) -> None:
    """Let the kernel end this process when the server dies (Linux; elsewhere the closed streams do)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(1)


def _introduction(model: ServedModel, watching: Control) -> Loaded:
    return Loaded(
        name=model.name,
        version=model.version,
        task=model.task,
        platform=model.platform,
        signature=model.signature.model_dump(mode="json"),
        statistics=watching.statistics(),
        reference=dict(getattr(model, "reference", None) or {}),
        reference_metrics=dict(getattr(model, "reference_metrics", None) or {}),
        answer_column=getattr(model, "answer_column", None),
    )


def _answer(stream: BlockingStream, watching: Control, name: str, predict: answering.Predict, batch: Predict) -> None:
    pieces: list[Sequence[Row]] = []
    start = 0
    for size in batch.sizes:
        pieces.append(batch.rows[start : start + size])
        start += size

    watching.begins(batch.number)
    began = time.perf_counter()
    outcomes: list[Outcome]
    if watching.wanted(batch.number):
        outcomes = answering.answer(predict, pieces, batch.parameters, lambda _: watching.wanted(batch.number), name)
    else:
        outcomes = [[] for _ in pieces]
    watching.ends(time.perf_counter() - began, len(batch.rows))
    try:
        stream.send(_message(batch.number, outcomes, watching))
    except (TypeError, ValueError, OverflowError):
        # Something in it cannot cross; find out in whose.
        for index, outcome in enumerate(outcomes):
            try:
                stream.encode(_message(batch.number, [outcome], watching))
            except (TypeError, ValueError, OverflowError) as error:
                reason = TypeError(f"model {name!r} returned what cannot leave its process: {error}")
                outcomes[index] = reason
        stream.send(_message(batch.number, outcomes, watching))


def _message(number: int, outcomes: Sequence[Outcome], watching: Control) -> Answer:
    outputs: list[Any] = []
    faults: dict[int, Fault] = {}
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, Exception):
            faults[index] = fault(outcome)
            outputs.append(())
        else:
            outputs.append(lifted(outcome))
    return Answer(number, outputs, faults, watching.statistics())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

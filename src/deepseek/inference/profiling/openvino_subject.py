"""OpenVINO under a profile: its own counters tell the time of each node of the compiled graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.inference.hardware.devices import clock_of, find_device
from deepseek.inference.profiling.outcome import Breakdown, largest
from deepseek.inference.profiling.passes import Pass, Run, Shapes, Subject, forward_passes, kinds_of_modules
from deepseek.inference.profiling.work import Sizes, reference
from deepseek.inference.recording import Batch

if TYPE_CHECKING:
    from deepseek.inference.openvino.runtime import NodeTime, OpenVinoModel
    from deepseek.models.checkpoint import Checkpoint
    from deepseek.tasks.base import Task

PASSES = 3
BETWEEN = "(outside of nodes)"
NOWHERE = "(of no single module)"
PREFIX = "__module.model"
"""What the converter puts in front of a module's path."""
PRODUCTS = frozenset({"Convolution", "FullyConnected", "MatMul", "QKVProjection", "MLP", "ScaledDotProductAttention"})


class OpenVinoSubject(Subject):
    """A model of the OpenVINO runtime, on the CPU or another of its devices."""

    def __init__(
        self, loaded: OpenVinoModel, checkpoint: Checkpoint, task: Task, processor: Any, device: str, dtype: str
    ) -> None:
        self._loaded, self._checkpoint, self._task, self._processor = loaded, checkpoint, task, processor
        self._asked = {"device": device, "dtype": dtype}
        self._batches: dict[Run, Batch] = {}
        self.device = loaded.device
        self.dtype = "int8" if dtype == "int8" else loaded.precision
        # tables and norms stay in float32 in the converted model; matrices are narrowed when it is compiled
        self.sizes = Sizes(Sizes.of(self.dtype).matrix, 4, 4)
        self.clock = clock_of(find_device("cpu"))  # a pass returns when its outputs are on the CPU

    def peaks_device(self) -> str | None:
        return "cpu" if self.device == "cpu" else None

    def passes(self, shapes: Shapes) -> list[Pass]:
        return forward_passes(self._task, self._processor, shapes, self._forward)

    def _forward(self, batch: Batch) -> Callable[[], Run]:
        def run() -> object:
            return self._loaded.forward(batch)

        self._batches[run] = batch
        return lambda: run

    def breakdowns(self, runs: Mapping[str, Run], trace: Path | None) -> dict[str, Breakdown]:
        from deepseek.inference.openvino.runtime import OpenVinoRuntime

        head = type(self._task).head
        kinds = kinds_of_modules(reference(self._checkpoint, head))
        found = {}
        for name, run in runs.items():
            batch = self._batches[run]
            # the counters are means since loading, which another shape must not be among
            counted = OpenVinoRuntime().load_model(self._checkpoint, head, **self._asked, counters=True)
            counted.forward(batch)
            first = counted.node_times()
            started = time.perf_counter()
            for _ in range(PASSES):
                counted.forward(batch)
            walls = time.perf_counter() - started
            found[name] = told(without_first(first, counted.node_times()), walls, kinds)
        return found


def without_first(first: list[NodeTime], mean: list[NodeTime]) -> list[NodeTime]:
    """Seconds of all passes but the first together, from the first's and the means of all."""
    before = {node.name: node.seconds for node in first}
    return [replace(node, seconds=max(0.0, node.seconds * (PASSES + 1) - before.get(node.name, 0.0))) for node in mean]


def told(nodes: list[NodeTime], walls: float, kinds: Mapping[str, str]) -> Breakdown:
    """Nodes with their times in several passes, which took ``walls`` seconds together, as a breakdown."""
    modules: dict[str, float] = {}
    operators: dict[str, float] = {}
    counts: dict[str, float] = {}
    products = 0.0
    for node in nodes:
        operator, kind = f"{node.kind} {node.kernel}", kinds.get(_path(node.name), NOWHERE)
        operators[operator] = operators.get(operator, 0.0) + node.seconds
        modules[kind] = modules.get(kind, 0.0) + node.seconds
        counts[operator] = counts.get(operator, 0.0) + 1
        products += node.seconds if node.kind.startswith(tuple(PRODUCTS)) else 0.0
    # what feeding, outputs and threads take; nodes that run side by side may be longer than the pass
    if (rest := walls - sum(operators.values())) > 0:
        operators[BETWEEN] = modules[BETWEEN] = rest
    return Breakdown(largest(modules, {}), largest(operators, counts), products / sum(operators.values()))


def _path(name: str) -> str:
    """The path of the module that a node comes from, as PyTorch names it; the name itself where it does not say."""
    return name.removeprefix(PREFIX).partition("/")[0].removeprefix(".") if name.startswith(PREFIX) else name

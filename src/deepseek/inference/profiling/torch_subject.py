"""PyTorch under a profile: the module itself is called, so that nothing but the model is timed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.inference.hardware.devices import clock_of, find_device
from deepseek.inference.profiling.outcome import Breakdown, largest
from deepseek.inference.profiling.passes import (
    Pass,
    Run,
    Shapes,
    Subject,
    forward_passes,
    generation_passes,
    kinds_of_modules,
    token_ids,
)
from deepseek.inference.profiling.work import Sizes, last_logits_only
from deepseek.inference.recording import Batch
from deepseek.tasks.base import Task

if TYPE_CHECKING:
    import torch

    from deepseek.inference.torch_runtime import TorchModel

PASSES = 3
"""Passes that the profiler looks at, of each phase."""
PHASE, MODULE = "phase: ", "module: "
BETWEEN = "(Python and the profiler)"
"""Time between operators; looking lengthens it, most where operators are short."""
IDLE = "(no kernel running)"
PRODUCTS = frozenset(
    {
        *("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "matmul", "linear", "_int_mm", "_scaled_mm"),
        *("mkldnn_linear", "_linear_pointwise", "convolution", "_convolution"),
        *("mkldnn_convolution", "cudnn_convolution", "miopen_convolution"),
    }
)
"""Operators that count as matrix products, besides scaled_dot_product_attention's."""


class TorchSubject(Subject):
    """A model of the PyTorch runtime."""

    def __init__(self, loaded: TorchModel, task: Task, processor: Any) -> None:
        self._model: Any = loaded.model
        self._task, self._processor = task, processor
        self._device = find_device(str(self._model.device))
        self.device, self.dtype = str(self._device), str(self._model.dtype).removeprefix("torch.")
        self.sizes = Sizes.of(self.dtype)
        self.clock = clock_of(self._device)
        if self._device.type == "mps":
            self.note = "PyTorch's profiler does not see what Apple's GPUs do, so there is no breakdown"

    def peaks_device(self) -> str | None:
        return self.device

    def peak_precision(self) -> str:
        import torch

        narrowed = self._device.type == "cuda" and torch.backends.cuda.matmul.fp32_precision == "tf32"
        return "tf32" if narrowed and self.dtype == "float32" else self.dtype

    def passes(self, shapes: Shapes) -> list[Pass]:
        if self._task.head == "causal-lm":
            return generation_passes(shapes, self._prefill, self._decode)
        return forward_passes(self._task, self._processor, shapes, self._forward)

    def _forward(self, batch: Batch) -> Callable[[], Run]:
        given = {name: value.to(self._device) for name, value in batch.items()}
        return lambda: lambda: self._called(**given)

    def _prefill(self, rows: int, tokens: int) -> Run:
        ids = token_ids(self._processor, rows, tokens).to(self._device)
        return lambda: self._called(input_ids=ids, use_cache=True, **last_logits_only(self._model))

    def _decode(self, rows: int, context: int) -> Run:
        ids = token_ids(self._processor, rows, context).to(self._device)
        state = self._called(input_ids=ids, use_cache=True, **last_logits_only(self._model)).past_key_values
        last = ids[:, -1:]

        def step() -> object:
            return self._called(input_ids=last, past_key_values=state, use_cache=True)

        return step

    def _called(self, **inputs: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self._model(**inputs)

    def breakdowns(self, runs: Mapping[str, Run], trace: Path | None) -> dict[str, Breakdown]:
        import torch

        if self._device.type == "mps":
            return {}
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it tells standard error when it starts and stops
        kinds = [torch.profiler.ProfilerActivity.CPU]
        on_gpu = self._device.type == "cuda"
        if on_gpu:
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        with _ranges(self._model), torch.profiler.profile(activities=kinds) as session:
            for name, run in runs.items():
                run()  # the profiler's own first time
                if on_gpu:
                    torch.cuda.synchronize(self._device)
                with torch.profiler.record_function(PHASE + name):
                    for _ in range(PASSES):
                        run()
                    if on_gpu:
                        torch.cuda.synchronize(self._device)
        if trace is not None:
            session.export_chrome_trace(str(trace))
        return _told(session.events(), kinds_of_modules(self._model), on_gpu)


@contextlib.contextmanager
def _ranges(model: torch.nn.Module) -> Iterator[None]:
    """Let the profiler see where each module begins and ends."""
    import torch

    handles = []
    for path, module in model.named_modules():
        opened: list[Any] = []

        def enter(module: Any, inputs: Any, path: str = path, opened: list[Any] = opened) -> None:
            span = torch.profiler.record_function(MODULE + path)
            span.__enter__()
            opened.append(span)

        def leave(module: Any, inputs: Any, outputs: Any, opened: list[Any] = opened) -> None:
            opened.pop().__exit__(None, None, None)

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _told(events: Any, kinds: Mapping[str, str], on_gpu: bool) -> dict[str, Breakdown]:
    """Each operator's own time by the innermost module and the phase that it ran in."""
    modules: dict[str, dict[str, float]] = {}
    operators: dict[str, dict[str, float]] = {}
    counts: dict[str, dict[str, float]] = {}
    walls: dict[str, float] = {}
    for event in events:
        if str(event.device_type) != "DeviceType.CPU":
            continue  # a kernel; its time is its operator's already
        phase, module = _place(event)
        if phase is None:
            continue
        if event.name == PHASE + phase:
            walls[phase] = event.cpu_time_total
        name = event.name
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        span = name.startswith((PHASE, MODULE))
        if name.startswith(MODULE):
            counted = counts.setdefault(phase, {})
            kind = kinds[name.removeprefix(MODULE)]
            counted[kind] = counted.get(kind, 0) + 1 / PASSES
        name = BETWEEN if span else name.removeprefix("aten::")
        if not span:
            counted = counts.setdefault(phase, {})
            counted[name] = counted.get(name, 0) + 1 / PASSES
        if own <= 0:
            continue
        by_operator, by_module = operators.setdefault(phase, {}), modules.setdefault(phase, {})
        by_operator[name] = by_operator.get(name, 0.0) + own
        kind = BETWEEN if module is None else kinds[module]
        by_module[kind] = by_module.get(kind, 0.0) + own
    found = {}
    for phase, by_operator in operators.items():
        if on_gpu and (idle := walls[phase] - sum(by_operator.values())) > 0:
            by_operator[IDLE] = modules[phase][IDLE] = idle
        whole = sum(by_operator.values())
        products = sum(took for name, took in by_operator.items() if _is_product(name)) / whole
        found[phase] = Breakdown(largest(modules[phase], counts[phase]), largest(by_operator, counts[phase]), products)
    return found


def _place(event: Any) -> tuple[str | None, str | None]:
    """(phase, path of the innermost module) that an event is in or is."""
    module: str | None = None
    while event is not None:
        if module is None and event.name.startswith(MODULE):
            module = event.name.removeprefix(MODULE)
        if event.name.startswith(PHASE):
            return event.name.removeprefix(PHASE), module
        event = event.cpu_parent
    return None, module


def _is_product(name: str) -> bool:
    operator = name.rpartition("::")[2]
    return operator in PRODUCTS or operator.startswith("_scaled_dot_product")

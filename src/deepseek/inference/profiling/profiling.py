"""Profile a model: load it, time its phases, count their work, find the limit that binds, and look where time goes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepseek import progress
from deepseek.errors import ConfigError
from deepseek.inference import RUNTIMES
from deepseek.inference.hardware import peaks
from deepseek.inference.opening import Opened, opened
from deepseek.inference.profiling.outcome import Phase, Profile
from deepseek.inference.profiling.passes import Pass, Run, Shapes, Subject, listed
from deepseek.inference.profiling.preparation import outside_of
from deepseek.inference.profiling.samples import MOST, WARM_UP, sampled
from deepseek.inference.profiling.work import Sizes, Work, decode_work, forward_work, prefill_work, reference

BEYOND = 8
"""Decoding steps that looking at where time goes takes after the last sample, and some to spare."""


def profile(
    model: str | os.PathLike[str],
    *,
    task: str | None = None,
    runtime: str = "torch",
    device: str = "auto",
    dtype: str = "auto",
    batch: Sequence[int] | int = (1, 32),
    length: int = 128,
    prefill: int = 512,
    context: int = 128,
    streams: Sequence[int] | int = (1,),
    rows: Sequence[Mapping[str, Any]] | None = None,
    trace: str | os.PathLike[str] | None = None,
) -> Profile:
    """Where time goes in a model, and how near each phase comes to what the hardware can do.

    What the device does at most is measured first, for some 20 seconds, unless it was before, and kept
    (:func:`deepseek.inference.hardware.peaks`).

    Args:
        model, task, device, dtype: as :meth:`deepseek.inference.Predictor.load` takes them.
        runtime: a name of :data:`deepseek.inference.RUNTIMES`, or ``"auto"``: the fastest here.
        batch, length: rows and tokens of a forward pass, for encoders and classifiers.
        prefill: tokens of a prompt, for causal language models.
        context, streams: tokens in the cache before decoding begins, and sequences that are decoded at once.
        rows: rows with the task's inputs, to see what preparing them takes and how much of them is padding.
        trace: a file for PyTorch's profile, in Chrome's trace format (``chrome://tracing``, ui.perfetto.dev).

    Raises:
        ConfigError: a number is out of range, the device is not here, the runtime does not run such a model, or a
            trace was asked for of another runtime than PyTorch.
        UnknownNameError, BundleError, FetchError, DataError: as loading and predicting.
    """
    shapes = Shapes(batch=listed(batch), length=length, prefill=prefill, context=context, streams=listed(streams))
    if trace is not None and runtime != "torch":
        raise ConfigError(f"a trace is of PyTorch's profiler; expected the runtime 'torch', received {runtime!r}")
    if trace is not None and not Path(trace).absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {Path(trace).absolute().parent} to write the trace into")
    if runtime != "auto":
        RUNTIMES.get(runtime)
    busy = _busy()
    found = opened(model, task)
    from deepseek.models.loading import processor_for

    processor = processor_for(found.checkpoint, type(found.task).processor)
    if runtime == "auto":
        from deepseek.inference.choice.choosing import choice_for

        chosen = choice_for(found.checkpoint, found.task, processor, device=device, dtype=dtype).chosen
        runtime, dtype = chosen.runtime, chosen.dtype
    head = type(found.task).head
    subject = _subject(found, processor, shapes, runtime, device, dtype)
    most = None if subject.sizes is None or (place := subject.peaks_device()) is None else peaks(place)
    passes = subject.passes(shapes)
    counter = _Counter(found, subject.sizes)
    phases: list[Phase] = []
    runs: dict[str, Run] = {}
    with progress.bar(f"profile {found.checkpoint.name}", len(passes) + 1, "phases") as bar:
        for each in passes:
            bar.advance(0, note=f"{each.kind} {each.rows}")
            phase, run = _measured(each, subject, counter)
            phases.append(phase if most is None else phase.under(most, subject.peak_precision()))
            runs[phase.name] = run
            bar.advance()
        bar.advance(0, note="where time goes")
        told = subject.breakdowns(runs, None if trace is None else Path(trace))
        phases = [replace(phase, breakdown=told.get(phase.name)) for phase in phases]
        generates = head == "causal-lm"
        outside = outside_of(
            found.task, processor, rows, 1 if generates else max(shapes.batch), prefill if generates else length
        )
        bar.advance(note="")
    notes = [note for note in (busy, subject.note) if note]
    if most is None and subject.sizes is not None:
        notes.append(f"what {subject.device!r} does at most cannot be measured with PyTorch, so no limit is known")
    return Profile(
        model=found.checkpoint.name,
        task=type(found.task).name,
        runtime=runtime,
        device=subject.device,
        dtype=subject.dtype,
        parameters=counter.parameters,
        peaks=most,
        phases=tuple(phases),
        outside=outside,
        notes=tuple(notes),
    )


def _busy() -> str:
    """That other programs take the processors' time, in words; empty while they do not, or the system does not tell."""
    if not hasattr(os, "getloadavg"):
        return ""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load <= cores / 2:
        return ""
    return (
        f"the processors were busy before this began (load {load:.1f} on {cores} cores): times are longer for it, and "
        "what the device does at most may have been measured too low (`deepseek bench hardware` measures it anew)"
    )


def _subject(found: Opened, processor: Any, shapes: Shapes, runtime: str, device: str, dtype: str) -> Subject:
    """The model loaded, and the shapes checked against its positions."""
    head = type(found.task).head
    loaded: Any = RUNTIMES.get(runtime)().load(found.checkpoint, head, device=device, dtype=dtype)
    shapes.fit(head == "causal-lm", getattr(loaded, "context_length", None), WARM_UP + MOST + BEYOND)
    if runtime == "torch":
        from deepseek.inference.profiling.torch_subject import TorchSubject

        return TorchSubject(loaded, found.task, processor)
    if runtime == "openvino" and head != "causal-lm":
        from deepseek.inference.profiling.openvino_subject import OpenVinoSubject

        return OpenVinoSubject(loaded, found.checkpoint, found.task, processor, device, dtype)
    from deepseek.inference.profiling.other_subject import OtherSubject

    return OtherSubject(loaded, found.task, processor, device, dtype)


class _Counter:
    """Counts the work of passes on the reference model."""

    def __init__(self, found: Opened, sizes: Sizes | None) -> None:
        self._sizes = sizes
        self._model = None if sizes is None else reference(found.checkpoint, type(found.task).head)

    @property
    def parameters(self) -> int | None:
        return None if self._model is None else sum(weight.numel() for weight in self._model.parameters())

    def work(self, each: Pass, tokens: int) -> Work | None:
        if self._model is None or self._sizes is None:
            return None
        if each.kind == "prefill":
            return prefill_work(self._model, each.rows, tokens, self._sizes)
        if each.kind == "decode":
            return decode_work(self._model, each.rows, tokens, self._sizes)
        return forward_work(self._model, each.batch or {}, self._sizes)


def _measured(each: Pass, subject: Subject, counter: _Counter) -> tuple[Phase, Run]:
    run = each.prepare()
    samples = sampled(subject.clock, run)
    # every decoding step lengthens the cache; the middle one stands for all
    tokens = each.tokens + (WARM_UP + len(samples) // 2 if each.kind == "decode" else 0)
    note, work = "", None
    try:
        work = counter.work(each, tokens)
    except ConfigError as error:
        note = str(error)
    return Phase(each.kind, each.rows, tokens, samples, each.new_tokens, work=work, note=note), run

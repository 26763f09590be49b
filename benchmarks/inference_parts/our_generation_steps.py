"""Our side: the generation engine that ``auto`` picks, in a process of its own."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.inference_parts import generation_work as work
from benchmarks.worker import Clock, serve

state: dict[str, Any] = {}


def choose_core(clock: Clock, *, model: str) -> dict[str, str]:
    """Measure anew what ``auto`` takes: its name, and the whole measurement in words."""
    from deepseek.inference.choice import choose

    choice = choose(model, refresh=True)
    return {"name": choice.chosen.name, "table": str(choice)}


def open_model(clock: Clock, *, model: str) -> str:
    """Load the model; the core that answers."""
    from deepseek.inference.generation import GenerationEngine

    with clock:
        state["engine"] = GenerationEngine.load(model)
    return str(state["engine"].core.name)


def _generate(prompts: list[list[int]], new: int) -> list[list[int]]:
    from deepseek.inference.generation import SamplingParameters

    sampling = SamplingParameters(max_new_tokens=new, ignore_eos=True)
    return [list(answer.token_ids) for answer in state["engine"].generate(prompts, sampling)]


def generate(clock: Clock, *, file: str, seed: int, count: int, length: int, new: int) -> list[list[int]]:
    """Answers to prompts."""
    return _generate(work.prompts_of(file, seed=seed, count=count, length=length), new)


def prefill(clock: Clock, *, file: str, seed: int, length: int) -> float:
    """See :func:`generation_work.prefill_seconds`."""
    return work.prefill_seconds(_generate, file, seed=seed, length=length)


def decode(clock: Clock, *, file: str, seed: int, streams: int, new: int) -> float:
    """See :func:`generation_work.decode_seconds`."""
    return work.decode_seconds(_generate, file, seed=seed, streams=streams, new=new)


def loss(clock: Clock, *, file: str) -> float:
    """Mean loss of the windows, computed as prompts are and as answers are: the larger one."""
    engine = state["engine"]

    def scored(size: int | None) -> float:
        return work.mean_loss(lambda ids: engine.run(lambda: engine.core.logits([ids], step_tokens=size))[0], file)

    return max(scored(None), scored(8))


def trace(clock: Clock, *, file: str, seed: int, count: int, every_s: float) -> tuple[float, list[float]]:
    """Requests as they come."""
    from deepseek.inference.generation import SamplingParameters

    engine, started, running = state["engine"], time.perf_counter(), []
    for arrival, prompt, new in work.trace_of(file, seed=seed, count=count, every_s=every_s):
        time.sleep(max(0.0, started + arrival - time.perf_counter()))
        sampling = SamplingParameters(max_new_tokens=new, ignore_eos=True)
        running.append((arrival, engine.submit(prompt, sampling), []))
    left = list(running)
    while left:
        for each in list(left):
            if each[1].finished:
                each[2].append(time.perf_counter() - started - each[0])
                left.remove(each)
        time.sleep(0.002)
    return time.perf_counter() - started, [ended[0] for _, _, ended in running]


def phases(clock: Clock, *, model: str) -> dict[str, Any]:
    """Seconds of a prefill (512 tokens) and of a decoding step (one stream), the work in them, the machine's peaks."""
    from deepseek.inference.choice import choose
    from deepseek.inference.generation import CORES, CoreSettings
    from deepseek.inference.hardware import peaks
    from deepseek.inference.profiling import profile_generation
    from deepseek.inference.profiling.work import Sizes, decode_work, prefill_work, reference
    from deepseek.models import resolve

    checkpoint, chosen = resolve(model), choose(model).chosen
    settings = CoreSettings(prefix_reuse=False, cache_tokens=4096)
    core = CORES.get(chosen.runtime).load(checkpoint, dtype=chosen.dtype, settings=settings)
    counted = reference(checkpoint, "causal-lm")
    precision = "float32" if chosen.dtype == "float32" else "bfloat16"
    sizes = Sizes.of(precision)
    found = {
        phase: next(p.samples for p in profile_generation(core, tokens, 1, rounds=5) if p.kind == phase)
        for phase, tokens in (("prefill", 512), ("decode", 128))
    }
    core.close()
    step = decode_work(counted, 1, 144, sizes)
    machine = peaks()
    return {
        **found,
        "prefill_flops": prefill_work(counted, 1, 512, sizes).flops,
        "decode_bytes": core.weight_bytes + step.cache_read_bytes + step.cache_written_bytes,
        "peak_flops": machine.products[precision].tflops * 1e12,
        "bandwidth": machine.bandwidth["read"].gb_per_second * 1e9,
        "precision": precision,
    }


if __name__ == "__main__":
    serve(choose_core, open_model, generate, prefill, decode, loss, trace, phases)

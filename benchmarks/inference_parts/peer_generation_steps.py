"""The peers' side: a language model in each peer's recommended way, in a process and an environment of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.inference_parts import generation_work as work
from benchmarks.worker import Clock, serve

state: dict[str, Any] = {}
MOST_ROWS = 32
"""Of a batch of ONNX Runtime GenAI, which takes no more; further ones are a batch of their own."""


def prepare(clock: Clock, *, contestant: str, model: str, gguf: str, folder: str) -> None:
    """Make in ``folder`` what the contestant loads."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if contestant.startswith("ONNX Runtime GenAI"):
        subprocess.run(
            [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", model, "-o", str(target / "int4"),
             "-p", "int4", "-e", "cpu", "-c", str(target / "cache")],
            check=True, capture_output=True,
        )  # fmt: skip
    elif contestant.startswith("llama.cpp"):
        shutil.copyfile(gguf, target / "model.gguf")
    elif contestant.startswith("OpenVINO GenAI"):
        import openvino_genai

        shutil.copyfile(gguf, target / "model.gguf")
        # kept for scoring: GenAI itself gives no logits
        openvino_genai.LLMPipeline(str(target / "model.gguf"), "CPU", {"enable_save_ov_model": True})


def open_model(clock: Clock, *, contestant: str, model: str, folder: str) -> str:
    """Load a contestant."""
    with clock:
        if contestant.startswith("transformers"):
            _open_transformers(model, bf16="bf16" in contestant)
        elif contestant.startswith("ONNX Runtime GenAI"):
            _open_onnx(Path(folder) / "int4")
        elif contestant.startswith("llama.cpp"):
            from benchmarks.inference_parts.llama_cpp_generation import opened

            state["generate"], state["logits"], state["trace"] = opened(Path(folder) / "model.gguf", work.THREADS)
        else:
            _open_openvino(Path(folder) / "model.gguf")
    state["kind"], state["folder"] = contestant, folder
    return contestant


def _open_transformers(model: str, *, bf16: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(work.THREADS)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16 if bf16 else torch.float32).eval()

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        with torch.inference_mode():
            found = loaded.generate(
                input_ids=ids, attention_mask=mask, do_sample=False, min_new_tokens=new, max_new_tokens=new,
                pad_token_id=0,
            )  # fmt: skip
        return [row[longest:] for row in found.tolist()]

    def logits(ids: list[int]) -> Any:
        with torch.inference_mode():
            return loaded(torch.tensor([ids])).logits[0].float().numpy()

    state["generate"], state["logits"] = generate, logits


def _open_onnx(folder: Path) -> None:
    import numpy as np
    import onnxruntime_genai as og

    config = og.Config(str(folder))
    threads = {"model": {"decoder": {"session_options": {"intra_op_num_threads": work.THREADS}}}}
    config.overlay(json.dumps(threads))
    model = og.Model(config)

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        if len(prompts) > MOST_ROWS:
            return generate(prompts[:MOST_ROWS], new) + generate(prompts[MOST_ROWS:], new)
        length = len(prompts[0])
        if any(len(prompt) != length for prompt in prompts):  # it pads on the left itself, with a mask
            length = max(map(len, prompts))
            prompts = [[2] * (length - len(p)) + p for p in prompts]
        options = og.GeneratorParams(model)
        options.set_search_options(
            max_length=length + new, min_length=length + new, batch_size=len(prompts), do_sample=False
        )
        generator = og.Generator(model, options)
        generator.append_tokens(np.array(prompts, dtype=np.int32))
        for _ in range(new):
            generator.generate_next_token()
        return [list(map(int, generator.get_sequence(i)))[length : length + new] for i in range(len(prompts))]

    def logits(ids: list[int]) -> Any:
        options = og.GeneratorParams(model)
        options.set_search_options(max_length=len(ids) + 1, batch_size=1)
        generator = og.Generator(model, options)
        generator.append_tokens(np.array([ids], dtype=np.int32))
        return np.asarray(generator.get_output("logits"))[0]

    state["generate"], state["logits"] = generate, logits


def _open_openvino(gguf: Path) -> None:
    import numpy as np
    import openvino
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 1
    scheduler.max_num_batched_tokens = 2048
    scheduler.max_num_seqs = 64
    settings = {"INFERENCE_NUM_THREADS": work.THREADS}
    pipeline = genai.ContinuousBatchingPipeline(str(gguf), scheduler, "CPU", settings)
    numbers = iter(range(1 << 60))

    def options(new: int) -> Any:
        return genai.GenerationConfig(max_new_tokens=new, min_new_tokens=new, ignore_eos=True, do_sample=False)

    def add(prompt: list[int], new: int) -> Any:
        return pipeline.add_request(next(numbers), openvino.Tensor(np.array([prompt], np.int64)), options(new))

    def read(handle: Any) -> list[int]:
        found: list[int] = []
        while handle.can_read():
            for output in handle.read().values():
                found += output.generated_ids
        return found

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        handles = [add(prompt, new) for prompt in prompts]
        answers: list[list[int]] = [[] for _ in prompts]
        while pipeline.has_non_finished_requests():
            pipeline.step()
            for answer, handle in zip(answers, handles, strict=True):
                answer += read(handle)
        return answers

    def trace(requests: list[tuple[float, list[int], int]]) -> tuple[float, list[float]]:
        running = genai.GenerationStatus.RUNNING
        return work.continuous(requests, add, pipeline.step, lambda handle: handle.get_status() != running)

    compiled: list[Any] = []

    def logits(ids: list[int]) -> Any:
        if not compiled:
            model = openvino.Core().compile_model(str(gguf.with_name("openvino_model.xml")), "CPU")
            compiled.append(model.create_infer_request())
        request = compiled[0]
        request.reset_state()
        given = {
            "input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(len(ids), dtype=np.int64)[None], "beam_idx": np.zeros(1, np.int32),
        }  # fmt: skip
        request.infer(given)
        return request.get_tensor("logits").data[0].copy()

    state["generate"], state["logits"], state["trace"] = generate, logits, trace


def generate(clock: Clock, *, file: str, seed: int, count: int, length: int, new: int) -> list[list[int]]:
    """Answers to prompts."""
    found: list[list[int]] = state["generate"](work.prompts_of(file, seed=seed, count=count, length=length), new)
    return found


def prefill(clock: Clock, *, file: str, seed: int, length: int) -> float:
    """See :func:`generation_work.prefill_seconds`."""
    return work.prefill_seconds(state["generate"], file, seed=seed, length=length)


def decode(clock: Clock, *, file: str, seed: int, streams: int, new: int) -> float:
    """See :func:`generation_work.decode_seconds`."""
    return work.decode_seconds(state["generate"], file, seed=seed, streams=streams, new=new)


def loss(clock: Clock, *, file: str) -> float:
    """Mean loss of the windows."""
    return work.mean_loss(state["logits"], file)


def trace(clock: Clock, *, file: str, seed: int, count: int, every_s: float) -> tuple[float, list[float]]:
    """Requests as they come; in fixed batches where the contestant knows nothing else."""
    requests = work.trace_of(file, seed=seed, count=count, every_s=every_s)
    found: tuple[float, list[float]] = (
        state["trace"](requests) if "trace" in state else work.waves(requests, state["generate"])
    )
    return found


if __name__ == "__main__":
    serve(prepare, open_model, generate, prefill, decode, loss, trace)

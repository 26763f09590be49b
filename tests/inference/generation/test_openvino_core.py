"""What is the OpenVINO core's own: families that it builds, packed weights, guesses, scoring, refusals."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from test_torch_core import GREEDY, Make, made, prompts_of, run, theirs

from deepseek.errors import ConfigError, DataError, EngineError, UnknownNameError
from deepseek.inference import Predictor
from deepseek.inference.generation import CoreSettings, GenerationEngine, SamplingParameters
from deepseek.inference.generation.executable import EngineExecutable, sampling_of
from deepseek.inference.generation.openvino import conversion
from deepseek.inference.generation.openvino.core import OpenVinoCore
from deepseek.inference.generation.openvino.packing import GROUP, Packer, in_4_bits
from deepseek.models import resolve

__all__ = ["made"]  # the fixture of tiny models
pytestmark = pytest.mark.usefixtures("one_thread")


def load(folder: Path, *, dtype: str = "float32", **changes: Any) -> OpenVinoCore:
    chosen = CoreSettings(**{"cache_tokens": 2048, "max_step_tokens": 48, "max_sequences": 4, **changes})
    return OpenVinoCore.load(resolve(folder), device="cpu", dtype=dtype, settings=chosen)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "tie_word_embeddings": True}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("mistral", {}),
    ],
    ids=["llama", "llama-bias-tied", "llama-linear", "qwen2", "qwen3", "mistral"],
)
def test_greedy_answers_are_those_of_transformers(made: Make, kind: str, changes: dict[str, Any]) -> None:
    folder, prompts = made(kind, **changes), prompts_of(3, 70, 17, 1, 33, 16)
    assert run(load(folder), prompts, GREEDY) == theirs(folder, prompts, 20)


def test_guesses_change_nothing(made: Make) -> None:
    prompts = [[5, 6, 7, 8] * 6, *prompts_of(20)]
    expected = theirs(made(), prompts, 20)
    assert run(load(made(), prompt_lookup=3), prompts, GREEDY) == expected
    assert run(load(made(), draft=resolve(made(seed=1)), draft_tokens=3), prompts, GREEDY) == expected


def test_a_checkpoint_is_converted_once_for_each_packing(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, prompts = made(seed=5), prompts_of(12)
    first = {dtype: run(load(folder, dtype=dtype), prompts, GREEDY) for dtype in ("float32", "int8", "int4", "auto")}
    monkeypatch.setattr(conversion, "_convert", None)
    assert {dtype: run(load(folder, dtype=dtype), prompts, GREEDY) for dtype in first} == first


def test_weights_of_a_4_bit_file_lose_nothing_and_others_get_8_bits() -> None:
    generator = np.random.default_rng(0)
    whole = generator.integers(0, 16, (24, 3, GROUP))
    whole[..., 0], whole[..., 1] = 0, 15  # a file's grid goes from the smallest to the largest weight
    scale, low = generator.uniform(0.01, 0.1, (2, 24, 3, 1)).astype(np.float16).astype(np.float32)
    stored = (whole * scale - low).astype(np.float32).reshape(24, 96)
    found, steps, zero = in_4_bits(stored)
    np.testing.assert_array_equal(found, whole)
    np.testing.assert_allclose(((found - zero) * steps).reshape(24, 96), stored, atol=1e-6)
    kinds = {}
    for name, weight in (("grid", stored), ("other", generator.normal(size=(24, 96)).astype(np.float32))):
        node = Packer("auto").node("model.layers.0.mlp.up_proj.weight", torch.from_numpy(weight))
        kinds[name] = "u4" if "u4" in _constants(node) else "i8"
    assert kinds == {"grid": "u4", "other": "i8"}


def _constants(node: Any) -> set[str]:
    found, left = set(), [node]
    while left:
        each = left.pop()
        if each.get_type_name() == "Constant":
            found.add(each.get_element_type().to_string())
        left += [port.get_node() for port in each.input_values()]
    return found


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=GROUP, max_size=GROUP).map(
        lambda row: np.array([row], dtype=np.float32)
    )
)
def test_4_bits_are_off_by_half_a_step_at_most(weight: np.ndarray) -> None:
    whole, scale, zero = in_4_bits(weight)
    assert whole.max() <= 15
    error = np.abs(((whole - zero) * scale).reshape(weight.shape) - weight)
    assert error.max() <= 0.501 * scale.max() + 1e-5 * np.abs(weight).max()


def test_what_it_cannot_run_is_refused_with_a_core_that_can(made: Make) -> None:
    window = made("mistral", sliding_window=32)
    for folder, words in ((window, "windows of 32"), (made("gpt2"), "'gpt2'"), (made("deepseek-v2"), "deepseek_v2")):
        with pytest.raises(ConfigError, match=rf"(?s){words}.*'torch' runs it"):
            load(folder)
    with pytest.raises(ConfigError, match="takes no adapters"):
        load(made(), adapters={"one": window})
    with pytest.raises(ConfigError, match="runs on the CPU"):
        OpenVinoCore.load(resolve(made()), device="cuda", settings=CoreSettings())
    with pytest.raises(UnknownNameError, match="float7"):
        load(made(), dtype="float7")


def test_logits_are_the_models_and_leave_the_cache_as_it_was(made: Make) -> None:
    core, (long, short) = load(made(), cache_tokens=128), prompts_of(100, 9)
    model = transformers.AutoModelForCausalLM.from_pretrained(made()).eval()
    with torch.inference_mode():
        expected = [model(torch.tensor([ids])).logits[0] for ids in (long, short)]
    for step_tokens in (None, 8, 1000):
        for found, wanted in zip(core.logits([long, short], step_tokens=step_tokens), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    assert core.usage()["cache_share"] == 0
    with pytest.raises(DataError, match="room for"):
        core.logits([long * 2])


def test_a_predictor_answers_and_scores_as_with_torch(made: Make) -> None:
    rows = [{"prompt": "5 6 7 8", "completion": "9 10 11"}, {"prompt": "20 21", "completion": "22"}]
    ours = Predictor.load(made(), runtime="openvino", dtype="float32")
    reference = Predictor.load(made(), runtime="torch", dtype="float32")
    asked = [{"prompt": row["prompt"]} for row in rows]
    assert ours.predict(asked, {"max_new_tokens": 9}) == reference.predict(asked, {"max_new_tokens": 9})
    found, expected = ours.score(rows), reference.score(rows)
    assert found["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-3)
    drawn = {"max_new_tokens": 9, "temperature": 1.0, "seed": 3}
    assert ours.predict(asked, drawn) == ours.predict(asked, drawn)
    ours.model.close()


def test_options_of_transformers_become_sampling_parameters() -> None:
    assert sampling_of({"max_new_tokens": 3, "top_k": 5, "temperature": None}) == SamplingParameters(max_new_tokens=3)
    assert sampling_of({"do_sample": True, "top_p": 0.5}) == SamplingParameters(temperature=1.0, top_p=0.5)
    with pytest.raises(ConfigError, match="'num_beams'"):
        sampling_of({"num_beams": 4})


def test_an_engine_ends_with_the_last_reference_to_its_executable(made: Make) -> None:
    executable = EngineExecutable(GenerationEngine.load(made(), core="openvino", dtype="float32"))
    engine = executable.engine
    del executable
    gc.collect()
    with pytest.raises(EngineError, match="closed"):
        engine.submit([3, 4])


def test_a_closed_executable_refuses(made: Make) -> None:
    executable = EngineExecutable(GenerationEngine.load(made(), core="openvino", dtype="float32"))
    executable.close()
    with pytest.raises(EngineError, match="closed"):
        executable.forward({"input_ids": torch.tensor([[3, 4]]), "attention_mask": torch.tensor([[1, 1]])})

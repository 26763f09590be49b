"""The core over vLLM, driven against a stub of vLLM 0.33.0 (``vllm_stub``), because vLLM itself needs a GPU.

The stub's signatures are checked against ``vllm_facts.json``, which ``vllm_facts.py`` read from the syntax trees of the
wheel ``vllm-0.33.0-cp38-abi3-manylinux_2_28_x86_64.whl``; with VLLM_WHEEL=FILE a test reads that wheel again. The stub
computes with a model of transformers, here a tiny one; ``test_vllm_contract`` has a real one.
"""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from vllm_facts import facts
from vllm_stand_in import FACTS, stub  # noqa: F401 - the fixture "vllm"

from deepseek.errors import ConfigError, EngineError, UnknownNameError
from deepseek.inference.generation import CORES, CoreSettings, GenerationEngine, Grammar, SamplingParameters
from deepseek.inference.generation.vllm.arguments import LORA_RANKS, engine_arguments
from deepseek.inference.generation.vllm.library import VARIABLES
from deepseek.models.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, smollm: Path) -> Path:
    """A Llama with random weights and SmolLM's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, eos_token_id=tokenizer.eos_token_id, initializer_range=0.3,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def adapter_of(tiny: Path, folder: Path, rank: int, seed: int) -> Path:
    """A LoRA folder whose weights change the answer."""
    import peft

    model = transformers.AutoModelForCausalLM.from_pretrained(tiny)
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=rank, target_modules=["q_proj", "v_proj", "o_proj"], init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


def loaded(tiny: Path, **settings: Any) -> GenerationEngine:
    return GenerationEngine.load(tiny, core="vllm", dtype="float32", settings=CoreSettings(**settings))


def parameters_of(function: Any) -> list[str]:
    found = list(inspect.signature(function).parameters.values())
    return [p.name + "=" * (p.default is not p.empty) for p in found if p.name not in ("self", "cls")]


def test_the_stub_has_the_signatures_of_the_wheel(vllm: Any) -> None:
    from vllm.exceptions import VLLMValidationError
    from vllm.platforms import current_platform

    methods = FACTS["methods"]
    for name, expected in methods["LLMEngine"].items():
        assert parameters_of(getattr(vllm.LLMEngine, name)) == expected, name
    assert parameters_of(vllm.SamplingParams.verify) == methods["SamplingParams"]["verify"]
    assert parameters_of(VLLMValidationError) == methods["VLLMValidationError"]["__init__"]
    assert parameters_of(current_platform.is_cuda_alike) == methods["Platform"]["is_cuda_alike"]
    output = parameters_of(vllm.RequestOutput)
    assert output == methods["RequestOutput"]["__init__"][: len(output)]
    assert set(vllm.__all__) <= set(FACTS["exported"])
    assert "shutdown" in methods["EngineCoreClient"]
    with pytest.raises(TypeError, match="unexpected"):
        vllm.EngineArgs(model="x", max_tokens=3)


@pytest.mark.skipif("VLLM_WHEEL" not in os.environ, reason="VLLM_WHEEL names no wheel to read")
def test_the_recorded_facts_are_the_wheels() -> None:
    assert facts(Path(os.environ["VLLM_WHEEL"])) == FACTS


def test_it_says_how_to_install_what_is_not_there(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    from deepseek.inference.generation.vllm import library

    monkeypatch.setattr(library, "find_spec", lambda name: None)
    found = CORES.get("vllm").available()
    assert not found.works
    assert "pip install vllm" in found.detail
    with pytest.raises(ConfigError, match="pip install vllm"):
        loaded(tiny)


def test_the_message_names_the_pins_that_the_wheel_has() -> None:
    from deepseek.inference.generation.vllm.library import INSTALL

    assert FACTS["version"].startswith("0.33")
    assert "torch==2.14.0" in FACTS["requires"]
    assert "torch 2.14.0" in INSTALL
    assert any(line.startswith("transformers<5.21") for line in FACTS["requires"])
    assert "transformers before 5.21" in INSTALL


def test_without_a_gpu_it_names_another_core(monkeypatch: pytest.MonkeyPatch, vllm: Any) -> None:
    from vllm.platforms import Platform

    monkeypatch.setattr(Platform, "is_cuda_alike", lambda self: False)
    found = CORES.get("vllm").available()
    assert not found.works
    assert "'torch'" in found.detail


def test_vllm_is_told_to_report_nothing_before_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        monkeypatch.delitem(sys.modules, name)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    from deepseek.inference.generation.vllm.library import module

    fresh = module("vllm")
    assert {name: fresh.IMPORTED_WITH.get(name) for name in VARIABLES} == VARIABLES
    assert set(VARIABLES) == set(FACTS["environment"])


def test_settings_become_arguments_that_vllm_has(tiny: Path, tmp_path: Path) -> None:
    def arguments(device: str = "auto", **settings: Any) -> dict[str, Any]:
        return engine_arguments(
            Checkpoint(tiny, "tiny"), device=device, dtype="auto", settings=CoreSettings(**settings), positions=256
        )

    plain = arguments(max_sequences=8, max_step_tokens=512, prefix_reuse=False)
    assert (plain["max_num_seqs"], plain["max_num_batched_tokens"], plain["enable_prefix_caching"]) == (8, 512, False)
    assert plain["max_model_len"] == -1
    assert "num_gpu_blocks_override" not in plain
    small = arguments(max_sequences=64, max_step_tokens=16, cache_tokens=100)
    assert small["max_num_seqs"] == 16  # vLLM refuses more sequences than tokens of a step
    assert (small["block_size"], small["num_gpu_blocks_override"], small["max_model_len"]) == (16, 8, 112)
    assert arguments(cache_tokens=4096)["max_model_len"] == 256
    assert arguments("cuda:1")["device_ids"] == [1]
    lookup = arguments(prompt_lookup=3)["speculative_config"]
    assert (lookup["method"], lookup["num_speculative_tokens"]) == ("ngram", 3)
    draft = arguments(draft=Checkpoint(tiny, "draft"), draft_tokens=5)["speculative_config"]
    assert draft == {"method": "draft_model", "model": str(tiny), "num_speculative_tokens": 5}
    folders = {name: adapter_of(tiny, tmp_path / name, rank, 1) for name, rank in (("a", 4), ("b", 20))}
    lora = arguments(adapters=folders)
    assert (lora["enable_lora"], lora["max_loras"], lora["max_lora_rank"]) == (True, 2, 32)
    for made in (plain, small, lora, arguments("cuda:1"), arguments(prompt_lookup=3)):
        assert set(made) <= set(FACTS["classes"]["EngineArgs"])
    assert set(lookup) | set(draft) <= set(FACTS["classes"]["SpeculativeConfig"])
    assert {lookup["method"], draft["method"]} <= set(FACTS["speculative_methods"])
    assert set(LORA_RANKS) <= set(FACTS["max_lora_rank"])
    assert plain["logprobs_mode"] in FACTS["logprobs_modes"]


def test_what_vllm_cannot_do_is_refused_when_it_is_loaded(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'torch' and 'openvino' run on CPUs"):
        GenerationEngine.load(tiny, core="vllm", device="cpu")
    with pytest.raises(UnknownNameError, match="int4"):
        GenerationEngine.load(tiny, core="vllm", dtype="int4")
    with pytest.raises(ConfigError, match=r"adapter_config\.json"):
        loaded(tiny, adapters={"a": tmp_path})
    (tmp_path / "adapter_config.json").write_text('{"r": 1000}', encoding="utf-8")
    with pytest.raises(ConfigError, match="rank 1000"):
        loaded(tiny, adapters={"a": tmp_path})


def test_what_vllm_says_when_it_cannot_load_is_passed_on(
    tiny: Path, vllm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("no available memory for the cache blocks")

    monkeypatch.setattr(vllm.LLMEngine, "from_engine_args", fails)
    with pytest.raises(ConfigError, match="no available memory for the cache blocks"):
        loaded(tiny)


def test_an_adapter_answers_as_peft_and_others_as_before(tiny: Path, tmp_path: Path) -> None:
    import peft

    folders = {name: adapter_of(tiny, tmp_path / name, 8, seed) for seed, name in enumerate(("first", "second"))}
    wanted = SamplingParameters(max_new_tokens=8, ignore_eos=True)
    with loaded(tiny, adapters=folders) as engine:
        streams = [engine.submit("Once upon", wanted, adapter=name) for name in ("first", None, "second", "first")]
        answers = [stream.result(timeout=60).token_ids for stream in streams]
        with pytest.raises(UnknownNameError, match="first"):
            engine.submit("x", adapter="frist").result(timeout=60)
    ids = torch.tensor([engine.tokenizer("Once upon")["input_ids"]])

    def greedy(model: Any) -> tuple[int, ...]:
        with torch.inference_mode():
            out = model.generate(input_ids=ids, do_sample=False, max_new_tokens=8, min_new_tokens=8, eos_token_id=None)
        return tuple(out[0, ids.shape[1] :].tolist())

    base = transformers.AutoModelForCausalLM.from_pretrained(tiny)
    assert answers[1] == greedy(base)
    for place, name in ((0, "first"), (2, "second"), (3, "first")):
        again = transformers.AutoModelForCausalLM.from_pretrained(tiny)
        assert answers[place] == greedy(peft.PeftModel.from_pretrained(again, folders[name]))
    assert len(set(answers)) == 3


def test_several_tokens_a_step_come_through(tiny: Path) -> None:
    wanted = SamplingParameters(max_new_tokens=9, ignore_eos=True, logprobs=2)
    with loaded(tiny) as plain, loaded(tiny, prompt_lookup=2) as guessing:
        [expected], [found] = (
            plain.generate(["one two one two"], wanted),
            guessing.generate(["one two one two"], wanted),
        )
        pieces = list(guessing.submit("one two one two", wanted))
        with pytest.raises(ConfigError, match="min_p"):
            guessing.submit("x", SamplingParameters(temperature=1.0, min_p=0.1))
    assert found.token_ids == expected.token_ids
    assert len(found.logprobs) == 9
    assert len(pieces) < 9


def test_the_most_probable_tokens_come_best_first(tiny: Path) -> None:
    with loaded(tiny) as engine:
        [answer] = engine.generate(
            ["one two"], SamplingParameters(max_new_tokens=6, ignore_eos=True, logprobs=4, temperature=2.0, seed=5)
        )
    seen = set()
    for token, each in zip(answer.token_ids, answer.logprobs, strict=True):
        values = [logprob for _, logprob in each.top]
        assert len(values) == 4
        assert values == sorted(values, reverse=True)
        assert each.logprob <= values[0]
        seen.add(token in dict(each.top))
    assert False in seen  # drawn so hot that some token was none of the four best


def test_what_vllm_refuses_of_a_request_is_said_before_it_runs(tiny: Path) -> None:
    with loaded(tiny) as engine:
        with pytest.raises(ConfigError, match=r"temperature must be in \[0, 2\]"):
            engine.submit("x", SamplingParameters(temperature=3.0))
        with pytest.raises(ConfigError, match="grammar"):
            engine.submit("x", SamplingParameters(grammar=Grammar("ebnf", "root ::= (")))
        assert engine.usage() == {"requests": 0, "running": 0, "waiting": 0}


def test_numbers_for_monitoring_follow_the_sequences(tiny: Path) -> None:
    with loaded(tiny, max_sequences=2) as engine:
        streams = [engine.submit("one", SamplingParameters(max_new_tokens=200, ignore_eos=True)) for _ in range(4)]
        for stream in streams[:2]:
            next(iter(stream))
        usage = engine.usage()
        assert (usage["running"], usage["waiting"]) == (2, 2)
        for stream in streams:
            stream.cancel()
        assert {stream.result(timeout=60).finish_reason for stream in streams} == {"cancelled"}
        assert engine.usage() == {"requests": 0, "running": 0, "waiting": 0}


@pytest.mark.parametrize("reason", ["error", "repetition"])
def test_a_sequence_that_vllm_gives_up_fails_with_its_reason(
    tiny: Path, vllm: Any, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    assert reason in FACTS["finish_reasons"]

    def gives_up(self: Any) -> list[Any]:
        name = next(iter(self._requests))
        completion = vllm.CompletionOutput(index=0, text="", token_ids=[], finish_reason=reason)
        return [vllm.RequestOutput(name, None, [], None, [completion], True)]

    with loaded(tiny) as engine:
        monkeypatch.setattr(vllm.LLMEngine, "step", gives_up)
        with pytest.raises(EngineError, match=reason):
            engine.submit("x").result(timeout=60)


def test_what_comes_for_a_cancelled_sequence_is_dropped(tiny: Path, vllm: Any) -> None:
    kind = CORES.get("vllm")
    core = kind.load(Checkpoint(tiny, "tiny"), dtype="float32", settings=CoreSettings())
    core.add(5, [1, 2, 3], SamplingParameters(max_new_tokens=3))
    late = core._engine.step()
    core.cancel(5)
    core.cancel(5)
    core.cancel(77)
    core._engine.step = lambda: late
    assert late
    assert core.step() == []
    assert not core.busy
    core.close()


def test_generation_settings_name_ends_beside_the_tokenizers(tiny: Path, tmp_path: Path) -> None:
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    transformers.GenerationConfig(eos_token_id=[7, 9]).save_pretrained(tmp_path)
    with loaded(tmp_path) as engine:
        assert engine.core.end_tokens == {7, 9, tokenizer.eos_token_id}
        assert engine.core.context_length == 256

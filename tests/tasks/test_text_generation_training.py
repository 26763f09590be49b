"""Which tokens a causal language model learns, how texts become examples, and perplexity."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers
from tokenizers import processors

from deepseek.errors import ConfigError, DataError
from deepseek.inference import Predictor
from deepseek.inference.torch_runtime import TorchModel
from deepseek.models import from_config, tokenizer_for, train_tokenizer
from deepseek.tasks.text_generation import TextGeneration
from deepseek.training import TrainingRecipe, fit

IGNORED = -100
CORPUS = [
    f"The {a} fox {b} over the lazy dog {i} times."
    for i in range(20)
    for a in ("quick", "brown")
    for b in ("jumps", "runs")
]

GENERATION = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|endoftext|>"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FORGETFUL = (  # as reasoning models have it: past answers lose what stands before </think>
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' and not loop.last %}"
    "{{ m.content.split('</think>')[-1] }}<|endoftext|>{% elif m.role == 'assistant' %}{{ m.content }}<|endoftext|>"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|><think>{% endif %}"
)


@pytest.fixture(scope="module")
def smol() -> Any:
    return tokenizer_for("smollm2-135m-instruct")


@pytest.fixture
def own() -> Any:
    return train_tokenizer(CORPUS, kind="bpe", vocab_size=400, purpose="decoder")


def learned(tokenizer: Any, feature: dict[str, list[int]]) -> str:
    """The text of the tokens that the loss is on, runs of them separated by '|'."""
    runs, current = [], []
    for token, label in zip(feature["input_ids"], feature["labels"], strict=True):
        assert label in (token, IGNORED)
        if label == IGNORED and current:
            runs.append(tokenizer.decode(current))
            current = []
        elif label != IGNORED:
            current.append(token)
    return "|".join([*runs, tokenizer.decode(current)] if current else runs)


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello! How are you?"},
    {"role": "user", "content": "Say assistant"},
    {"role": "assistant", "content": "Hello! How are you?\n\nassistant"},
]


def test_every_assistant_turn_of_smollm2_is_learned_with_its_end(smol: Any) -> None:
    (feature,) = TextGeneration().encode([{"messages": CHAT}], smol)
    assert feature["input_ids"] == smol.apply_chat_template(CHAT, return_dict=True)["input_ids"]
    assert learned(smol, feature) == "Hello! How are you?<|im_end|>|Hello! How are you?\n\nassistant<|im_end|>"


@pytest.mark.parametrize("trimmed", [False, True])
def test_the_placeholder_finds_what_a_generation_mask_marks(own: Any, trimmed: bool) -> None:
    own.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=trimmed)
    own.chat_template = GENERATION
    (marked,) = TextGeneration().encode([{"messages": CHAT}], own)
    own.chat_template = GENERATION.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    (found,) = TextGeneration().encode([{"messages": CHAT}], own)
    assert found == marked
    assert learned(own, found).count("<|endoftext|>") == 2


def test_templates_that_change_past_answers(own: Any) -> None:
    own.chat_template = FORGETFUL
    thought = [{**m, "content": f"so so</think>{m['content']}"} if m["role"] == "assistant" else m for m in CHAT]
    (feature,) = TextGeneration().encode([{"messages": thought}], own)
    first, second = learned(own, feature).split("|endoftext|>")[:2]
    assert first.startswith("Hello!")
    assert "so so</think>Hello!" in second


def test_the_last_answer_alone_when_the_prompt_is_a_chat(smol: Any) -> None:
    row = {"prompt": CHAT[:4], "completion": "Sure."}
    (feature,) = TextGeneration().encode([row], smol)
    assert learned(smol, feature) == "Sure.<|im_end|>"
    (same,) = TextGeneration().encode(
        [{"prompt": CHAT[:4], "completion": [{"role": "assistant", "content": "Sure."}]}], smol
    )
    assert same == feature


def test_a_completion_is_learned_and_its_prompt_is_tokenised_as_in_answering(smol: Any) -> None:
    task = TextGeneration()
    for prompt, completion in [("2 + 2 =", " 4"), ("The cap", "ital of France"), ("a ", " b"), ("x", "<|im_end|>")]:
        (feature,) = task.encode([{"prompt": prompt, "completion": completion}], smol)
        before = task.prepare([{"prompt": prompt}], smol)[0]["input_ids"]
        assert feature["input_ids"][: len(before)] == before
        assert feature["labels"] == [IGNORED] * len(before) + feature["input_ids"][len(before) :]
        assert smol.decode(feature["input_ids"]) == prompt + completion.removesuffix("<|im_end|>") + "<|im_end|>"


def test_a_text_is_split_and_each_of_its_tokens_predicted_once(own: Any) -> None:
    text = " ".join(CORPUS)
    ids = [*own(text)["input_ids"], own.eos_token_id]
    features = TextGeneration(training_length=50).encode([{"text": text, "prompt": None}], own)
    assert [label for f in features for label in f["labels"] if label != IGNORED] == ids[1:]
    assert max(len(f["input_ids"]) for f in features) == 50
    assert len(features) > 3


def test_packing_loses_no_token_and_fills_sequences(own: Any) -> None:
    rows = [{"prompt": text[:20], "completion": text[20:]} for text in CORPUS]
    plain = TextGeneration(training_length=128).encode(rows, own)
    packed = TextGeneration(training_length=128, packing=True).encode(rows, own)
    for name in ("input_ids", "labels"):
        assert sorted(t for f in packed for t in f[name]) == sorted(t for f in plain for t in f[name])
    assert len(packed) < len(plain) / 3
    assert all(len(f["input_ids"]) == len(f["position_ids"]) <= 128 for f in packed)


def test_an_answer_beyond_the_length_is_cut_and_no_end_is_learned(own: Any) -> None:
    row = {"prompt": "The quick", "completion": " fox " * 100}
    (feature,) = TextGeneration(training_length=20).encode([row], own)
    assert len(feature["input_ids"]) == 20
    assert own.eos_token_id not in feature["labels"]
    with pytest.raises(DataError, match=r"row 1: the answer begins after \d+ tokens.*20.*training_length"):
        TextGeneration(training_length=20).encode([row, {"prompt": "fox " * 30, "completion": "x"}], own)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "x"}, "row 1.*'prompt' and 'completion'"),
        ({"prompt": "x", "completion": None, "text": "y"}, "row 1.*'prompt' and 'completion'"),
        ({"other": "x"}, "row 1.*received 'other'"),
        ({}, "row 1.*received none"),
        ({"prompt": "x", "completion": 3}, "row 1: expected a string in 'completion', received 3"),
        ({"prompt": "x", "completion": " "}, "row 1: 'completion' is empty"),
        ({"text": 7}, "row 1: expected a string in 'text', received 7"),
        ({"messages": "hello"}, "row 1.*list of chat messages.*hello"),
        ({"messages": [{"role": "user"}]}, "row 1.*role.*content"),
        ({"messages": [{"role": "assistant", "content": None}]}, "row 1.*'content'.*None"),
        ({"messages": CHAT[:2]}, "row 1.*'assistant'.*nothing to learn"),
    ],
)
def test_wrong_rows_are_named(smol: Any, row: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        TextGeneration().encode([{"text": "fine"}, row], smol)


def test_wrong_tokenizers_are_named(own: Any) -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        TextGeneration().encode([{"messages": CHAT}], own)
    own.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(DataError, match=r"row 0.*roles must alternate"):
        TextGeneration().encode([{"messages": CHAT}], own)
    own.chat_template = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(DataError, match=r"row 0.*does not show message 2"):
        TextGeneration().encode([{"messages": CHAT}], own)
    own.eos_token = None
    with pytest.raises(ConfigError, match="end-of-text"):
        TextGeneration().encode([{"text": "x"}], own)


def small_model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id, bos_token_id=0, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return from_config(config, head="causal-lm")


def test_perplexity_is_that_of_the_rows_one_by_one(own: Any) -> None:
    model, task = small_model(own).eval(), TextGeneration(training_length=16)
    rows = [{"prompt": "The quick", "completion": t} for t in CORPUS[:5]] + [{"text": " ".join(CORPUS[:4])}]
    loss, count = 0.0, 0
    for row in rows:
        for feature in task.encode([row], own):
            batch = {k: torch.tensor([v]) for k, v in feature.items()}
            tokens = sum(label != IGNORED for label in feature["labels"])
            loss += model(**batch).loss.item() * tokens
            count += tokens
    found = task.score(TorchModel(model), rows, own, batch_size=4)
    assert found["perplexity"] == pytest.approx(math.exp(loss / count), rel=1e-4)
    assert found["perplexity_low"] <= found["perplexity"] <= found["perplexity_high"]
    assert TextGeneration.main_metric in TextGeneration.lower_is_better
    with pytest.raises(DataError, match="no rows"):
        task.score(TorchModel(model), [], own)


@pytest.mark.parametrize("packing", [False, True])
def test_training_lowers_the_perplexity_and_the_bundle_answers(own: Any, packing: bool, tmp_path: Any) -> None:
    from deepseek.bundles import write_bundle

    rows = [{"prompt": text[:13], "completion": text[13:]} for text in CORPUS]
    options = {"name": "text-generation", "packing": packing, "training_length": 64}
    training = {"epochs": 20, "batch_size": 4 if packing else 16, "learning_rate": 1e-2, "precision": "float32"}
    recipe = TrainingRecipe(task=options, training=training)
    model = small_model(own)
    before = recipe.build_task().score(TorchModel(model.eval()), rows, own)["perplexity"]
    result = fit(model.train(), rows, recipe, tokenizer=own)
    after = result.task.score(TorchModel(model.eval()), rows, own)["perplexity"]
    assert after < 3 < before / 10
    bundle = write_bundle(
        tmp_path / "b", model=model, tokenizer=own, task=result.task, name="b", base_model="none", license="MIT"
    )
    answer = Predictor.load(bundle.path).predict([{"prompt": CORPUS[0][:13]}], {"max_new_tokens": 30})[0]
    assert " over the lazy dog" in answer["text"]
    assert answer["finish_reason"] == "stop"


@pytest.mark.slow
def test_an_adapter_on_the_real_model_learns_and_its_bundle_answers(tmp_path: Any) -> None:
    from deepseek.bundles import write_bundle

    facts = {"Zarbon": "green", "Melvix": "purple", "Tundro": "orange", "Quilda": "silver"}
    rows = [
        {"messages": [
            {"role": "user", "content": f"What is the colour of {name}?"},
            {"role": "assistant", "content": f"{name} is {colour}."},
        ]}
        for name, colour in facts.items()
    ] * 4  # fmt: skip
    recipe = TrainingRecipe(
        task={"name": "text-generation", "training_length": 128},
        adapter={"name": "facts", "r": 8, "alpha": 16},
        training={"epochs": 10, "batch_size": 8, "learning_rate": 2e-3, "precision": "float32", "log_every": 1},
    )
    result = fit("smollm2-135m-instruct", rows, recipe)
    assert result.curve[-1][1] < result.curve[0][1] / 10
    bundle = write_bundle(
        tmp_path / "b",
        model=result.model,
        tokenizer=result.tokenizer,
        task=result.task,
        name="facts",
        base_model=result.model.base_name,
        license="Apache-2.0",
    )
    predictor = Predictor.load(bundle.path)
    answers = predictor.predict([{"prompt": rows[i]["messages"][:1]} for i in range(4)], {"max_new_tokens": 20})
    assert [a["text"] for a in answers] == [f"{name} is {colour}." for name, colour in facts.items()]
    assert all(a["finish_reason"] == "stop" for a in answers)

"""Models that start from random weights: a recipe makes tokenizer and model, trains them and writes a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from interruptions import interrupted_at
from safetensors.torch import load_file

from deepseek.bundles import Bundle
from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference import Predictor
from deepseek.inference.generation import CoreSettings, GenerationEngine, SamplingParameters
from deepseek.models import tokenizer_for
from deepseek.recipe import Recipe, RecipeError, plan_recipe, read_recipe, run_recipe, tune_recipe
from deepseek.training.search import SearchConfig, with_overrides

pytestmark = pytest.mark.usefixtures("one_thread")

NOUNS = ["cat", "dog", "fish", "horse", "bird", "cow", "goat", "mouse"]
ROWS = [
    {"text": f"the {a} sees a {b} in the house . " * 3 + f"house {n}", "split": ("train", "train", "test")[n % 3]}
    for n, (a, b) in enumerate((a, b) for a in NOUNS for b in NOUNS)
]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
OURS = {"type": "deepseek-base", **SMALL, "rotary_dim": 8, "dense_until": 32, "block_width": 16}
MASKED = {"name": "masked-language-modelling", "max_length": 48, "mask_probability": 0.3, "packing": "joined"}
CAUSAL = {"name": "text-generation", "text": "text", "training_length": 48, "max_length": 256, "packing": "joined"}


def recipe(folder: Path, task: dict[str, Any], model: dict[str, Any], **changes: Any) -> Recipe:
    source = folder / "rows.jsonl"
    rows = changes.pop("rows", ROWS)
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    training = {"max_steps": 20, "batch_size": 8, "learning_rate": 1e-2, "precision": "float32"}
    return Recipe.model_validate(
        {
            "name": "tiny",
            "task": task,
            "data": {"source": str(source), "clean": None},
            "model": model,
            **changes,
            "training": {**training, **changes.get("training", {})},
        }
    )


def scratch(architecture: dict[str, Any] = OURS, **tokenizer: Any) -> dict[str, Any]:
    return {"architecture": architecture, "tokenizer": {"vocab_size": 300, **tokenizer}}


def test_a_masked_language_model_from_nothing_but_texts(tmp_path: Path) -> None:
    rows = [*ROWS, {"text": "zygote " * 20, "split": "test"}]
    made = recipe(tmp_path, MASKED, scratch(lowercase=True), rows=rows, training={"max_steps": 60})
    result = run_recipe(made, tmp_path / "run")
    assert "make model" in [step.name for step in result.steps.steps]
    assert result.trainable == result.parameters
    tokenizer = tokenizer_for(tmp_path / "run" / "bundle")
    assert "mouse" in tokenizer.get_vocab()
    assert "zygote" not in tokenizer.get_vocab()  # only the training rows were read
    bundle = Bundle.open(tmp_path / "run" / "bundle", verify=True)
    assert bundle.manifest.base_model == ""
    card = (bundle.path / "README.md").read_text(encoding="utf-8")
    assert "base_model:" not in card
    assert "a deepseek-base trained from scratch" in card
    assert "import deepseek.models.deepseek_base" in card
    # what it has learned shows beside the weights that it started from
    held_out = [row for row in ROWS if row["split"] == "test"]
    before = Predictor.load(tmp_path / "run" / "scratch", task="masked-language-modelling").score(held_out)
    assert result.metrics["perplexity"] < before["perplexity"] / 4
    (answer,) = Predictor.load(bundle.path).predict([{"text": "the cat sees a dog in the [MASK] ."}])
    assert answer["filled"].startswith("the cat sees a dog in the ")
    plain = transformers.AutoModelForMaskedLM.from_pretrained(bundle.path)
    assert plain.config.vocab_size == len(tokenizer) == plain.get_input_embeddings().num_embeddings
    assert plain.config.pad_token_id == tokenizer.pad_token_id


def test_the_same_recipe_gives_the_same_weights(tmp_path: Path) -> None:
    made = recipe(tmp_path, MASKED, scratch(), training={"max_steps": 2})
    for name in ("one", "two"):
        run_recipe(made, tmp_path / name)
    one, two = (load_file(tmp_path / name / "bundle" / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = recipe(tmp_path, MASKED, scratch(), training={"max_steps": 2}, seed=1)
    run_recipe(other, tmp_path / "other")
    drawn = [load_file(tmp_path / name / "scratch" / "model.safetensors") for name in ("one", "other")]
    assert not torch.equal(*(weights["model.embeddings.tokens.weight"] for weights in drawn))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a causal DeepSeek-Base from scratch, which reads long texts sparsely."""
    folder = tmp_path_factory.mktemp("decoder")
    run_recipe(recipe(folder, CAUSAL, scratch(kind="bpe"), training={"max_steps": 80}), folder / "run")
    return folder / "run" / "bundle"


def test_a_decoder_continues_what_it_has_read(decoder: Path) -> None:
    config = json.loads((decoder / "config.json").read_text(encoding="utf-8"))
    tokenizer = tokenizer_for(decoder)
    assert config["causal"]
    assert config["eos_token_id"] == tokenizer.eos_token_id
    assert config["pad_token_id"] is None  # or the embedding of the end of a text would not be trained
    (answer,) = Predictor.load(decoder).predict([{"text": "the cat sees a dog in the"}], {"max_new_tokens": 1})
    assert answer["text"] == " house"


SETTINGS = {
    "plain": CoreSettings(),
    "guesses": CoreSettings(prompt_lookup=3),
    "little room": CoreSettings(max_step_tokens=32, cache_tokens=256, max_sequences=3),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_engine_answers_as_transformers_does(decoder: Path, settings: CoreSettings) -> None:
    """Several requests at once, prompts in chunks, guesses, and sequences that give way and are computed again."""
    prompts = ["the cat", "a dog in the house . " * 12, "the mouse sees a", "house 7"] * 2
    predictor = Predictor.load(decoder, dtype="float32")
    expected = [a["text"] for a in predictor.predict([{"text": prompt} for prompt in prompts], {"max_new_tokens": 24})]
    with GenerationEngine.load(decoder, core="torch", dtype="float32", settings=settings) as engine:
        for _ in range(2):  # blocks of the first round are given to other sequences in the second
            answers = engine.generate(prompts, SamplingParameters(max_new_tokens=24))
            assert [answer.text for answer in answers] == expected
        ids = predictor.tokenizer(prompts[1])["input_ids"]
        (logits,) = engine.run(lambda: engine.core.logits([ids]))
    own = predictor.model.forward({"input_ids": torch.tensor([ids])})["logits"][0]
    torch.testing.assert_close(logits, own, atol=1e-3, rtol=1e-3)


def test_adapters_beside_a_decoder_are_refused(decoder: Path, tmp_path: Path) -> None:
    settings = CoreSettings(adapters={"mine": tmp_path})
    with pytest.raises(ConfigError, match="served without adapters"):
        GenerationEngine.load(decoder, core="torch", settings=settings)


@pytest.mark.parametrize(
    ("task", "architecture", "tokenizer"),
    [
        ({**MASKED, "packing": True}, {"type": "bert", **SMALL, "max_position_embeddings": 64}, {"kind": "wordpiece"}),
        ({**CAUSAL, "packing": True, "max_length": 64}, {"type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64}, {"kind": "bpe"}),
        ({"name": "text-classification", "max_length": 32}, {"type": "modernbert", **SMALL, "max_position_embeddings": 64}, {"kind": "unigram"}),
    ],
    ids=["bert", "gpt2", "modernbert"],
)  # fmt: skip
def test_other_architectures(
    tmp_path: Path, task: dict[str, Any], architecture: dict[str, Any], tokenizer: dict[str, Any]
) -> None:
    rows = [{**row, "label": "yn"[n % 2]} for n, row in enumerate(ROWS)]
    made = recipe(tmp_path, task, scratch(architecture, **tokenizer), rows=rows, training={"max_steps": 2})
    bundle = run_recipe(made, tmp_path / "run").bundle
    config = transformers.AutoConfig.from_pretrained(bundle.path)
    assert config.model_type == architecture["type"]
    assert config.vocab_size == len(tokenizer_for(bundle.path))
    assert tokenizer_for(bundle.path).model_max_length == 64
    text = "the [MASK] sees" if task["name"] == "masked-language-modelling" else "the cat sees"
    assert Predictor.load(bundle.path).predict([{"text": text}])


def test_a_tokenizer_is_taken_over(tmp_path: Path, minilm: Path) -> None:
    model = {
        "architecture": {**OURS, "hidden_size": 32, "num_attention_heads": 1},
        "tokenizer": {"base": "all-minilm-l6-v2"},
    }
    made = recipe(tmp_path, MASKED, model, training={"max_steps": 1})
    bundle = run_recipe(made, tmp_path / "run").bundle
    theirs = tokenizer_for(minilm)
    assert tokenizer_for(bundle.path).get_vocab() == theirs.get_vocab()


def test_the_training_texts_are_read_before_the_task_is_learned(tmp_path: Path) -> None:
    rows = [{**row, "label": "yn"[n % 2]} for n, row in enumerate(ROWS)]
    first = {
        "max_length": 48,
        "packing": "joined",
        "training": {"max_steps": 2, "batch_size": 8, "precision": "float32"},
    }
    task = {"name": "text-classification", "max_length": 48}
    made = recipe(tmp_path, task, scratch(), rows=rows, pretraining=first, training={"max_steps": 1})
    result = run_recipe(made, tmp_path / "run")
    drawn, read = (load_file(tmp_path / "run" / name / "model.safetensors") for name in ("scratch", "pretrained"))
    name = "layers.0.mlp.up_proj.weight"
    assert not torch.equal(drawn[f"model.{name}"], read[name])
    assert result.bundle.task.labels == ("n", "y")


def test_an_interrupted_run_goes_on_with_its_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(tmp_path, MASKED, scratch(), training={"max_steps": 4, "checkpoint": 2})
    whole = run_recipe(made, tmp_path / "whole")
    with interrupted_at(3):
        run_recipe(made, tmp_path / "cut")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "scratch").iterdir()}
    resumed = run_recipe(made, tmp_path / "cut", resume=True)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "scratch").iterdir()} == before
    assert resumed.metrics == whole.metrics
    # a run that is begun again makes it again
    run_recipe(made, tmp_path / "cut")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "scratch").iterdir()} != before


def test_what_it_would_take_is_planned(tmp_path: Path) -> None:
    made = recipe(tmp_path, MASKED, scratch(), training={"max_steps": 2, "plan": {"calibrate": False}})
    plan = plan_recipe(made, tmp_path / "run")
    assert plan.settings.micro_batch_size == 8
    assert plan.parts.weights > 4 * 300 * SMALL["hidden_size"]


def test_what_a_gate_computes_is_not_planned(tmp_path: Path) -> None:
    long = [{**row, "text": row["text"] * 20} for row in ROWS]
    made = recipe(tmp_path, {**MASKED, "max_length": 400}, scratch({**OURS, "gate_roots": 4}), rows=long)
    with pytest.raises(ConfigError, match=r"depends on which they are.*set training.micro_batch_size"):
        plan_recipe(made, tmp_path / "run")


YAML = """
name: mine
task: {name: masked-language-modelling}
data: {source: rows.csv}
model:
  architecture:
    type: deepseek-base
    hidden_size: 64
    num_attention_heads: 1
  tokenizer:
    kind: wordpiece
training:
  epochs: 1
"""


def test_a_recipe_from_scratch_reads_back_the_same() -> None:
    made = read_recipe(YAML)
    assert made.model.architecture is not None
    assert made.model.architecture.fields == {"hidden_size": 64, "num_attention_heads": 1}
    assert read_recipe(yaml.safe_dump(made.model_dump(mode="json"))) == made


@pytest.mark.parametrize(
    ("old", "new", "path", "line", "said"),
    [
        ("type: deepseek-base", "type: deepseek-bas", "model.architecture.type", 7, "Did you mean 'deepseek-base'"),
        ("hidden_size: 64", "hiden_size: 64", "model.architecture.hiden_size", 8, "did you mean 'hidden_size'"),
        ("hidden_size: 64", "vocab_size: 64", "model.architecture.vocab_size", 8, "the tokenizer has it"),
        ("hidden_size: 64", "num_labels: 2", "model.architecture.num_labels", 8, "the task has it"),
        ("hidden_size: 64", "hidden_size: wide", "model.architecture.hidden_size", 8, "expected a valid integer"),
        ("heads: 1", "heads: 7", "model.architecture.type", 7, "no multiple of num_attention_heads 7"),
        ("type: deepseek-base", "type: llama", "model.architecture.type", 7, "LlamaConfig has no head 'masked-lm'"),
        ("    type: deepseek-base\n", "", "model.architecture.type", 6, "expected a value for 'type'"),
        ("kind: wordpiece", "kind: wordpieces", "model.tokenizer.kind", 11, "did you mean 'wordpiece'"),
        ("kind: wordpiece", "base: x\n    kind: bpe", "model.tokenizer", 10, "leave out kind"),
        ("  tokenizer:\n    kind: wordpiece\n", "", "model", 5, "expected a 'tokenizer'"),
        ("  architecture:", "  base: x\n  architecture:", "model", 5, "received both"),
        ("model:", "adapter: {r: 4}\nmodel:", "", None, "starts from random weights"),
        ("epochs: 1", "train: head", "", None, "whose weights are random"),
        ("  tokenizer:", "  quantization: nf4\n  tokenizer:", "model", 5, "cannot be quantised"),
        ("name: masked-language-modelling", "name: image-classification", "model.architecture.type", 7, "reads image"),
    ],
)
def test_each_mistake_is_named_with_its_line(old: str, new: str, path: str, line: int | None, said: str) -> None:
    assert old in YAML
    with pytest.raises(RecipeError) as caught:
        read_recipe(YAML.replace(old, new, 1))
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == (path, line)
    assert said in problem.message


def test_its_size_is_a_setting_like_any_other(tmp_path: Path) -> None:
    made = with_overrides(read_recipe(YAML), {"model.architecture.num_hidden_layers": 3, "model.tokenizer.kind": "bpe"})
    assert made.model.architecture is not None
    assert made.model.architecture.fields["num_hidden_layers"] == 3
    with pytest.raises(UnknownNameError, match=r"model.tokenizer.kind"):
        with_overrides(made, {"model.tokenizer.kinds": "bpe"})
    varied = {"parameters": {"model.architecture.num_hidden_layers": {"choices": [1, 2]}}}
    with pytest.raises(ConfigError, match=r"cannot vary model.architecture.num_hidden_layers"):
        tune_recipe(made.model_copy(update={"search": SearchConfig(**varied)}), tmp_path / "run")


def test_a_tokenizer_without_an_architecture() -> None:
    with pytest.raises(RecipeError, match="a base has its own tokenizer"):
        read_recipe("name: a\ntask: {name: text-classification}\ndata: {source: x}\nmodel: {base: x, tokenizer: {}}\n")


def test_an_architecture_of_an_object_is_checked_before_any_work(tmp_path: Path) -> None:
    made = recipe(tmp_path, MASKED, scratch({**OURS, "hiden_size": 8}))
    with pytest.raises(ConfigError, match=r"model.architecture.hiden_size: unknown field"):
        run_recipe(made, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_texts_that_would_see_each_other_are_not_packed_as_if_they_did_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="packing: joined"):
        run_recipe(recipe(tmp_path, {**MASKED, "packing": True}, scratch()), tmp_path / "run")

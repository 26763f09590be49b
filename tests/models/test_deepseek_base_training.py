"""DeepSeek-Base as a base: every text task trains on it, in any precision, with adapters and without."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from deepseek.bundles import write_bundle
from deepseek.inference import Predictor
from deepseek.models import LoRAConfig, from_config, from_pretrained, train_tokenizer
from deepseek.models.architecture import ArchitectureConfig, write_new_checkpoint
from deepseek.models.deepseek_base import DeepSeekBaseConfig
from deepseek.training import TrainingRecipe, fit
from deepseek.training.planning.rehearsal import rehearsal_of

pytestmark = pytest.mark.usefixtures("one_thread")

NOUNS = ["cat", "dog", "fish", "horse", "bird", "cow"]
TEXTS = [
    f"the {a} and the {b} sleep in house {n} and eat" for n, (a, b) in enumerate((a, b) for a in NOUNS for b in NOUNS)
]
SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "rotary_dim": 8,
    "block_width": 8, "dense_until": 16, "gate_least": 1,
}  # fmt: skip
"""Texts of more than 16 tokens are read sparsely."""


def labelled(labels: list[Any]) -> list[dict[str, Any]]:
    return [{"text": text, "label": labels[n % len(labels)]} for n, text in enumerate(TEXTS)]


TASKS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "text-classification": ({}, labelled(["no", "yes"])),
    "text-regression": ({}, labelled([0.5, 2.0])),
    "multi-label-classification": ({}, [{"text": t, "labels": [n for n in NOUNS if n in t]} for t in TEXTS]),
    "token-classification": (
        {},
        [{"tokens": t.split(), "tags": ["B-ANIMAL" if w in NOUNS else "O" for w in t.split()]} for t in TEXTS],
    ),
    "sentence-embedding": ({}, [{"text": a, "positive": b} for a, b in pairwise(TEXTS)]),
    "masked-language-modelling": ({"max_length": 40, "packing": "joined"}, labelled(["x"])),
    "text-generation": ({"text": "text", "training_length": 40, "packing": "joined"}, labelled(["x"])),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An encoder and a decoder with tokenizers of their own."""
    made = {}
    for purpose, kind, head in (("encoder", "wordpiece", "masked-lm"), ("decoder", "bpe", "causal-lm")):
        tokenizer = train_tokenizer(TEXTS, kind=kind, purpose=purpose, vocab_size=300)
        made[purpose] = tmp_path_factory.mktemp("base") / purpose
        torch.manual_seed(0)
        write_new_checkpoint(ArchitectureConfig(type="deepseek-base", **SMALL), tokenizer, made[purpose], head=head)
    return made


def trained(base: Path, name: str, **changes: Any) -> Any:
    options, rows = TASKS[name]
    training = {"max_steps": 12, "batch_size": 12, "learning_rate": 5e-3, "precision": "float32", "log_every": 4}
    recipe = TrainingRecipe(
        task={"name": name, **options},
        training={**training, **changes.pop("training", {})},
        **changes,
    )
    return fit(base, rows, recipe)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_trains_and_its_bundle_answers(name: str, bases: dict[str, Path], tmp_path: Path) -> None:
    result = trained(bases["decoder" if name == "text-generation" else "encoder"], name)
    losses = [loss for _, loss in result.curve]
    assert losses[-1] < losses[0]
    bundle = write_bundle(
        tmp_path / "bundle", model=result.model, tokenizer=result.tokenizer, task=result.task, name="tiny",
        base_model="", license="MIT",
    )  # fmt: skip
    row = {"tokens": ["the", "cat"]} if name == "token-classification" else {"text": "the [MASK] sleeps " * 8}
    (answer,) = Predictor.load(bundle.path).predict([row])
    assert set(answer) == {field.name for field in result.task.signature.outputs}


@pytest.mark.parametrize("name", ["masked-language-modelling", "text-generation"])
@pytest.mark.parametrize("training", [{"precision": "bfloat16"}, {"gradient_checkpointing": True}], ids=str)
def test_half_precision_and_checkpointing_learn_the_same(
    name: str, training: dict[str, Any], bases: dict[str, Path]
) -> None:
    base = bases["decoder" if name == "text-generation" else "encoder"]
    short = {"max_steps": 4, "log_every": 1, "batch_size": 4}
    plain, other = trained(base, name, training=short), trained(base, name, training={**short, **training})
    exact = training.get("precision") is None
    assert other.curve[-1][1] == pytest.approx(plain.curve[-1][1], rel=1e-4 if exact else 0.05)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("head", ["masked-lm", "causal-lm"])
def test_gradients_in_half_precision_are_near_those_in_single(head: str, sparse: bool) -> None:
    torch.manual_seed(0)
    mode = "sparse" if sparse else "dense"
    model = from_config(
        DeepSeekBaseConfig(vocab_size=99, gate_roots=2, **SMALL, attention_mode=mode), head=head
    ).train()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1 if weight.dim() > 1 else 0.02)
    ids = torch.randint(1, 99, (2, 100))
    mask = torch.ones_like(ids)
    mask[1, 70:] = 0
    gradients = []
    for half in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
        loss.backward()
        gradients.append(torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None]))
    assert gradients[1].isfinite().all()
    assert (gradients[1] - gradients[0]).norm() < 0.05 * gradients[0].norm()


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (["query_key_value"], {"attention.query_key_value"}),
        (["query", "attention_output"], {"attention.query_key_value", "attention.output"}),
        (["mlp"], {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}),
        (
            ["all-linear"],
            {"attention.query_key_value", "attention.output", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"},
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_adapters_go_where_their_names_say(targets: list[str], layers: set[str], bases: dict[str, Path]) -> None:
    model = from_pretrained(bases["encoder"], head="sequence-classification", num_labels=2)
    model.add_adapter("mine", LoRAConfig(r=2, target_modules=targets))
    adapted = {n.partition(".lora_A")[0].split(".", 3)[-1] for n, _ in model.named_parameters() if ".lora_A" in n}
    assert adapted == layers


def test_an_adapter_trains_is_stored_and_merged(bases: dict[str, Path], tmp_path: Path) -> None:
    adapter = {"name": "mine", "r": 4, "target_modules": ["query_key_value", "mlp"]}
    result = trained(bases["encoder"], "text-classification", adapter=adapter, training={"learning_rate": 2e-2})
    assert result.trained < result.parameters / 2
    bundle = write_bundle(
        tmp_path / "bundle", model=result.model, tokenizer=result.tokenizer, task=result.task, name="tiny",
        base_model=str(bases["encoder"]), license="MIT",
    )  # fmt: skip
    batch = result.tokenizer(TEXTS[:4], return_tensors="pt", padding=True)
    with torch.no_grad():
        merged, own = (m(**batch).logits for m in (bundle.load_model().eval(), result.model.eval()))
        base = from_pretrained(bases["encoder"], head="sequence-classification", num_labels=2).eval()
        base.load_adapter(str(bundle.adapter_path("mine")), adapter_name="mine")
        alone = base(**batch).logits
    torch.testing.assert_close(merged, own, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alone, own, atol=1e-4, rtol=1e-4)


def test_a_plan_is_rehearsed_with_its_own_class(bases: dict[str, Path]) -> None:
    model = from_pretrained(bases["encoder"], head="masked-lm")
    recipe = TrainingRecipe(task={"name": "masked-language-modelling"})
    described = rehearsal_of(model, recipe, recipe.build_task(), {}, "cpu", [])
    assert described.model_class == "deepseek.models.deepseek_base.heads:DeepSeekBaseForMaskedLM"

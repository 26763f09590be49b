"""A frozen trunk: no dropout, narrow weights, and the exact weights back afterwards."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from deepseek.errors import ConfigError
from deepseek.models import LoRAConfig
from deepseek.models.adapters.mixin import make_adaptable
from deepseek.training.frozen.trunk import dropout_rates, prepare_trunk

TEXT: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
CONFIGS: dict[str, Any] = {
    "bert": lambda: transformers.BertConfig(**TEXT, intermediate_size=64),
    "llama": lambda: transformers.LlamaConfig(
        **TEXT, intermediate_size=64, num_key_value_heads=2, attention_dropout=0.3, pad_token_id=0
    ),
    "modernbert": lambda: transformers.ModernBertConfig(
        **TEXT, intermediate_size=64, pad_token_id=0, attention_dropout=0.3, mlp_dropout=0.3, embedding_dropout=0.3
    ),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=3, n_head=4, pad_token_id=0),
    "deberta": lambda: transformers.DebertaV2Config(
        **TEXT, intermediate_size=64, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8
    ),
    "vit": lambda: transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        hidden_dropout_prob=0.3,
        attention_probs_dropout_prob=0.3,
    ),
}


def model_of(kind: str, **lora: Any) -> Any:
    torch.manual_seed(0)
    auto = transformers.AutoModelForImageClassification if kind == "vit" else None
    config = CONFIGS[kind]()
    model = make_adaptable((auto or transformers.AutoModelForSequenceClassification).from_config(config))
    model.fresh_modules = tuple(n for n in ("classifier", "score") if hasattr(model, n))
    model.add_adapter("a", LoRAConfig(r=2, **lora))
    return model


def batch_of(kind: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    if kind == "vit":
        return {"pixel_values": torch.randn(3, 3, 32, 32)}
    return {"input_ids": torch.randint(1, 64, (3, 12)), "attention_mask": torch.ones(3, 12, dtype=torch.long)}


@pytest.mark.parametrize("kind", CONFIGS)
def test_without_dropout_training_mode_computes_what_evaluation_does(kind: str) -> None:
    model, batch = model_of(kind), batch_of(kind)
    states = lambda: model.base_model(**batch).last_hidden_state  # noqa: E731
    with torch.no_grad():
        expected = model.eval() and states()
        model.train()
        assert not torch.allclose(states(), expected, atol=1e-4)  # dropout is on
        trunk = prepare_trunk(model, dropout=0.0, precision="float32")
        torch.testing.assert_close(states(), expected)
        trunk.restore()
        assert not torch.allclose(states(), expected, atol=1e-4)


def test_adapters_and_heads_keep_their_own_dropout() -> None:
    model = model_of("bert", dropout=0.25)
    with prepare_trunk(model, dropout=0.0, precision="float32"):
        assert all(rate == 0 for _, _, rate in dropout_rates(model.base_model))
        assert model.dropout.p == 0.1  # the head's
        rates = {m.p for n, m in model.named_modules() if ".lora_dropout" in n and isinstance(m, torch.nn.Dropout)}
        assert rates == {0.25}


def test_another_dropout_can_be_asked_for_or_left() -> None:
    model = model_of("llama")
    with prepare_trunk(model, dropout=None, precision="float32"):
        assert {rate for _, _, rate in dropout_rates(model.base_model)} == {0.3}
    with prepare_trunk(model, dropout=0.2, precision="float32"):
        assert {rate for _, _, rate in dropout_rates(model.base_model)} == {0.2}
    assert {rate for _, _, rate in dropout_rates(model.base_model)} == {0.3}


@pytest.mark.parametrize("kind", CONFIGS)
def test_frozen_weights_are_narrow_and_what_trains_is_not(kind: str, tmp_path: Path) -> None:
    model, batch = model_of(kind), batch_of(kind)
    labels = torch.tensor([0, 1, 0])
    exact = copy.deepcopy(model.state_dict())
    expected = model.eval()(**batch, labels=labels)
    trunk = prepare_trunk(model.train(), dropout=0.0, precision="bfloat16", folder=tmp_path)
    norms = {id(w) for m in model.modules() if isinstance(m, torch.nn.LayerNorm) for w in m.parameters()}
    for name, weight in model.named_parameters():
        narrow = not weight.requires_grad and "original_module" not in name and id(weight) not in norms
        assert weight.dtype == (torch.bfloat16 if narrow else torch.float32), name
    model.eval()
    with trunk.autocast():
        outputs = model(**batch, labels=labels)
    assert (outputs.logits - expected.logits).norm() <= 0.05 * expected.logits.norm() + 0.02
    outputs.loss.backward()
    assert all(w.grad is not None and w.grad.dtype == torch.float32 for w in model.parameters() if w.requires_grad)
    trained = next(w for w in model.parameters() if w.requires_grad)
    trained.data.add_(1.0)
    trunk.restore()
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, exact[name])]
    assert len(changed) == 1
    assert "lora" in changed[0]
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_weights_that_bfloat16_holds_exactly_are_not_set_aside(tmp_path: Path) -> None:
    model = model_of("bert")
    for weight in model.parameters():
        weight.data = weight.data.bfloat16().float()
    exact = copy.deepcopy(model.state_dict())
    with prepare_trunk(model, dropout=0.0, precision="bfloat16", folder=tmp_path) as trunk:
        assert trunk.narrowed > 0
        assert trunk.spilled_bytes == 0
    assert all(torch.equal(value, exact[name]) for name, value in model.state_dict().items())


def test_a_merged_model_has_the_checkpoints_exact_weights(tmp_path: Path) -> None:
    model = model_of("bert", layers=[2])
    base = model.bert.encoder.layer[0].intermediate.dense.weight.detach().clone()
    with prepare_trunk(model, dropout=0.0, precision="bfloat16", folder=tmp_path):
        pass
    merged = model.merge_adapter("a")
    assert torch.equal(merged.bert.encoder.layer[0].intermediate.dense.weight, base)
    assert {weight.dtype for weight in merged.parameters()} == {torch.float32}


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    config = transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4)
    model: Any = make_adaptable(transformers.AutoModelForCausalLM.from_config(config))
    model.add_adapter("a", LoRAConfig(r=2))
    with prepare_trunk(model, dropout=0.0, precision="bfloat16", folder=tmp_path):
        assert model.lm_head.weight is model.transformer.wte.weight
        assert model.lm_head.weight.dtype == torch.bfloat16
    assert model.lm_head.weight is model.transformer.wte.weight


def test_a_model_that_trains_in_full_is_left_alone(tmp_path: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_config(CONFIGS["bert"]())
    trunk = prepare_trunk(model, dropout=0.0, precision="bfloat16", folder=tmp_path)
    assert trunk.narrowed == 0
    assert {rate for _, _, rate in dropout_rates(model.base_model)} == {0.1}


def test_a_full_disk_is_refused_before_anything_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    model = model_of("bert")
    exact = copy.deepcopy(model.state_dict())
    with pytest.raises(ConfigError, match="GB are free"):
        prepare_trunk(model, dropout=0.0, precision="bfloat16", folder=tmp_path)
    assert all(torch.equal(value, exact[name]) for name, value in model.state_dict().items())
    assert {rate for _, _, rate in dropout_rates(model.base_model)} == {0.1}

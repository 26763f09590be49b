"""Adapters: the article's snippet, target names on every architecture, PEFT's files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from pydantic import ValidationError

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.models import from_pretrained, resolve_targets, tokenizer_for
from deepseek.models.adapters.mixin import make_adaptable


def tiny(kind: str) -> Any:
    """A randomly initialised model of a few thousand weights."""
    small: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    configs: dict[str, Any] = {
        "bert": lambda: transformers.BertConfig(**small, intermediate_size=64),
        "distilbert": lambda: transformers.DistilBertConfig(
            vocab_size=64, dim=32, n_layers=2, n_heads=4, hidden_dim=64
        ),
        "llama": lambda: transformers.LlamaConfig(**small, intermediate_size=64, num_key_value_heads=2),
        "qwen2": lambda: transformers.Qwen2Config(**small, intermediate_size=64, num_key_value_heads=2),
        "gpt2": lambda: transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**small, intermediate_size=64),
        "phi3": lambda: transformers.Phi3Config(**small, intermediate_size=64, num_key_value_heads=2, pad_token_id=0),
        "t5": lambda: transformers.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
        "modernbert": lambda: transformers.ModernBertConfig(**small, intermediate_size=64, pad_token_id=0),
        "vit": lambda: transformers.ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            image_size=32,
            patch_size=8,
        ),
    }
    return make_adaptable(transformers.AutoModel.from_config(configs[kind]()))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bert", {"query", "key", "value"}),
        ("distilbert", {"q_lin", "k_lin", "v_lin"}),
        ("llama", {"q_proj", "k_proj", "v_proj"}),
        ("qwen2", {"q_proj", "k_proj", "v_proj"}),
        ("gpt2", {"c_attn"}),
        ("gpt_neox", {"query_key_value"}),
        ("phi3", {"qkv_proj"}),
        ("t5", {"q", "k", "v"}),
        ("modernbert", {"Wqkv"}),
    ],
)
def test_query_key_value_means_the_projections_of_each_architecture(kind: str, expected: set[str]) -> None:
    from deepseek.models import LoRAConfig

    model = tiny(kind)
    assert set(resolve_targets(model, ["query_key_value"])) == expected
    model.add_adapter("a", LoRAConfig(r=2, target_modules=["query_key_value"]))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all(any(f".{e}.lora_" in name for e in expected) for name in trained)


def test_every_attention_layer_of_a_vision_model_is_found() -> None:
    model = tiny("vit")
    names = resolve_targets(model, ["query_key_value"])
    assert len(names) == 3


def test_all_linear_leaves_the_output_layer_out() -> None:
    model = make_adaptable(
        transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
            )
        )
    )
    names = resolve_targets(model, ["all-linear"])
    assert "lm_head" not in names
    assert {"q_proj", "o_proj", "down_proj"} <= set(names)


def test_a_target_that_does_not_exist_lists_those_that_do() -> None:
    from deepseek.models import LoRAConfig

    model = tiny("bert")
    with pytest.raises(UnknownNameError) as caught:
        model.add_adapter("a", LoRAConfig(target_modules=["querry"]))
    message = str(caught.value)
    assert "'query'" in message
    assert "dense, key, query, value" in message
    assert not model.adapter_names()


def test_the_articles_snippet_runs_as_written() -> None:
    model = from_pretrained("all-minilm-l6-v2", head="sequence-classification", num_labels=2)
    snippet = (
        "from deepseek.models import LoRAConfig\n"
        'config = LoRAConfig(r=16, alpha=32, dropout=0.1, target_modules=["query_key_value"])\n'
        'model.add_adapter("text_class", config)\n'
    )
    exec(snippet, {"model": model})
    assert model.active_adapters() == ["text_class"]
    assert isinstance(model, transformers.BertForSequenceClassification)
    trainable, total = model.count_parameters()
    lora = 6 * 3 * 2 * 16 * 384
    assert trainable == lora + 2 * 384 + 2  # the adapter and the fresh classifier
    assert trainable / total < 0.1


def test_transformers_own_argument_order_works_too() -> None:
    from peft import LoraConfig

    model = tiny("bert")
    model.add_adapter(LoraConfig(r=2, target_modules=["query"]), "theirs")
    model.add_adapter(LoraConfig(r=2, target_modules=["query"]))
    assert model.adapter_names() == ["theirs", "default"]


def test_wrong_adapters_are_refused() -> None:
    from deepseek.models import LoRAConfig

    model = tiny("bert")
    model.add_adapter("one", LoRAConfig(r=2))
    with pytest.raises(ConfigError, match="already"):
        model.add_adapter("one", LoRAConfig(r=2))
    with pytest.raises(ConfigError, match="received dict"):
        model.add_adapter("two", {"r": 2})
    with pytest.raises(ConfigError, match="adapter name"):
        model.add_adapter("../evil", LoRAConfig(r=2))
    with pytest.raises(ValidationError, match="rank"):
        LoRAConfig(rank=2)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        LoRAConfig(r=0)


def test_a_second_adapter_sees_the_layers_own_names() -> None:
    from deepseek.models import LoRAConfig

    model = tiny("llama")
    model.add_adapter("one", LoRAConfig(r=2, target_modules=["query_key_value"]))
    model.add_adapter("two", LoRAConfig(r=2, target_modules=["query_key_value"]))
    assert model.adapter_names() == ["one", "two"]
    assert resolve_targets(model, ["all-linear"]) == resolve_targets(tiny("llama"), ["all-linear"])


def test_only_the_chosen_layers_are_adapted() -> None:
    from deepseek.models import LoRAConfig

    model = tiny("bert")
    model.add_adapter("upper", LoRAConfig(r=2, layers=[1]))
    assert {n.split("layer.")[1][0] for n, p in model.named_parameters() if p.requires_grad} == {"1"}


def test_saved_adapter_opens_in_plain_peft_with_the_same_outputs(trained: Any, minilm: Path, tmp_path: Path) -> None:
    model, tokenizer, _ = trained
    batch = tokenizer(["a moving film", "dull and loud, and far too long"], return_tensors="pt", padding=True)
    model.save_adapter(tmp_path / "a", "text_class")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2)
    theirs = PeftModel.from_pretrained(base, tmp_path / "a").eval()
    with torch.inference_mode():
        ours = model.eval()(**batch).logits
        torch.testing.assert_close(theirs(**batch).logits, ours)
        merged = model.merge_adapter("text_class").eval()
        torch.testing.assert_close(merged(**batch).logits, ours, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(**batch).logits, ours)  # merging made a copy
    assert sorted(p.name for p in (tmp_path / "a").iterdir() if p.suffix != ".md") == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "deepseek_adapter.json",
    ]


def test_saved_adapter_opens_in_transformers_again(trained: Any, minilm: Path, tmp_path: Path) -> None:
    model, tokenizer, _ = trained
    batch = tokenizer(["a moving film"], return_tensors="pt")
    model.save_adapter(tmp_path / "a", "text_class")
    again = transformers.AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2)
    again.load_adapter(str(tmp_path / "a"), adapter_name="text_class")
    with torch.inference_mode():
        torch.testing.assert_close(again.eval()(**batch).logits, model.eval()(**batch).logits)


def test_an_adaptable_model_can_be_copied_and_pickled(trained: Any) -> None:
    model, tokenizer, _ = trained
    batch = tokenizer(["a moving film"], return_tensors="pt")
    with torch.inference_mode():
        expected = model.eval()(**batch).logits
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            torch.testing.assert_close(other(**batch).logits, expected)
            assert other.adapter_names() == ["text_class"]


def test_a_fresh_head_is_reported() -> None:
    model = from_pretrained("all-minilm-l6-v2", head="sequence-classification", num_labels=3)
    assert model.fresh_modules == ("classifier",)
    assert from_pretrained("all-minilm-l6-v2").fresh_modules == ()
    assert tokenizer_for("all-minilm-l6-v2").vocab_size == 30522

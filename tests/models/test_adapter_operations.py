"""Several adapters on one model, their files, and the base that they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as hf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.models import LoRAConfig, from_pretrained
from deepseek.models.adapters.fingerprint import fingerprint
from deepseek.models.adapters.mixin import make_adaptable

SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
BATCH = {"input_ids": torch.arange(3, 27).reshape(2, 12)}


def plain(seed: int = 0, kind: str = "bert", **sizes: Any) -> Any:
    """A transformers model without our methods; the same seed gives the same weights, head included."""
    torch.manual_seed(seed)
    config, model = {
        "bert": (hf.BertConfig, hf.BertForSequenceClassification),
        "gpt2": (hf.GPT2Config, hf.GPT2ForSequenceClassification),
        "llama": (hf.LlamaConfig, hf.LlamaForSequenceClassification),
    }[kind]
    if kind == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64, "pad_token_id": 0, **sizes}
        return model(config(**sizes)).eval()
    return model(config(**{**SIZES, **sizes})).eval()


def tiny(seed: int = 0, kind: str = "bert", **sizes: Any) -> Any:
    model = make_adaptable(plain(seed, kind, **sizes))
    model.base_name = f"tiny-{kind}-{seed}"
    model.fresh_modules = ("score",) if kind != "bert" else ("classifier",)
    return model


def shake(model: Any, name: str, seed: int = 1) -> None:
    """Give an adapter values as if it had been trained."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if (".lora_" in key or ".modules_to_save." in key) and f".{name}" in key:
                weight.add_(torch.randn_like(weight) * 0.1)
            elif key.endswith("bias") and weight.requires_grad:
                weight.add_(0.1)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(**BATCH).logits


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def assert_equal_bits(model: Any, before: dict[str, torch.Tensor]) -> None:
    now = model.state_dict()
    assert list(now) == list(before)
    assert all(torch.equal(now[name], before[name]) for name in before)


def two_adapters() -> Any:
    """`one` with a head of its own, `two` without."""
    model = tiny()
    model.add_adapter("one", LoRAConfig(r=2))
    model.add_adapter("two", LoRAConfig(r=4, target_modules=["mlp"], layers=[1], modules_to_save=[]))
    shake(model, "one")
    shake(model, "two")
    return model


def test_each_adapter_answers_with_its_own_weights_and_head() -> None:
    model, base = two_adapters(), logits(plain())
    assert model.active_adapters() == ["two"]
    two = logits(model)
    model.switch_adapter("one")
    one = logits(model)
    model.set_adapter("two")
    assert torch.equal(logits(model), two)
    assert not torch.allclose(one, two)
    assert not torch.allclose(one, base)
    assert not torch.allclose(two, base)
    with pytest.raises(UnknownNameError, match="'one'"):
        model.switch_adapter("on")


def test_only_the_active_adapter_trains() -> None:
    model = two_adapters()
    for name in ("one", "two"):
        model.switch_adapter(name)
        assert all(f".{name}" in key for key, weight in model.named_parameters() if weight.requires_grad)


def test_disabled_adapters_leave_the_base_and_come_back() -> None:
    model, base = two_adapters(), logits(plain())
    model.switch_adapter("one")
    one = logits(model)
    trained = [key for key, weight in model.named_parameters() if weight.requires_grad]
    with model.disable_adapters():
        torch.testing.assert_close(logits(model), base)
        with model.disable_adapters():
            pass
        torch.testing.assert_close(logits(model), base)  # the inner block does not switch them on
    assert torch.equal(logits(model), one)
    assert [key for key, weight in model.named_parameters() if weight.requires_grad] == trained
    model.disable_adapters()  # transformers' own way
    torch.testing.assert_close(logits(model), base)
    model.enable_adapters()
    assert torch.equal(logits(model), one)
    with pytest.raises(ConfigError, match="no adapter"):
        tiny().disable_adapters()


def test_deleting_adapters_ends_with_the_plain_model() -> None:
    model, before = tiny(), weights(plain())
    model.add_adapter("one", LoRAConfig(r=2))
    shake(model, "one")
    one = logits(model)
    model.add_adapter("two", LoRAConfig(r=2, target_modules=["mlp"], modules_to_save=[]))
    model.delete_adapter("two")
    assert model.adapter_names() == model.active_adapters() == ["one"]
    assert torch.equal(logits(model), one)
    with pytest.raises(UnknownNameError, match="adapter 'two'"):
        model.delete_adapter(["one", "two"])
    model.delete_adapter("one")
    assert model.adapter_names() == []
    assert_equal_bits(model, before)
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize(
    "config",
    [
        {}, {"dora": True}, {"init": "pissa"}, {"init": "olora", "rslora": True}, {"bias": "all"},
        {"bias": "lora_only"}, {"init": "pissa_niter_4"}, {"init": "orthogonal"}, {"init": "gaussian"},
    ],
)  # fmt: skip
def test_unloading_gives_the_base_back_to_the_bit(config: dict[str, Any]) -> None:
    model, before = tiny(), weights(plain())
    frozen = model.bert.embeddings.word_embeddings.weight.requires_grad_(False)
    model.add_adapter("a", LoRAConfig(r=4, target_modules=["all-linear"], **config))
    shake(model, "a")
    base = logits(plain())
    assert not torch.allclose(logits(model), base)
    with model.disable_adapters():
        torch.testing.assert_close(logits(model), base)
    model.unload_adapters()
    assert_equal_bits(model, before)
    assert not frozen.requires_grad
    model.unload_adapters()  # nothing left to do
    model.add_adapter("again", LoRAConfig(r=2))
    assert model.adapter_names() == ["again"]


@pytest.mark.parametrize("config", [{"init": "pissa"}, {"bias": "all"}])
def test_an_adapter_that_changes_the_base_is_alone(config: dict[str, Any]) -> None:
    model = tiny()
    model.add_adapter("one", LoRAConfig(r=2, **config))
    with pytest.raises(ConfigError, match="'one' changes the base"):
        model.add_adapter("two", LoRAConfig(r=2))
    model.unload_adapters()
    model.add_adapter("two", LoRAConfig(r=2))
    with pytest.raises(ConfigError, match="'one' changes the base"):
        model.add_adapter("one", LoRAConfig(r=2, **config))
    assert model.adapter_names() == ["two"]


pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Using Rank-Stabilized LoRA:UserWarning"),  # of PEFT's own conversion
]

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("bert", {}),
    ("bert", {"dora": True, "target_modules": ["all-linear"]}),
    ("bert", {"rslora": True, "alpha": 3.5}),
    ("bert", {"rank_pattern": {"query": 5, "layer.1.attention.self.value": 7}, "alpha_pattern": {"value": 9}}),
    ("bert", {"target_modules": ["all-linear"], "rank_pattern": {"mlp": 3}}),
    ("bert", {"layers": [-1], "target_modules": ["mlp", "attention_output"]}),
    ("bert", {"bias": "all"}),
    ("bert", {"init": "pissa"}),
    ("bert", {"init": "pissa", "rslora": True, "rank_pattern": {"query": 3}, "alpha_pattern": {"key": 5}}),
    ("bert", {"init": "olora"}),
    ("gpt2", {"target_modules": ["query_key_value", "mlp"]}),
    ("gpt2", {"dora": True}),
    ("llama", {"target_modules": ["all-linear"], "layers": [0]}),
]


@pytest.mark.parametrize(("kind", "config"), VARIANTS)
def test_files_open_in_plain_peft_and_here_with_equal_outputs(
    kind: str, config: dict[str, Any], tmp_path: Path
) -> None:
    model = tiny(kind=kind)
    model.add_adapter("a", LoRAConfig(r=4, **config))
    shake(model, "a")
    ours = logits(model)
    model.save_adapter(tmp_path, "a")
    theirs = peft.PeftModel.from_pretrained(plain(kind=kind), tmp_path)
    torch.testing.assert_close(logits(theirs), ours, rtol=1e-4, atol=1e-5)
    again = tiny(kind=kind)
    again.load_adapter(tmp_path, "b")
    torch.testing.assert_close(logits(again), ours, rtol=1e-4, atol=1e-5)
    if "init" not in config and "bias" not in config:
        assert set(again.get_adapter_state_dict("b")) == set(model.get_adapter_state_dict("a"))
    merged = model.merge_adapter("a")
    torch.testing.assert_close(logits(merged), ours, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits(model), ours)
    assert {n: w.shape for n, w in merged.named_parameters()} == {
        n: w.shape for n, w in plain(kind=kind).named_parameters()
    }
    merged.save_pretrained(tmp_path / "merged")
    whole = type(plain(kind=kind)).from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(whole), logits(merged))


def test_merging_in_place_is_the_same_as_merging_a_copy() -> None:
    model = two_adapters()
    copied = model.merge_adapter("one")
    with pytest.raises(ConfigError, match="in place would change the base under two"):
        model.merge_adapter("one", in_place=True)
    model.delete_adapter("two")
    assert model.merge_adapter("one", in_place=True) is model
    assert model.adapter_names() == []
    assert_equal_bits(model, weights(copied))
    model.add_adapter("next", LoRAConfig(r=2))  # on the merged weights


def test_merging_tells_the_rounding_and_refuses_what_is_not_finite() -> None:
    model = tiny().to(torch.bfloat16)
    model.add_adapter("a", LoRAConfig(r=2))
    shake(model, "a")
    merged = model.merge_adapter("a")
    assert merged.dtype == torch.bfloat16
    assert 0 < merged.merge_error < 0.01
    key = next(k for k in model.state_dict() if "lora_B" in k)
    model.get_parameter(key).data[0, 0] = float("nan")
    with pytest.raises(ConfigError, match="not finite"):
        model.merge_adapter("a")


def test_a_loaded_adapter_can_be_trained_on_or_only_used(tmp_path: Path) -> None:
    model = two_adapters()
    for name in ("one", "two"):
        model.save_adapter(tmp_path / name, name)
    model.switch_adapter("one")
    one, state = logits(model), model.get_adapter_state_dict("two")
    again = tiny()
    again.load_adapter(tmp_path / "one", "one", is_trainable=True)
    trained = {n for n, w in again.named_parameters() if w.requires_grad}
    assert trained
    again.load_adapter(str(tmp_path / "two"), "two")
    assert again.active_adapters() == ["one"]
    assert torch.equal(logits(again), one)
    assert {n for n, w in again.named_parameters() if w.requires_grad} == trained
    again.switch_adapter("two")
    assert all(torch.equal(again.get_adapter_state_dict("two")[k], v) for k, v in state.items())
    used = tiny()
    used.load_adapter(tmp_path / "one")
    assert used.adapter_names() == ["default"]
    assert not [n for n, w in used.named_parameters() if w.requires_grad and ("lora_" in n)]


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    tiny_one = tiny()
    tiny_one.add_adapter("a", LoRAConfig(r=2))
    tiny_one.save_adapter(tmp_path, "a")
    other = tiny(seed=7)
    with pytest.raises(ConfigError) as caught:
        other.load_adapter(tmp_path, "a")
    message = str(caught.value)
    for part in (
        "tiny-bert-0",
        "tiny-bert-7",
        str(tiny_one.base_fingerprint()),
        str(other.base_fingerprint()),
        "force=True",
    ):
        assert part in message
    assert other.adapter_names() == []
    assert_equal_bits(other, weights(plain(seed=7)))
    other.load_adapter(tmp_path, "a", force=True)
    assert other.adapter_names() == ["a"]


def test_an_adapter_without_a_record_is_checked_by_its_shapes(tmp_path: Path) -> None:
    wide = plain(hidden_size=64)
    theirs = peft.get_peft_model(wide, peft.LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"]))
    theirs.save_pretrained(tmp_path / "wide")
    model = tiny()
    with pytest.raises(ConfigError, match=r"query\.lora_A\.weight is \(2, 64\) where the model asks for 32 on axis 1"):
        model.load_adapter(tmp_path / "wide", "a")
    heads = peft.get_peft_model(
        plain(num_labels=5), peft.LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"])
    )
    heads.save_pretrained(tmp_path / "heads")
    with pytest.raises(ConfigError, match=r"classifier\.weight is \(5, 32\)"):
        model.load_adapter(tmp_path / "heads", "a")
    assert_equal_bits(model, weights(plain()))
    same = peft.get_peft_model(plain(), peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)).eval()
    same.save_pretrained(tmp_path / "same")
    model.load_adapter(tmp_path / "same", "a")
    torch.testing.assert_close(logits(model), logits(same))


def test_an_adapter_of_another_architecture_is_refused(tmp_path: Path) -> None:
    llama = tiny(kind="llama")
    llama.add_adapter("a", LoRAConfig(r=2))
    llama.save_adapter(tmp_path, "a")
    model = tiny()
    with pytest.raises(ConfigError, match=r"PEFT cannot put|does not fit"):
        model.load_adapter(tmp_path, "a", force=True)
    assert_equal_bits(model, weights(plain()))


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    model = tiny()
    model.add_adapter("a", LoRAConfig(r=2))
    model.save_adapter(tmp_path, "a")
    fresh = tiny()
    with pytest.raises(ConfigError, match=r"has no adapter_config\.json"):
        fresh.load_adapter(tmp_path / "missing", "a")
    (tmp_path / "deepseek_adapter.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"deepseek_adapter\.json is damaged"):
        fresh.load_adapter(tmp_path, "a")
    (tmp_path / "deepseek_adapter.json").unlink()
    stored = load_file(tmp_path / "adapter_model.safetensors")
    save_file(dict(list(stored.items())[:-1]), tmp_path / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="its file lacks"):
        fresh.load_adapter(tmp_path, "a")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"short")
    with pytest.raises(ConfigError, match="cannot be read"):
        fresh.load_adapter(tmp_path, "a")
    (tmp_path / "adapter_config.json").write_text("[", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"adapter_config\.json is damaged"):
        fresh.load_adapter(tmp_path, "a")
    assert_equal_bits(fresh, weights(plain()))


def test_the_record_names_base_head_and_versions(tmp_path: Path) -> None:
    model = tiny()
    model.add_adapter("a", LoRAConfig(r=2))
    model.save_adapter(tmp_path, "a")
    record = json.loads((tmp_path / "deepseek_adapter.json").read_text())
    assert record["base"] == "tiny-bert-0"
    assert record["modules_to_save"] == ["classifier"]
    assert record["architecture"] == "BertForSequenceClassification"
    assert {"peft", "torch", "transformers"} <= set(record["versions"])
    assert len(record["fingerprint"]["full"]) == 64


def test_the_fingerprint_is_of_the_base_alone() -> None:
    model = tiny()
    base = fingerprint(model)
    assert base is not None
    assert fingerprint(make_adaptable(plain().bert)) == base  # whatever is on top
    assert fingerprint(plain(num_labels=7)).full is not None
    model.add_adapter("a", LoRAConfig(r=2, target_modules=["all-linear"], init="pissa"))
    shake(model, "a")
    assert model.base_fingerprint() == base
    assert fingerprint(plain().to(torch.bfloat16)) == base
    assert fingerprint(plain(seed=1)) != base
    with torch.device("meta"):
        assert fingerprint(hf.BertModel(hf.BertConfig(**SIZES))) is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_small_weight_changes_the_fingerprint(data: st.DataObject) -> None:
    model = plain().bert
    base = fingerprint(model)
    names = sorted(n for n, w in model.named_parameters() if w.numel() <= 256 and "pooler" not in n)
    weight = model.get_parameter(data.draw(st.sampled_from(names))).data.view(-1)
    weight[data.draw(st.integers(0, weight.numel() - 1))] += data.draw(st.sampled_from([-1.0, 0.5, 3.0]))
    assert fingerprint(model) != base


@settings(max_examples=20, deadline=None)
@given(
    r=st.integers(1, 8),
    alpha=st.floats(0.5, 64),
    targets=st.lists(st.sampled_from(["query", "key", "value", "attention_output", "mlp", "all-linear"]), min_size=1),
    layers=st.none() | st.lists(st.integers(-2, 1), min_size=1, max_size=3),
    flags=st.fixed_dictionaries({"rslora": st.booleans(), "dora": st.booleans()}),
)
def test_merging_never_changes_the_answers(
    r: int, alpha: float, targets: list[str], layers: list[int] | None, flags: dict[str, bool]
) -> None:
    model = tiny()
    model.add_adapter("a", LoRAConfig(r=r, alpha=alpha, target_modules=targets, layers=layers, **flags))
    shake(model, "a")
    torch.testing.assert_close(logits(model.merge_adapter("a")), logits(model), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"rank_pattern": {"qery": 2}}, UnknownNameError, "Did you mean 'query'"),
        ({"alpha_pattern": {"mlp": 2}}, UnknownNameError, "layer in alpha_pattern 'mlp'.*key, query, value"),
        ({"rank_pattern": {"query[": 2}}, ConfigError, "neither a layer's name nor a regular expression"),
        ({"rank_pattern": {"layer.0.*query": 2}, "layers": [1]}, UnknownNameError, "layer in rank_pattern"),
        ({"modules_to_save": ["clasifier"]}, UnknownNameError, "Did you mean 'classifier'"),
        ({"layers": [2]}, ConfigError, "has 2 layers"),
        ({"dora": True, "init": "pissa"}, ValueError, "does not go with dora"),
        ({"init": "eva"}, ValueError, "pattern"),
        ({"layers": []}, ValueError, "at least 1"),
        ({"rank_pattern": {"query": 0}}, ValueError, "above 0"),
    ],
)
def test_settings_that_match_nothing_are_refused(config: dict[str, Any], error: type[Exception], message: str) -> None:
    model = tiny()
    with pytest.raises(error, match=message):
        model.add_adapter("a", LoRAConfig(r=2, **config))
    assert_equal_bits(model, weights(plain()))


def test_a_failure_inside_peft_leaves_the_model_plain() -> None:
    model = tiny()
    with pytest.raises(ConfigError, match="PEFT cannot put adapter"):
        model.add_adapter("a", peft.LoraConfig(r=2, target_modules=["no_such_layer"]))
    assert model.adapter_names() == []
    assert_equal_bits(model, weights(plain()))


def test_a_fresh_head_is_restored_with_its_adapter(trained: Any, tmp_path: Path) -> None:
    model, tokenizer, _ = trained
    batch = tokenizer(["a moving film", "dull and loud"], return_tensors="pt", padding=True)
    model.save_adapter(tmp_path, "text_class")
    again = from_pretrained("all-minilm-l6-v2", head="sequence-classification", num_labels=2)
    assert not torch.equal(again.classifier.weight, model.classifier.weight)  # it started from other random values
    again.load_adapter(tmp_path, "text_class")
    with torch.inference_mode():
        torch.testing.assert_close(again.eval()(**batch).logits, model.eval()(**batch).logits)
    half = from_pretrained("all-minilm-l6-v2", head="sequence-classification", num_labels=2, dtype=torch.bfloat16)
    half.load_adapter(tmp_path, "text_class")  # the same checkpoint in another precision

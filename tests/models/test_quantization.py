"""Bases in 8 and 4 bits: what is quantised, that adapters learn on them, and that a plain model comes out."""

from __future__ import annotations

import builtins
import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file
from torch import nn

from deepseek.errors import ConfigError, MissingExtraError, UnknownNameError
from deepseek.models import LoRAConfig, from_pretrained
from deepseek.models import quantization as quantizing

pytestmark = pytest.mark.usefixtures("one_thread")

pytest.importorskip("bitsandbytes")
KINDS = ("int8", "nf4")
SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
BATCH = {"input_ids": torch.arange(3, 27).reshape(2, 12), "labels": torch.tensor([0, 1])}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny checkpoints on disk: an encoder without pooler, a language model, and GPT-2 with its transposed layers."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    models = {
        "bert": hf.BertModel(hf.BertConfig(**SIZES), add_pooling_layer=False),
        "llama": hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES, num_key_value_heads=2)),
        "gpt2": hf.GPT2Model(
            hf.GPT2Config(vocab_size=64, n_embd=64, n_layer=2, n_head=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
        ),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
    return {name: folder / name for name in models}


def load(path: Path, quantization: str, **options: Any) -> Any:
    torch.manual_seed(1)
    return from_pretrained(path, head="sequence-classification", num_labels=2, quantization=quantization, **options)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(**BATCH).logits


def train(model: Any, batch: dict[str, torch.Tensor], steps: int, rate: float) -> list[float]:
    """Losses of a few steps on one batch, with an evaluation between them as training has."""
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], rate)
    losses = []
    for _ in range(steps):
        model.train()
        loss = model(**batch).loss
        loss.backward()
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                assert weight.grad is not None, name
                assert torch.isfinite(weight.grad).all(), name
                assert weight.grad.any() or "lora_A" in name, name
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        with torch.inference_mode():
            model.eval()(**batch)
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_the_backbone_is_quantised_and_heads_are_not(kind: str, checkpoints: dict[str, Path]) -> None:
    model = load(checkpoints["bert"], kind)
    whole = load(checkpoints["bert"], "none")
    assert quantizing.quantization_of(model) == kind
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            assert quantizing.quantized_weight(layer.weight) == ("encoder" in name), name
    assert model.fresh_modules == ("classifier", "bert.pooler")
    assert torch.equal(model.classifier.weight, whole.classifier.weight)  # drawn as without quantisation
    assert model.count_parameters()[1] == whole.count_parameters()[1]
    linear = sum(w.numel() for n, w in whole.named_parameters() if "encoder" in n and w.dim() == 2)
    saved = quantizing.weight_bytes(whole) - quantizing.weight_bytes(model)
    assert saved > linear * (4 - (0.75 if kind == "nf4" else 1.1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_base_is_known_in_any_storage(kind: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model, whole = load(checkpoints["bert"], kind), load(checkpoints["bert"], "none", dtype=torch.bfloat16)
    assert model.base_fingerprint().same_base(whole.base_fingerprint())
    assert not model.base_fingerprint().same_base(load(checkpoints["gpt2"], kind).base_fingerprint())
    model.add_adapter("a", LoRAConfig(r=2))
    model.save_adapter(tmp_path, "a")
    whole.load_adapter(tmp_path, "a")
    assert whole.adapter_names() == ["a"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_adapters_learn_on_a_quantised_base_and_merge_to_a_plain_model(
    kind: str, name: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    model = load(checkpoints[name], kind)
    stored = {n: w.detach().clone() for n, w in model.named_parameters() if quantizing.quantized_weight(w)}
    model.add_adapter("a", LoRAConfig(r=4, target_modules=["query_key_value", "mlp"]))
    losses = train(model, BATCH, steps=6, rate=3e-3)
    assert losses[-1] < losses[0]
    ours = logits(model)
    merged = model.merge_adapter("a")
    assert quantizing.quantization_of(merged) == "none"
    assert merged.merge_error == 0  # float32 in, float32 out
    tolerance = {"rtol": 0.05, "atol": 0.05}  # the quantised layers multiply in lower precision than the merged ones
    torch.testing.assert_close(logits(merged), ours, **tolerance)
    torch.testing.assert_close(logits(model), ours)  # a copy was merged
    merged.save_pretrained(tmp_path / "merged")
    tensors = load_file(tmp_path / "merged" / "model.safetensors")
    assert all(t.dtype == torch.float32 for t in tensors.values())
    whole = load(checkpoints[name], "none")
    assert set(tensors) == set(whole.state_dict())
    again = type(whole).__bases__[1].from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(again), logits(merged))
    assert not hasattr(again.config, "quantization_config")
    model.unload_adapters()
    assert all(torch.equal(w, stored[n]) for n, w in model.named_parameters() if n in stored)


def test_dora_on_four_bits_merges(checkpoints: dict[str, Path]) -> None:
    model = load(checkpoints["bert"], "nf4")
    model.add_adapter("a", LoRAConfig(r=4, dora=True))
    train(model, BATCH, steps=3, rate=3e-3)
    merged = model.merge_adapter("a", dtype=torch.bfloat16)
    assert merged.bert.encoder.layer[0].attention.self.query.weight.dtype == torch.bfloat16
    assert 0 < merged.merge_error < 0.01
    merged = model.merge_adapter("a")
    torch.testing.assert_close(logits(merged), logits(model), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_model_keeps_its_output_layer(kind: str, checkpoints: dict[str, Path]) -> None:
    model = from_pretrained(checkpoints["llama"], head="causal-lm", quantization=kind)
    assert type(model.lm_head) is nn.Linear
    model.add_adapter("a", LoRAConfig(r=4))
    quantizing.prepare_for_training(model, gradient_checkpointing=True)
    model.gradient_checkpointing_enable()
    ids = BATCH["input_ids"]
    losses = train(model, {"input_ids": ids, "labels": ids}, steps=6, rate=1e-2)
    assert losses[-1] < losses[0]


def test_copies_of_a_quantised_model_answer_the_same(checkpoints: dict[str, Path]) -> None:
    for kind in KINDS:
        model = load(checkpoints["bert"], kind)
        model.add_adapter("a", LoRAConfig(r=4))
        expected = logits(model)
        torch.testing.assert_close(logits(copy.deepcopy(model)), expected)
        if kind == "nf4":
            torch.testing.assert_close(logits(pickle.loads(pickle.dumps(model))), expected)


def test_what_cannot_be_quantised_is_refused(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'nf4'"):
        load(checkpoints["bert"], "nf44")
    model = load(checkpoints["bert"], "nf4")
    for init in ("pissa", "olora"):
        with pytest.raises(ConfigError, match="those of the adapted layers are quantised"):
            model.add_adapter("a", LoRAConfig(init=init))
    import bitsandbytes.cextension as extension

    class ErrorHandlerMockBNBNativeLibrary:
        pass

    with monkeypatch.context() as patch:
        patch.setattr(extension, "lib", ErrorHandlerMockBNBNativeLibrary())
        with pytest.raises(ConfigError, match="there is none for this machine"):
            load(checkpoints["bert"], "nf4")
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "bitsandbytes":
            raise ModuleNotFoundError("No module named 'bitsandbytes'", name="bitsandbytes")
        return real(name, *args, **options)

    monkeypatch.setattr("importlib.import_module", lambda name, package=None: without(name))
    with pytest.raises(MissingExtraError, match=r"deepseek\[quantization\]"):
        quantizing.bitsandbytes_config("nf4", [])


def test_a_real_encoder_learns_in_four_bits() -> None:
    model = from_pretrained("all-minilm-l6-v2", head="sequence-classification", num_labels=2, quantization="nf4")
    model.add_adapter("a", LoRAConfig(r=8))
    torch.manual_seed(0)
    batch = {"input_ids": torch.randint(1000, 20000, (4, 16)), "labels": torch.tensor([0, 1, 0, 1])}
    losses = train(model, batch, steps=5, rate=2e-3)
    assert losses[-1] < losses[0] - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_real_language_model_learns(kind: str) -> None:
    model = from_pretrained("smollm2-135m-instruct", head="causal-lm", quantization=kind)
    model.add_adapter("a", LoRAConfig(r=8))
    torch.manual_seed(0)
    ids = torch.randint(1000, 20000, (1, 16))
    losses = train(model, {"input_ids": ids, "labels": ids}, steps=3, rate=2e-3)
    assert losses[-1] < losses[0] - 0.05

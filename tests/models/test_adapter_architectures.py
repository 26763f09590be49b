"""Target names on every architecture: what they mean, that the adapters learn, and what cannot be adapted says so."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.models import LoRAConfig, resolve_targets
from deepseek.models.adapters.mixin import make_adaptable
from deepseek.models.adapters.roles import layer_of
from deepseek.models.deepseek_base import DeepSeekBaseConfig

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GQA = {**TEXT, "num_key_value_heads": 2}
MOE = {**GQA, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
MLA: dict[str, Any] = {
    **GQA, "num_hidden_layers": 2, "n_routed_experts": 2, "num_experts_per_tok": 1, "first_k_dense_replace": 1,
    "moe_intermediate_size": 16, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4,
    "v_head_dim": 8, "n_group": 1, "topk_group": 1,
}  # fmt: skip
GPT: dict[str, Any] = {"vocab_size": 64, "n_embd": 32, "n_layer": 1, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
IMAGE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
BART: dict[str, Any] = {
    "vocab_size": 64, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 1, "forced_eos_token_id": 2,
}  # fmt: skip
T5: dict[str, Any] = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}

QKV_PROJ = "k_proj q_proj v_proj"
GATED = "down_proj gate_proj up_proj"
BERT_LIKE = ("key query value", "attention.output.dense", "0.output.dense intermediate.dense")
LLAMA_LIKE = (QKV_PROJ, "o_proj", GATED)

Case = tuple[Callable[[], Any], str | None, str | None, str | None]
"""Config, then the layers that query_key_value, attention_output and mlp mean; ``None`` where that is an error."""

CASES: dict[str, Case] = {
    "bert": (lambda: hf.BertConfig(**TEXT), *BERT_LIKE),
    "roberta": (lambda: hf.RobertaConfig(**TEXT), *BERT_LIKE),
    "xlm-roberta": (lambda: hf.XLMRobertaConfig(**TEXT), *BERT_LIKE),
    "electra": (lambda: hf.ElectraConfig(**TEXT, embedding_size=16), *BERT_LIKE),
    "deberta-v2": (
        lambda: hf.DebertaV2Config(**TEXT, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=False),
        "key_proj query_proj value_proj", *BERT_LIKE[1:],
    ),
    "distilbert": (
        lambda: hf.DistilBertConfig(vocab_size=64, dim=32, n_layers=1, n_heads=4, hidden_dim=48),
        "k_lin q_lin v_lin", "out_lin", "lin1 lin2",
    ),
    "mpnet": (lambda: hf.MPNetConfig(**TEXT), "k q v", "o", "intermediate.dense output.dense"),
    "modernbert": (
        lambda: hf.ModernBertConfig(**TEXT, cls_token_id=1, sep_token_id=2), "Wqkv", "attn.Wo", "Wi mlp.Wo",
    ),
    "albert": (lambda: hf.AlbertConfig(**TEXT, embedding_size=16), "key query value", "dense", "ffn ffn_output"),
    "layoutlmv3": (lambda: hf.LayoutLMv3Config(**TEXT, input_size=32, patch_size=8, coordinate_size=4, shape_size=8), *BERT_LIKE),
    "t5": (lambda: hf.T5Config(**T5), "k q v", "o", "wi wo"),
    "mt5": (lambda: hf.MT5Config(**T5), "k q v", "o", "wi_0 wi_1 wo"),
    "bart": (lambda: hf.BartConfig(**BART), QKV_PROJ, "out_proj", "fc1 fc2"),
    "opt": (
        lambda: hf.OPTConfig(
            vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, ffn_dim=48,
            word_embed_proj_dim=32,
        ),
        QKV_PROJ, "out_proj", "fc1 fc2",
    ),
    "gpt2": (lambda: hf.GPT2Config(**GPT), "c_attn", "attn.c_proj", "c_fc mlp.c_proj"),
    "gpt_bigcode": (lambda: hf.GPTBigCodeConfig(**GPT), "c_attn", "attn.c_proj", "c_fc mlp.c_proj"),
    "gptj": (lambda: hf.GPTJConfig(**GPT, rotary_dim=4), QKV_PROJ, "out_proj", "fc_in fc_out"),
    "gpt_neo": (
        lambda: hf.GPTNeoConfig(
            vocab_size=64, hidden_size=32, num_layers=1, num_heads=4, attention_types=[[["global"], 1]],
            bos_token_id=1, eos_token_id=2,
        ),
        QKV_PROJ, "out_proj", "c_fc c_proj",
    ),
    "gpt_neox": (
        lambda: hf.GPTNeoXConfig(**TEXT), "query_key_value", "dense", "dense_4h_to_h dense_h_to_4h",
    ),
    "bloom": (
        lambda: hf.BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=4),
        "query_key_value", "dense", "dense_4h_to_h dense_h_to_4h",
    ),
    "falcon": (
        lambda: hf.FalconConfig(
            vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, bos_token_id=1, eos_token_id=2
        ),
        "query_key_value", "dense", "dense_4h_to_h dense_h_to_4h",
    ),
    "mpt": (lambda: hf.MptConfig(d_model=32, n_heads=4, n_layers=1, vocab_size=64), "Wqkv", "out_proj", "down_proj up_proj"),
    "phi": (lambda: hf.PhiConfig(**TEXT), QKV_PROJ, "dense", "fc1 fc2"),
    "phi3": (lambda: hf.Phi3Config(**GQA), "qkv_proj", "o_proj", "down_proj gate_up_proj"),
    "glm": (lambda: hf.GlmConfig(**GQA, head_dim=8), QKV_PROJ, "o_proj", "down_proj gate_up_proj"),
    "llama": (lambda: hf.LlamaConfig(**GQA), *LLAMA_LIKE),
    "mistral": (lambda: hf.MistralConfig(**GQA), *LLAMA_LIKE),
    "qwen2": (lambda: hf.Qwen2Config(**GQA), *LLAMA_LIKE),
    "qwen3": (lambda: hf.Qwen3Config(**GQA, head_dim=8), *LLAMA_LIKE),
    "gemma2": (lambda: hf.Gemma2Config(**GQA, head_dim=8), *LLAMA_LIKE),
    "gemma3": (lambda: hf.Gemma3TextConfig(**GQA, head_dim=8), *LLAMA_LIKE),
    "granite": (lambda: hf.GraniteConfig(**GQA), *LLAMA_LIKE),
    "olmo2": (lambda: hf.Olmo2Config(**GQA), *LLAMA_LIKE),
    "cohere": (lambda: hf.CohereConfig(**GQA), *LLAMA_LIKE),
    "stablelm": (lambda: hf.StableLmConfig(**GQA), *LLAMA_LIKE),
    "starcoder2": (lambda: hf.Starcoder2Config(**GQA), QKV_PROJ, "o_proj", "c_fc c_proj"),
    "mixtral": (lambda: hf.MixtralConfig(**GQA, num_local_experts=2), QKV_PROJ, "o_proj", None),
    "qwen2_moe": (lambda: hf.Qwen2MoeConfig(**MOE, shared_expert_intermediate_size=16), QKV_PROJ, "o_proj", None),
    "qwen3_moe": (lambda: hf.Qwen3MoeConfig(**MOE, head_dim=8), QKV_PROJ, "o_proj", None),
    "deepseek_v2": (
        lambda: hf.DeepseekV2Config(**MLA), "kv_a_proj_with_mqa kv_b_proj q_a_proj q_b_proj", "o_proj", None,
    ),
    "deepseek_v2_lite": (
        lambda: hf.DeepseekV2Config(**{**MLA, "q_lora_rank": None, "num_hidden_layers": 1}),
        "kv_a_proj_with_mqa kv_b_proj q_proj", "o_proj", None,
    ),
    "deepseek_v3": (
        lambda: hf.DeepseekV3Config(**MLA), "kv_a_proj_with_mqa kv_b_proj q_a_proj q_b_proj", "o_proj", None,
    ),
    "deepseek-base": (
        lambda: DeepSeekBaseConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=1),
        "query_key_value", "output", "down_proj gate_proj up_proj",
    ),
    "mamba": (lambda: hf.MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, state_size=4), None, None, None),
    "mamba2": (
        lambda: hf.Mamba2Config(
            vocab_size=64, hidden_size=32, num_hidden_layers=1, state_size=4, num_heads=8, head_dim=8, n_groups=1
        ),
        None, None, None,
    ),
    "vit": (lambda: hf.ViTConfig(**IMAGE), QKV_PROJ, "o_proj", "fc1 fc2"),
    "deit": (lambda: hf.DeiTConfig(**IMAGE), QKV_PROJ, "o_proj", "fc1 fc2"),
    "dinov2": (lambda: hf.Dinov2Config(**IMAGE), QKV_PROJ, "o_proj", "fc1 fc2"),
    "beit": (lambda: hf.BeitConfig(**IMAGE), QKV_PROJ, "o_proj", "fc1 fc2"),
    "swin": (
        lambda: hf.SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4),
        QKV_PROJ, "o_proj", "fc1 fc2",
    ),
    "clip": (lambda: hf.CLIPConfig(text_config=dict(TEXT), vision_config=dict(IMAGE)), QKV_PROJ, "out_proj", "fc1 fc2"),
    "siglip": (
        lambda: hf.SiglipConfig(text_config=dict(TEXT), vision_config=dict(IMAGE)), QKV_PROJ, "self_attn.out_proj", "fc1 fc2",
    ),
    "whisper": (lambda: hf.WhisperConfig(**BART, num_mel_bins=8, max_source_positions=16, suppress_tokens=[], begin_suppress_tokens=[]), QKV_PROJ, "out_proj", "fc1 fc2"),
    "wav2vec2": (
        lambda: hf.Wav2Vec2Config(
            **TEXT, conv_dim=(8, 8), conv_stride=(2, 2), conv_kernel=(3, 3), num_feat_extract_layers=2,
            num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, mask_time_prob=0.0,
        ),
        QKV_PROJ, "out_proj", "intermediate_dense output_dense",
    ),
    "convnext": (lambda: hf.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2), None, None, "pwconv1 pwconv2"),
    "resnet": (lambda: hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"), None, None, None),
}  # fmt: skip
NAMES = ("query_key_value", "attention_output", "mlp")
NO_LINEAR = {"resnet"}


def build(kind: str, device: str = "cpu") -> Any:
    torch.manual_seed(0)
    with torch.device(device):
        model = hf.AutoModel.from_config(CASES[kind][0]())
    return make_adaptable(model)


def inputs(model: Any) -> dict[str, torch.Tensor]:
    takes = set(inspect.signature(model.forward).parameters)
    kind = model.config.model_type
    made: dict[str, torch.Tensor] = {}
    if kind == "wav2vec2":
        made["input_values"] = torch.randn(2, 64)
    if kind == "whisper":
        made["input_features"] = torch.randn(2, 8, 2 * model.config.max_source_positions)
    if "pixel_values" in takes and kind != "layoutlmv3":
        made["pixel_values"] = torch.randn(2, 3, 32, 32)
    if "input_ids" in takes:
        made["input_ids"] = torch.randint(3, 64, (2, 12))
    if "decoder_input_ids" in takes:
        made["decoder_input_ids"] = torch.randint(3, 64, (2, 12))
    return made


def total(output: Any) -> torch.Tensor:
    """A number that depends on all that a model puts out."""
    tensors = [v for k, v in output.items() if isinstance(v, torch.Tensor) and v.requires_grad and "loss" not in k]
    return sum((t.float() * torch.randn_like(t.float())).sum() for t in tensors)


def silent(kind: str, **config: Any) -> Any:
    """A model with an adapter that was added without a warning from PEFT."""
    model = build(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.add_adapter("a", LoRAConfig(r=2, **config))
    return model


@pytest.mark.parametrize("kind", CASES)
def test_general_names_mean_the_layers_of_each_architecture(kind: str) -> None:
    model = build(kind, "meta")
    for name, expected in zip(NAMES, CASES[kind][1:], strict=True):
        if expected is None:
            with pytest.raises(UnknownNameError) as caught:
                resolve_targets(model, [name])
            message = str(caught.value)
            assert "can be adapted" in message or "no linear layer" in message or "target_parameters" in message
            assert f"Did you mean '{name}'" not in message
        else:
            assert " ".join(resolve_targets(model, [name])) == expected


@pytest.mark.parametrize("kind", [k for k in CASES if k not in NO_LINEAR])
def test_every_adapted_layer_learns(kind: str) -> None:
    """An adapter on a layer whose weight the model reads without calling it would get no gradient."""
    names = [n for n, expected in zip(NAMES, CASES[kind][1:], strict=True) if expected is not None]
    for targets in (names, ["all-linear"]) if names else (["all-linear"],):
        model = silent(kind, target_modules=targets)
        model.train(kind in {"mamba", "mamba2"})
        torch.manual_seed(1)
        total(model(**inputs(model))).backward()
        silent_layers = {
            re.sub(r"\.lora_B.*", "", n)
            for n, w in model.named_parameters()
            if ".lora_B." in n and (w.grad is None or not w.grad.any())
        }
        assert not silent_layers


@pytest.mark.parametrize("kind", [k for k in CASES if k not in NO_LINEAR])
def test_all_linear_is_every_linear_layer_that_can_be_adapted(kind: str) -> None:
    model = build(kind, "meta")
    names = resolve_targets(model, ["all-linear"])
    for name in NAMES:
        expected = CASES[kind][1:][NAMES.index(name)]
        for layer in (expected or "").split():
            assert any(layer.endswith(n.rpartition(".")[2]) for n in names)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_bigcode"])
def test_transposed_layers_are_told_apart(kind: str) -> None:
    model = silent(kind, target_modules=["query_key_value", "mlp"])
    assert model.peft_config["a"].fan_in_fan_out == (kind == "gpt2")


def test_convolutional_networks_say_what_to_do_instead() -> None:
    with pytest.raises(UnknownNameError, match="train all its weights, or its head alone"):
        resolve_targets(build("resnet", "meta"), ["all-linear"])


def test_experts_are_adapted_as_parameters() -> None:
    model = build("mixtral")
    with pytest.raises(
        UnknownNameError, match=r"target_parameters \(mlp.experts.down_proj, mlp.experts.gate_up_proj\)"
    ):
        resolve_targets(model, ["mlp"])
    with pytest.raises(UnknownNameError, match=r"target parameter 'experts\.gate_proj'"):
        model.add_adapter("a", LoRAConfig(r=2, target_parameters=["experts.gate_proj"]))
    model.add_adapter("a", LoRAConfig(r=2, target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]))
    batch = inputs(model)
    for name, weight in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(weight, std=0.1)
    with torch.inference_mode():
        expected = model.eval()(**batch).last_hidden_state
        merged = model.merge_adapter("a").eval()
        torch.testing.assert_close(merged(**batch).last_hidden_state, expected, rtol=1e-4, atol=1e-5)
        assert {n for n, _ in merged.named_parameters()} == {n for n, _ in build("mixtral").named_parameters()}


@pytest.mark.parametrize(
    ("kind", "layers", "expected"),
    [("llama", [-1], {0}), ("bert", [0], {0}), ("t5", [-1], {0}), ("swin", [-1], {1}), ("deepseek_v2", [1, -1], {1})],
)
def test_layers_count_from_either_end(kind: str, layers: list[int], expected: set[int]) -> None:
    model = build(kind, "meta")
    model.add_adapter("a", LoRAConfig(r=2, layers=layers))
    adapted = [n for n, w in model.named_parameters() if w.requires_grad]
    assert {layer_of(n)[2] for n in adapted} == expected  # type: ignore[index]


@pytest.mark.parametrize(
    ("config", "layers", "message"),
    [
        (lambda: hf.BertConfig(**{**TEXT, "num_hidden_layers": 3}), [3], r"has 3 layers .*from -3 to 2; received layers \[3\]"),
        (lambda: hf.BertConfig(**TEXT), [-2, 0], r"has 1 layer .*received layers \[-2\]"),
        (lambda: hf.AlbertConfig(**{**TEXT, "num_hidden_layers": 3}, embedding_size=16), [1], "3 times with the same weights"),
        (lambda: hf.T5Config(**T5, num_decoder_layers=2), [-1], "different depth .*decoder.block: 2, encoder.block: 1"),
    ],
)  # fmt: skip
def test_layers_that_do_not_exist(config: Callable[[], Any], layers: list[int], message: str) -> None:
    with torch.device("meta"):
        model: Any = make_adaptable(hf.AutoModel.from_config(config()))
    with pytest.raises(ConfigError, match=message):
        model.add_adapter("a", LoRAConfig(layers=layers))
    assert not model.adapter_names()


def test_a_head_of_the_same_name_is_not_adapted() -> None:
    """RoBERTa's classifier has a `dense` layer too, as the blocks have."""
    model: Any = make_adaptable(hf.RobertaForSequenceClassification(hf.RobertaConfig(**TEXT)))
    for names in (["all-linear"], ["attention_output"], ["mlp"]):
        assert all("classifier" not in name for name in resolve_targets(model, names))
        model.add_adapter("a", LoRAConfig(r=2, target_modules=names))
        assert not [n for n, _ in model.named_parameters() if n.startswith("classifier") and "lora" in n]
        model.unload_adapters()

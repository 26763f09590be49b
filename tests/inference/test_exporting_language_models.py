"""Language models in other formats: the same logits and tokens to whoever reads the files; whole, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from deepseek.errors import AccuracyError, ConfigError
from deepseek.inference.exporting import export
from deepseek.inference.exporting.comparing import TEXTS
from deepseek.models import from_pretrained, resolve

pytestmark = pytest.mark.usefixtures("one_thread")
QUESTIONS = ["a moving and funny film", "dull", "a film that takes its time, and gives it back with interest"]
SHAPE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
FAMILIES: dict[str, Any] = {
    "llama": lambda n: transformers.LlamaConfig(vocab_size=n, **SHAPE, tie_word_embeddings=False),
    "mistral": lambda n: transformers.MistralConfig(vocab_size=n, **SHAPE, sliding_window=None),
    "qwen2": lambda n: transformers.Qwen2Config(vocab_size=n, **SHAPE, tie_word_embeddings=True),
    "qwen3": lambda n: transformers.Qwen3Config(vocab_size=n, **SHAPE, head_dim=128, tie_word_embeddings=True),
}


def byte_level(kind: str = "gpt-2") -> transformers.PreTrainedTokenizerFast:
    """A small byte-level BPE, trained on the texts of these tests."""
    made = tokenizers.Tokenizer(models.BPE())
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if kind == "smollm":
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    if kind == "unknown":
        steps.insert(0, pre_tokenizers.Split("-", "isolated"))
    made.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>", "<|start|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(TEXTS, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|end|>", bos_token="<|start|>", pad_token="<|end|>"
    )


def language_model(folder: Path, family: str, tokenizer: Any = None, **changes: Any) -> Path:
    torch.manual_seed(0)
    tokenizer = tokenizer or byte_level()
    config = FAMILIES[family](len(tokenizer) + 3)  # rows without a token, as padded vocabularies have
    for name, value in {"bos_token_id": 1, "eos_token_id": 0, **changes}.items():
        setattr(config, name, value)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():  # norms and biases that are all ones or zeros would hide a mistake
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def asked(tokenizer: Any) -> dict[str, torch.Tensor]:
    return dict(tokenizer(QUESTIONS, padding=True, return_tensors="pt"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "q8_0"])
def test_a_gguf_file_is_the_model_to_transformers_and_to_us(
    family: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
    source = language_model(tmp_path / "model", family)
    folder, report = export(source, "gguf", output=tmp_path / "made", dtype=dtype)
    (file,) = folder.glob("*.gguf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    batch = {"input_ids": tokenizer(TEXTS[4], return_tensors="pt")["input_ids"]}
    with torch.no_grad():
        expected = transformers.AutoModelForCausalLM.from_pretrained(source)(**batch).logits
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.float32)
        found = theirs(**batch).logits
        ours = from_pretrained(file, head="causal-lm").eval()(**batch).logits
    torch.testing.assert_close(found, ours)
    error = (found - expected).norm() / expected.norm()
    assert error < {"float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2, "q8_0": 3e-2}[dtype]
    assert report.error < 0.03
    same = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
    for text in (*TEXTS, "<|start|>hello<|end|>"):
        assert same(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (same.bos_token, same.eos_token) == ("<|start|>", "<|end|>")


@pytest.mark.slow
def test_a_real_language_model_as_gguf(smollm: Path, tmp_path: Path) -> None:
    folder, report = export("smollm2-135m-instruct", "gguf", output=tmp_path / "made", dtype="q8_0")
    file = folder / "smollm2-135m-instruct-Q8_0.gguf"
    assert report.model_bytes == file.stat().st_size < 0.3 * report.reference_bytes
    assert report.agreement is not None
    assert report.agreement > 0.95
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name)
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    new = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
    assert "Paris" in tokenizer.decode(new)


def test_a_language_model_as_an_exported_program(tmp_path: Path) -> None:
    source = language_model(tmp_path / "model", "qwen3")
    folder, _ = export(source, "torch-export", output=tmp_path / "made")
    batch = asked(transformers.AutoTokenizer.from_pretrained(source))
    with torch.no_grad():
        expected = transformers.AutoModelForCausalLM.from_pretrained(source)(**batch).logits
    mask = batch["attention_mask"].bool()
    found = torch.export.load(folder / "model.pt2").module()(**batch)["logits"].detach()
    torch.testing.assert_close(found[mask], expected[mask], rtol=1e-4, atol=1e-4)


def test_an_export_is_not_overwritten_unasked_and_fails_whole(tmp_path: Path) -> None:
    source = language_model(tmp_path / "model", "llama")
    folder, _ = export(source, "gguf", output=tmp_path / "made")
    before = contents(folder)
    with pytest.raises(ConfigError, match="--force"):
        export(source, "gguf", output=folder)
    with pytest.raises(AccuracyError, match=r"off by .* expected at most"):
        export(source, "gguf", output=folder, dtype="q8_0", max_error=1e-9, force=True)
    assert contents(folder) == before
    export(source, "gguf", output=folder, dtype="q8_0", force=True)
    assert [p.name for p in folder.glob("*.gguf")] == ["model-Q8_0.gguf"]
    with pytest.raises(ConfigError, match="no export"):
        export(source, "gguf", output=source, force=True)
    assert (source / "model.safetensors").is_file()
    assert {p.name for p in tmp_path.iterdir()} == {"model", "made"}


def test_what_gguf_cannot_say_is_refused(tmp_path: Path) -> None:
    window = language_model(tmp_path / "window", "mistral", sliding_window=64)
    with pytest.raises(ConfigError, match="sliding_window=64"):
        export(window, "gguf", output=tmp_path / "made")
    odd = language_model(tmp_path / "odd", "llama", byte_level("unknown"))
    with pytest.raises(ConfigError, match="cuts text by a rule"):
        export(odd, "gguf", output=tmp_path / "made")
    pieces = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="[UNK]")
    with pytest.raises(ConfigError, match="received WordPiece after Whitespace"):
        export(language_model(tmp_path / "words", "llama", words), "gguf", output=tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_the_rule_by_which_text_is_cut_has_llama_cpps_name(tmp_path: Path) -> None:
    from deepseek.models.gguf.header import read_header

    for kind in ("gpt-2", "smollm"):
        source = language_model(tmp_path / kind, "llama", byte_level(kind))
        folder, _ = export(source, "gguf", output=tmp_path / f"{kind}-made")
        (file,) = folder.glob("*.gguf")
        assert read_header(file).metadata["tokenizer.ggml.pre"] == kind


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from deepseek.cli.app import app

    source = language_model(tmp_path / "model", "qwen2")
    target = str(tmp_path / "made")
    done = CliRunner().invoke(app, ["export", str(source), "--to", "gguf", "--dtype", "q8_0", "--output", target])
    assert done.exit_code == 0, done.output
    assert "gguf q8_0" in done.stdout
    assert "same answers" in done.stdout
    again = CliRunner().invoke(app, ["export", str(source), "--to", "gguf", "--output", target, "--force", "--json"])
    assert json.loads(again.stdout)["dtype"] == "float32"
    assert resolve(next((tmp_path / "made").glob("*.gguf"))).path.is_dir()

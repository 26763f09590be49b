"""An export opens in the tool that it is for, answers as the model does there, and is there whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from deepseek.bundles import Bundle
from deepseek.errors import AccuracyError, ConfigError, UnknownNameError
from deepseek.inference.exporting import EXPORT_FORMATS, ExportReport, export
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


@pytest.fixture(scope="module")
def classifier(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights for three labels, with a real vocabulary."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("exporting") / "stars"
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        id2label={0: "low", 1: "middle", 2: "high"}, initializer_range=0.1,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(minilm).save_pretrained(folder)
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def asked(tokenizer: Any) -> dict[str, torch.Tensor]:
    return dict(tokenizer(QUESTIONS, padding=True, return_tensors="pt"))


def answered_by(format_: str, folder: Path, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits as a user of the other tool gets them, without this package."""
    arrays = {name: value.numpy() for name, value in batch.items()}
    if format_ == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(["logits"], arrays)[0]).float()
    if format_ == "openvino":
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(folder / "openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return torch.from_numpy(compiled(arrays)["logits"].copy())
    return torch.export.load(folder / "model.pt2").module()(**batch)["logits"].float().detach()


@pytest.mark.parametrize(
    ("to", "dtype", "tolerance"),
    [
        ("openvino", "float32", 1e-4), ("openvino", "float16", 2e-2), ("openvino", "int8", 0.1),
        ("torch-export", "float32", 1e-4), ("torch-export", "bfloat16", 0.1),
        ("onnx", "float32", 1e-4), ("onnx", "int8", 0.3),
    ],
)  # fmt: skip
def test_a_classifier_answers_in_the_other_tool(
    to: str, dtype: str, tolerance: float, classifier: Path, tmp_path: Path
) -> None:
    folder, report = export(classifier, to, output=tmp_path / "made", dtype=dtype)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    expected_model = transformers.AutoModelForSequenceClassification.from_pretrained(classifier)
    for texts in (QUESTIONS, QUESTIONS[:1], list(TEXTS)):
        batch = dict(tokenizer(texts, padding=True, return_tensors="pt"))
        with torch.no_grad():
            expected = expected_model(**batch).logits
        found = answered_by(to, folder, batch)
        assert found.shape == expected.shape
        assert (found - expected).norm() / expected.norm() < tolerance
    assert transformers.AutoConfig.from_pretrained(folder).id2label == {0: "low", 1: "middle", 2: "high"}
    assert ExportReport.model_validate_json((folder / "export.json").read_text()) == report
    assert report.error < tolerance
    assert report.agreement is not None
    assert report.agreement == 1.0 or dtype != "float32"
    assert len({each.batch for each in report.comparisons}) == len(report.comparisons) == 4
    assert all(each.seconds > 0 and each.reference_seconds > 0 for each in report.comparisons)
    share = {"float32": 1.2, "float16": 0.7, "bfloat16": 0.7, "int8": 0.5}[dtype]
    assert report.model_bytes < share * report.reference_bytes
    assert set(report.files) == {p.relative_to(folder).as_posix() for p in contents(folder)} - {"export.json"}


def test_a_real_bundle_in_int8_keeps_its_answers(bundle: Bundle, tmp_path: Path) -> None:
    folder, report = export(bundle.path, "onnx", output=tmp_path / "made", dtype="int8")
    assert report.model_bytes < 0.3 * report.reference_bytes
    assert report.task["config"]["labels"] == list(bundle.task.labels)  # type: ignore[attr-defined]
    assert not (folder / "deepseek.json").exists()  # it is no bundle any more
    batch = asked(transformers.AutoTokenizer.from_pretrained(folder))
    with torch.no_grad():
        expected = bundle.load_model().eval()(**batch).logits
    assert torch.equal(answered_by("onnx", folder, batch).argmax(-1), expected.argmax(-1))


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
    torch.testing.assert_close(answered_by("torch-export", folder, batch)[mask], expected[mask], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_pictures(to: str, tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8
    )
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path / "model")
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "model")
    folder, report = export(tmp_path / "model", to, output=tmp_path / "made")
    assert report.error < 1e-4
    batch = {"pixel_values": torch.randn(3, 3, 32, 32)}
    torch.testing.assert_close(answered_by(to, folder, batch), model(**batch).logits.detach(), rtol=1e-3, atol=1e-4)
    assert (folder / "preprocessor_config.json").is_file()


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


def test_what_gguf_cannot_say_is_refused(tmp_path: Path, classifier: Path) -> None:
    with pytest.raises(ConfigError, match=r"sequence-classification. Formats that can: onnx, openvino, torch-export"):
        export(classifier, "gguf", output=tmp_path / "made")
    with pytest.raises(UnknownNameError, match="q8_0"):
        export(classifier, "onnx", dtype="q8_0", output=tmp_path / "made")
    with pytest.raises(UnknownNameError, match="onnx"):
        export(classifier, "onx", output=tmp_path / "made")
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


@pytest.mark.parametrize(("to", "operator"), [("onnx", "aten.special_airy_ai"), ("openvino", "aten::special_airy_ai")])
def test_an_operator_that_a_format_lacks_is_named_with_its_layer(
    to: str, operator: str, tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.bert.modeling_bert import BertIntermediate

    plain = BertIntermediate.forward
    monkeypatch.setattr(BertIntermediate, "forward", lambda self, x: plain(self, x) + torch.special.airy_ai(x).mean())
    with pytest.raises(ConfigError, match=rf"{operator}.*encoder\.layer\.0\.intermediate.*runtime 'torch'"):
        export(classifier, to, output=tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_a_head_without_weights_is_not_exported(minilm: Path, tmp_path: Path) -> None:
    for to in ("openvino", "torch-export"):
        with pytest.raises(ConfigError, match="no weights for classifier"):
            export(minilm, to, task="text-classification", output=tmp_path / "made")


def test_a_layer_without_weights_gives_no_output_and_pooling_comes_along(minilm: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    tokenizer.save_pretrained(tmp_path / "model")
    folder, _ = export(tmp_path / "model", "torch-export", task="sentence-embedding", output=tmp_path / "made")
    found = torch.export.load(folder / "model.pt2").module()(**asked(tokenizer))
    assert set(found) == {"last_hidden_state"}
    assert {"modules.json", "1_Pooling"} <= {p.name for p in folder.iterdir()}  # for sentence-transformers


def test_each_format_says_what_it_takes() -> None:
    from deepseek.models.loading import HEADS

    for name in EXPORT_FORMATS.names():
        kind = EXPORT_FORMATS.get(name)
        assert kind.name == name
        assert set(kind.heads) <= set(HEADS)
        assert kind.dtypes[0] == "float32"


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

"""An export opens in the tool that it is for, answers as the model does there, and is there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from deepseek.bundles import Bundle
from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference.exporting import EXPORT_FORMATS, ExportReport, export
from deepseek.inference.exporting.comparing import TEXTS

pytestmark = pytest.mark.usefixtures("one_thread")
QUESTIONS = ["a moving and funny film", "dull", "a film that takes its time, and gives it back with interest"]


@pytest.fixture(scope="module")
def classifier(save_classifier: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("exporting") / "stars")


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
        ("onnx", "float32", 1e-4), ("onnx", "float16", 2e-2), ("onnx", "int8", 0.3),
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


def test_what_a_format_does_not_take_is_refused_with_those_that_do(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"sequence-classification. Formats that can: executorch, onnx, openvino, torch-export"
    ):
        export(classifier, "gguf", output=tmp_path / "made")
    with pytest.raises(UnknownNameError, match="q8_0"):
        export(classifier, "onnx", dtype="q8_0", output=tmp_path / "made")
    with pytest.raises(UnknownNameError, match="onnx"):
        export(classifier, "onx", output=tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_each_format_says_what_it_takes() -> None:
    from deepseek.models.loading import HEADS

    for name in EXPORT_FORMATS.names():
        kind = EXPORT_FORMATS.get(name)
        assert kind.name == name
        assert set(kind.heads) <= set(HEADS)
        assert kind.dtypes[0] == "float32"

"""An ExecuTorch program runs without this package, up to its largest batch, and what it cannot express is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from typer.testing import CliRunner

from deepseek.cli.app import app
from deepseek.errors import ConfigError, MissingExtraError
from deepseek.inference.exporting import EXPORT_FORMATS, ExportReport, export

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(save_classifier: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer, and texts of at most 128 tokens."""
    folder = tmp_path_factory.mktemp("executorch") / "stars"
    return save_classifier(folder, longest=128, num_hidden_layers=1)


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    pytest.importorskip("executorch", reason="needs the extra executorch")
    return export(model, "executorch", output=tmp_path_factory.mktemp("executorch") / "made")


def answered(folder: Path, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Outputs as a user of ExecuTorch gets them, without this package."""
    from executorch.runtime import Runtime

    about = json.loads((folder / "about.json").read_text())
    program = Runtime.get().load_program(folder / "model.pte")
    outputs = program.load_method("forward").execute([batch[name] for name in about["inputs"]])
    return dict(zip(about["outputs"], outputs, strict=True))


def tokens(rows: int, length: int) -> dict[str, torch.Tensor]:
    """Random tokens; every row after the first is padded from its middle on."""
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[1:, (length + 1) // 2 :] = 0
    ids = torch.randint(1000, 20000, (rows, length)) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (1, 2), (1, 77), (2, 6), (3, 128), (8, 1), (8, 33)])
def test_it_answers_as_the_model_for_shapes_that_it_was_not_traced_with(
    rows: int, length: int, made: tuple[Path, ExportReport], model: Path
) -> None:
    batch = tokens(rows, length)
    with torch.no_grad():
        expected = transformers.AutoModelForSequenceClassification.from_pretrained(model)(**batch).logits
    torch.testing.assert_close(answered(made[0], batch)["logits"], expected, rtol=1e-3, atol=1e-4)


def test_the_report_has_errors_sizes_times_and_the_largest_batch(made: tuple[Path, ExportReport]) -> None:
    folder, report = made
    assert ExportReport.model_validate_json((folder / "export.json").read_text()) == report
    assert (report.format, report.dtype, report.agreement) == ("executorch", "float32", 1.0)
    assert report.error < 1e-4
    assert len(report.comparisons) == 4
    assert all(each.seconds > 0 and each.reference_seconds > 0 for each in report.comparisons)
    assert (folder / "model.pte").stat().st_size < report.model_bytes < 1.2 * report.reference_bytes
    assert "executorch" in report.versions
    assert report.notes[0].startswith("takes up to 8 rows of up to 128 tokens; plans ")
    assert {"model.pte", "about.json", "tokenizer.json", "config.json"} <= set(report.files)


@pytest.mark.parametrize(("rows", "length"), [(9, 4), (1, 129)])
def test_a_batch_larger_than_it_planned_for_is_refused(rows: int, length: int, made: tuple[Path, ExportReport]) -> None:
    opened = EXPORT_FORMATS.get("executorch")().open(made[0])
    with pytest.raises(ConfigError, match=rf"up to 8 rows of up to 128 tokens, received \({rows}, {length}\)"):
        opened.forward(tokens(rows, length))
    assert opened.forward(tokens(8, 128))["logits"].shape == (8, 3)


def test_the_command_writes_labels_of_tokens_in_half_precision(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason="needs the extra executorch")
    labels = transformers.BertForTokenClassification(transformers.AutoConfig.from_pretrained(model)).eval()
    labels.save_pretrained(tmp_path / "labels")
    transformers.AutoTokenizer.from_pretrained(model).save_pretrained(tmp_path / "labels")
    options = ["--to", "executorch", "--dtype", "float16", "--task", "token-classification", "--json"]
    done = CliRunner().invoke(app, ["export", str(tmp_path / "labels"), *options, "--output", str(tmp_path / "made")])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["model_bytes"] < 0.7 * report["reference_bytes"]
    batch = tokens(3, 20)
    expected, found = labels(**batch).logits, answered(tmp_path / "made", batch)["logits"]
    assert found.dtype == torch.float16
    keep = batch["attention_mask"].bool()
    assert (found.float() - expected)[keep].norm() / expected[keep].norm() < 2e-2


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason="needs the extra executorch")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8
    )
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path / "model")
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "model")
    folder, report = export(tmp_path / "model", "executorch", output=tmp_path / "made")
    assert report.error < 1e-4
    assert report.notes[0].startswith("takes up to 8 rows; plans ")
    batch = {"pixel_values": torch.randn(3, 3, 32, 32)}
    expected = model(**batch).logits.detach()
    torch.testing.assert_close(answered(folder, batch)["logits"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("operator", "call"),
    [
        ("aten.special_airy_ai", lambda x: torch.special.airy_ai(x).mean()),  # no part of ExecuTorch's dialect
        ("aten.sort", lambda x: x.sort().values.mean()),  # a part of it, without a kernel
    ],
)
def test_an_operator_without_a_kernel_is_named_with_its_layer(
    operator: str, call: Callable[[Any], Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("executorch", reason="needs the extra executorch")
    from transformers.models.bert.modeling_bert import BertIntermediate

    plain = BertIntermediate.forward
    monkeypatch.setattr(BertIntermediate, "forward", lambda self, x: plain(self, x) + call(x))
    with pytest.raises(ConfigError, match=rf"{operator}, .*encoder\.layer\.0\.intermediate.*runtime 'torch'"):
        export(model, "executorch", output=tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_without_its_package_the_extra_is_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'deepseek\[executorch\]'"):
        export(model, "executorch", output=tmp_path / "made")
    assert not list(tmp_path.iterdir())

"""An int8 copy enters a bundle if it scores as well, and never half."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from deepseek.bundles import Bundle
from deepseek.cli.quantize import command as quantize_command
from deepseek.errors import AccuracyError, ConfigError, DataError, UnknownNameError
from deepseek.inference import RUNTIMES, Predictor, quantize
from deepseek.inference.choice import choose
from deepseek.inference.openvino.library import openvino_core
from deepseek.inference.runtime import Availability

pytestmark = pytest.mark.usefixtures("one_thread", "nothing_compiled")
pytest.importorskip("nncf")
TEXTS = [{"text": "a moving and funny film"}, {"text": "a dull and tired mess"}, {"text": "simply wonderful acting"}]


@pytest.fixture
def own(bundle: Any, tmp_path: Path) -> Path:
    shutil.copytree(bundle.path, tmp_path / "sentiment")
    return tmp_path / "sentiment"


def test_a_copy_that_is_as_good_is_added_used_and_replaced(
    own: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("deepseek.inference.choice.choosing.cache_dir", lambda: tmp_path)
    many = rows * 6
    with pytest.raises(ConfigError, match="deepseek quantize"):
        Predictor.load(own, runtime="openvino", dtype="int8")
    made = quantize(own, many, runtime="openvino", calibration=8)
    copy = made.copies["openvino"]
    assert copy.record.metric == "accuracy"
    assert copy.record.rows == len(many) - 8
    assert copy.drop <= 0.005
    found = Bundle.open(own, verify=True)
    first = found.manifest.compiled["openvino-int8"].folder
    assert (own / first / "model.xml").is_file()
    weights = sum(f.stat().st_size for f in (own / first).iterdir())
    assert weights < 0.5 * (own / "model.safetensors").stat().st_size
    labels = [a["label"] for a in Predictor.load(own).predict(TEXTS)]
    small = Predictor.load(own, runtime="openvino", dtype="int8")
    assert [a["label"] for a in small.predict(TEXTS)] == labels

    choice = choose(own, batch_size=2)
    (int8,) = [t for t in choice.trials if t.dtype == "int8"]
    assert int8.validated
    assert int8.seconds
    assert "differ" not in int8.verdict  # it was scored: how far its outputs are off is only shown

    with pytest.raises(AccuracyError, match="accuracy from"):
        quantize(own, many, runtime="openvino", calibration=8, max_drop=-2.0)
    assert Bundle.open(own, verify=True).manifest == found.manifest
    quantize(own, many, runtime="openvino", calibration=3, seed=1)
    again = Bundle.open(own, verify=True)
    assert [p.name for p in (own / "compiled").iterdir()] == [
        Path(again.manifest.compiled["openvino-int8"].folder).name
    ]
    assert not list(tmp_path.glob(".quantized-*"))


def test_a_copy_for_onnx_runtime_stands_beside_openvinos(
    own: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    monkeypatch.setattr("deepseek.inference.choice.choosing.cache_dir", lambda: tmp_path)
    with pytest.raises(ConfigError, match="--runtime onnxruntime"):
        Predictor.load(own, runtime="onnxruntime", dtype="int8")
    made = quantize(own, rows * 6, runtime="onnxruntime", calibration=8)
    file = own / Bundle.open(own, verify=True).manifest.compiled["onnxruntime-int8"].folder / "model.onnx"
    assert file.stat().st_size < 0.5 * (own / "model.safetensors").stat().st_size
    assert "MatMulInteger" in {node.op_type for node in onnx.load(file).graph.node}
    onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert made.copies["onnxruntime"].record.versions["onnxruntime"] == onnxruntime.__version__
    small = Predictor.load(own, runtime="onnxruntime", dtype="int8")
    assert [a["label"] for a in small.predict(TEXTS)] == [a["label"] for a in Predictor.load(own).predict(TEXTS)]
    trials = {(t.runtime, t.dtype): t for t in choose(own, batch_size=2).trials}
    assert trials["onnxruntime", "int8"].validated
    assert trials["onnxruntime", "float32"].error < 1e-4  # type: ignore[operator]
    assert ("openvino", "int8") not in trials


def test_weights_in_4_bits_stand_beside_8(
    own: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("deepseek.inference.choice.choosing.cache_dir", lambda: tmp_path)
    with pytest.raises(ConfigError, match=r"no int4 copy for openvino; .* --runtime openvino --dtype int4"):
        Predictor.load(own, runtime="openvino", dtype="int4")
    made = quantize(own, rows * 6, dtype="int4", calibration=2)
    assert set(made.copies) == {"openvino"}
    folder = own / Bundle.open(own, verify=True).manifest.compiled["openvino-int4"].folder
    kinds = {node.get_element_type().to_string() for node in openvino_core().read_model(folder / "model.xml").get_ops()
             if node.get_type_name() == "Constant"}  # fmt: skip
    assert "i4" in kinds
    whole = sum(parameter.numel() for parameter in Predictor.load(own).model.model.base_model.encoder.parameters())
    size, embedded = sum(f.stat().st_size for f in folder.iterdir()), 30522 * 384
    assert size - embedded < 0.8 * whole  # a byte each would be more, with all else in it
    answers = [Predictor.load(own, runtime=runtime, dtype=dtype).predict(TEXTS)
               for runtime, dtype in (("torch", "float32"), ("openvino", "int4"))]  # fmt: skip
    assert [a["label"] for a in answers[0]] == [a["label"] for a in answers[1]]
    [trial] = [t for t in choose(own, batch_size=2).trials if t.dtype == "int4"]
    assert (trial.runtime, trial.validated) == ("openvino", True)


def test_every_runtime_here_gets_a_copy(own: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    makers = [name for name in RUNTIMES.names() if "int8" in RUNTIMES.get(name).makes_copies]
    assert {"native", "onnxruntime", "openvino"} <= set(makers)

    def worse(self: Any, *_: Any) -> None:
        raise ConfigError("no graph for such models")

    monkeypatch.setattr(RUNTIMES.get("onnxruntime"), "quantize", worse)
    made = quantize(own, rows * 6, calibration=8)
    assert "openvino" in made.copies
    assert made.refused["onnxruntime"] == "no graph for such models"
    here = {name for name in makers if RUNTIMES.get(name).available().works}
    assert set(made.copies) | set(made.refused) == here
    assert set(Bundle.open(own, verify=True).manifest.compiled) == {f"{name}-int8" for name in made.copies}
    before = Bundle.open(own).manifest

    def loses(self: Any, *_: Any) -> None:
        raise AccuracyError("brings accuracy down")

    for name in set(here) - {"onnxruntime"}:
        monkeypatch.setattr(RUNTIMES.get(name), "quantize", loses)
    with pytest.raises(AccuracyError, match=r"onnxruntime: no graph for such models\nopenvino: brings accuracy down"):
        quantize(own, rows * 6, calibration=8)
    assert Bundle.open(own, verify=True).manifest == before
    for name in here:
        monkeypatch.setattr(RUNTIMES.get(name), "available", lambda: Availability(False, (), "elsewhere"))
    with pytest.raises(ConfigError, match=r"native: .*openvino: elsewhere"):
        quantize(own, rows * 6)


def test_the_command_shows_each_copy(
    own: Path, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows * 6), encoding="utf-8")
    quantize_command(str(own), str(file), calibration=8, json=True)
    found = json.loads(capsys.readouterr().out)
    sizes = {copy["runtime"]: copy["bytes"] for copy in found["copies"]}
    assert {"onnxruntime", "openvino"} <= set(sizes)
    assert not set(sizes) & set(found["refused"])
    quantize_command(str(own), str(file), runtime="onnxruntime", calibration=8)
    out = capsys.readouterr().out
    whole = (own / "model.safetensors").stat().st_size
    assert "onnxruntime int8" in out
    assert f"{whole / 1e6:,.1f} MB" in out
    assert "openvino" not in out


def test_what_cannot_be_quantised_is_refused_before_work(own: Path, rows: list[dict[str, Any]], minilm: Path) -> None:
    with pytest.raises(ConfigError, match="no bundle"):
        quantize(minilm, rows * 6)
    with pytest.raises(DataError, match="at least 40 rows"):
        quantize(own, rows)
    with pytest.raises(ConfigError, match="'torch' makes no int8 copies; these do: native, onnxruntime, openvino"):
        quantize(own, rows * 6, runtime="torch", calibration=2)
    with pytest.raises(ConfigError, match="'onnxruntime' makes no int4 copies; these do: openvino"):
        quantize(own, rows * 6, runtime="onnxruntime", dtype="int4")
    with pytest.raises(UnknownNameError, match="int2"):
        quantize(own, rows * 6, dtype="int2")
    with pytest.raises(DataError, match="label"):
        quantize(own, [{"text": row["text"]} for row in rows * 6])
    assert Bundle.open(own, verify=True).manifest.compiled == {}

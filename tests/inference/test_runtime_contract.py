"""What every runtime promises: the answers of the torch runtime, at any batch size, from any thread."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from deepseek.bundles import Bundle
from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference import RUNTIMES, Predictor
from deepseek.models import resolve, tokenizer_for

# the runtime native knows int8 copies alone: test_native_runtime.py
HERE = [name for name in RUNTIMES.names() if name != "native" and RUNTIMES.get(name).available().works]
# TorchInductor takes half a minute for each of these; it compiles one encoder in the quick tests
PATIENT = [pytest.param(n, marks=pytest.mark.slow if n == "torch-compile" else ()) for n in HERE]
TEXTS = ["good", "a moving and funny film, from its first minute to its last", "dull"]
SHAPE: dict[str, Any] = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ENCODERS: dict[str, Any] = {
    "bert": lambda: transformers.BertConfig(**SHAPE, intermediate_size=64),
    "roberta": lambda: transformers.RobertaConfig(**SHAPE, intermediate_size=64, type_vocab_size=1),
    "distilbert": lambda: transformers.DistilBertConfig(vocab_size=90, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    "modernbert": lambda: transformers.ModernBertConfig(**SHAPE, intermediate_size=64, pad_token_id=0),
    "deberta": lambda: transformers.DebertaV2Config(
        **SHAPE, intermediate_size=64, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8
    ),
    "electra": lambda: transformers.ElectraConfig(**SHAPE, intermediate_size=64, embedding_size=32),
}
pytestmark = pytest.mark.usefixtures("one_thread")


def loaded(name: str, path: Path, head: str, **options: Any) -> Any:
    return RUNTIMES.get(name)().load(resolve(path), head, **options)


@pytest.mark.parametrize("runtime", HERE)
def test_answers_are_those_of_torch(runtime: str, minilm: Path) -> None:
    tokenizer = tokenizer_for(minilm)
    reference = loaded("torch", minilm, "none", dtype="float32", device="cpu")
    model = loaded(runtime, minilm, "none", dtype="float32", device="cpu")
    for texts in (TEXTS, TEXTS[:1], TEXTS * 5):
        batch = dict(tokenizer(texts, padding=True, return_tensors="pt"))
        expected, found = (m.forward(batch)["last_hidden_state"] for m in (reference, model))
        mask = batch["attention_mask"].bool()
        assert found.dtype == torch.float32
        assert (found - expected)[mask].norm() / expected[mask].norm() < 1e-3
    before = found.clone()
    model.forward({**batch, "input_ids": batch["input_ids"].flip(1)})
    assert torch.equal(found, before)  # an answer outlives the next one
    without = {"input_ids": batch["input_ids"][:1, :3]}  # what is left out is as transformers assumes it
    torch.testing.assert_close(
        model.forward(without)["last_hidden_state"],
        reference.forward(without)["last_hidden_state"],
        rtol=1e-2,
        atol=1e-3,
    )


@pytest.mark.parametrize("runtime", PATIENT)
@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("head", ["sequence-classification", "token-classification", "masked-lm"])
def test_any_encoder_with_any_head(runtime: str, kind: str, head: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    auto = {"sequence-classification": "SequenceClassification", "token-classification": "TokenClassification",
            "masked-lm": "MaskedLM"}[head]  # fmt: skip
    getattr(transformers, f"AutoModelFor{auto}").from_config(ENCODERS[kind]()).save_pretrained(tmp_path)
    reference, model = (loaded(name, tmp_path, head, dtype="float32", device="cpu") for name in ("torch", runtime))
    for rows, tokens in ((1, 5), (4, 23)):
        ids = torch.randint(5, 90, (rows, tokens))
        mask = torch.ones_like(ids)
        mask[0, tokens // 2 :] = 0
        batch = {"input_ids": ids, "attention_mask": mask}
        expected, found = (m.forward(batch)["logits"] for m in (reference, model))
        if expected.ndim == 3:
            expected, found = expected[mask.bool()], found[mask.bool()]
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("runtime", PATIENT)
def test_a_vision_model(runtime: str, tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    reference, model = (
        loaded(name, tmp_path, "image-classification", dtype="float32", device="cpu") for name in ("torch", runtime)
    )
    for rows in (1, 3):
        batch = {"pixel_values": torch.randn(rows, 3, 32, 32)}
        torch.testing.assert_close(
            model.forward(batch)["logits"], reference.forward(batch)["logits"], rtol=1e-2, atol=2e-3
        )


@pytest.mark.parametrize("runtime", PATIENT)
def test_a_bundle_is_served_by_threads(runtime: str, bundle: Bundle) -> None:
    expected = Predictor.load(bundle.path, dtype="float32").predict([{"text": text} for text in TEXTS])
    predictor = Predictor.load(bundle.path, runtime=runtime, dtype="float32")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: predictor.predict([{"text": text}])[0], TEXTS * 6))
    for answer, wanted in zip(found, expected * 6, strict=True):
        assert answer["label"] == wanted["label"]
        assert answer["scores"] == pytest.approx(wanted["scores"], abs=2e-3)


@pytest.mark.parametrize("runtime", HERE)
def test_wrong_devices_and_precisions_are_named(runtime: str, minilm: Path) -> None:
    with pytest.raises(ConfigError, match="npu:7"):
        loaded(runtime, minilm, "none", device="npu:7")
    with pytest.raises(UnknownNameError, match="float8"):
        loaded(runtime, minilm, "none", dtype="float8")


def test_openvino_tells_nobody_and_converts_once(tmp_path: Path) -> None:
    transformers.BertForSequenceClassification(ENCODERS["bert"]()).save_pretrained(tmp_path / "model")
    script = (
        "import sys, torch; from deepseek.models import resolve; from deepseek.inference import RUNTIMES\n"
        "import deepseek.inference.openvino.conversion as conversion\n"
        "found = resolve(sys.argv[1]); runtime = RUNTIMES.get('openvino')()\n"
        "batch = {'input_ids': torch.tensor([[5, 6, 7]])}\n"
        "first = runtime.load(found, 'sequence-classification').forward(batch)['logits']\n"
        "conversion._convert = None\n"
        "second = runtime.load(found, 'sequence-classification').forward(batch)['logits']\n"
        "assert torch.equal(first, second)\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    environment = {**os.environ, "DEEPSEEK_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(ConfigError, match=r"no OpenVINO graph for models of type 'bert'.*'torch' runs it"):
        loaded("openvino", tmp_path / "model", "causal-lm")


def test_the_optional_runtimes_are_here() -> None:
    assert {"torch", "openvino", "onnxruntime"} <= set(HERE)  # else the tests above would test nothing

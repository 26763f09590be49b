"""Encoders in 8 bits in C: answers near to float32's for batches of every shape, and refusals by name."""

from __future__ import annotations

import ctypes
import itertools
import json
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.bundles import Bundle
from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference import Predictor, quantize
from deepseek.inference.choice import choose
from deepseek.inference.conversion.keeping import ABOUT
from deepseek.inference.native.calibration import Seen, seen
from deepseek.inference.native.encoder import NativeEncoder
from deepseek.inference.native.families import unfit
from deepseek.inference.native.runtime import SOURCE, NativeRuntime
from deepseek.inference.native.weights import matrix, packed, rounded, smoothing
from deepseek.inference.torch_runtime import TorchRuntime
from deepseek.models import from_config, resolve, tokenizer_for
from deepseek.models.checkpoint import Checkpoint
from deepseek.native.library import FLAGS, compiler
from deepseek.tasks.base import Executable

pytestmark = pytest.mark.usefixtures("one_thread")
here = pytest.mark.skipif(not NativeRuntime.available().works, reason=NativeRuntime.available().detail)
SHAPE: dict[str, Any] = {
    "vocab_size": 120, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128,
    "initializer_range": 0.1, "max_position_embeddings": 200,
}  # fmt: skip
KINDS: dict[str, Any] = {
    "bert": lambda: transformers.BertConfig(**SHAPE),
    "wide heads": lambda: transformers.BertConfig(**{**SHAPE, "hidden_size": 128}),
    "roberta": lambda: transformers.RobertaConfig(**SHAPE, type_vocab_size=1, pad_token_id=1),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SHAPE, type_vocab_size=1, pad_token_id=1),
}


def batch_of(rows: int, tokens: int, *, ragged: bool = True) -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(1000 * rows + tokens)
    ids = torch.randint(5, 120, (rows, tokens), generator=drawn)
    mask = torch.ones_like(ids)
    if ragged:
        for row in range(rows):
            mask[row, max(1, tokens - 7 * row) :] = 0
    return {"input_ids": torch.where(mask.bool(), ids, 1), "attention_mask": mask}


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@dataclass
class Made:
    """A checkpoint with random weights, and its copy."""

    checkpoint: Checkpoint
    head: str
    copy: Path

    def plain(self) -> Executable:
        return TorchRuntime().load(self.checkpoint, self.head, device="cpu")

    def small(self) -> Executable:
        return NativeRuntime().open_copy(self.copy)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    found: dict[tuple[str, str], Made] = {}

    def make(kind: str, head: str = "sequence-classification") -> Made:
        if (kind, head) not in found:
            torch.manual_seed(0)
            folder, copy = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("copy")
            options = {} if head == "none" else {"num_labels": 3}
            from_config(KINDS[kind](), head=head, **options).save_pretrained(folder)
            checkpoint = resolve(folder)
            NativeRuntime().quantize(checkpoint, head, [batch_of(4, 30), batch_of(1, 9)], copy)
            found[kind, head] = Made(checkpoint, head, copy)
        return found[kind, head]

    return make


@here
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", ["none", "sequence-classification", "token-classification"])
def test_answers_are_near_to_those_of_torch(kind: str, head: str, made: Any) -> None:
    one = made(kind, head)
    reference, model = one.plain(), one.small()
    assert model.context_length == 200
    for rows, tokens in ((1, 1), (1, 16), (1, 17), (1, 33), (2, 32), (3, 40), (9, 70), (1, 190)):
        batch = batch_of(rows, tokens)
        expected, found = reference.forward(batch), model.forward(batch)
        assert set(found) == set(expected)
        for name, value in expected.items():
            other = found[name]
            assert other.shape == value.shape
            if value.ndim > 2:
                mask = batch["attention_mask"].bool()
                value, other = value[mask], other[mask]
            assert off(other, value) < 0.06, (name, rows, tokens)


@pytest.fixture(scope="module")
def plain_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The source for a processor like this one without AMX and bfloat16."""
    file = tmp_path_factory.mktemp("plain") / "encoder.so"
    without = ("-mno-avx512bf16", "-mno-amx-int8", "-mno-amx-bf16")
    subprocess.run([compiler() or "", *FLAGS, *without, str(SOURCE.path), "-o", str(file), "-lm"], check=True)
    return ctypes.CDLL(str(file))


@here
@pytest.mark.parametrize("kind", ["bert", "wide heads"])
def test_all_units_of_processors_compute_the_same(kind: str, made: Any, plain_library: ctypes.CDLL) -> None:
    copy = made(kind, "none").copy
    compiled = SOURCE.library()
    assert compiled is not None
    units = [NativeEncoder(compiled, copy, 1, tiles=tiles) for tiles in (True, False)]
    units.append(NativeEncoder(plain_library, copy, 1))
    for rows, tokens in ((1, 1), (1, 7), (1, 16), (2, 31), (1, 33), (6, 70), (1, 190)):
        first, *others = (unit.forward(batch_of(rows, tokens))["last_hidden_state"] for unit in units)
        for other in others:
            assert off(other, first) < 0.01, (rows, tokens)  # sums of bfloat16 in another order move a rounding


@pytest.mark.parametrize("processor", ["cascadelake", "icelake-server", "sapphirerapids"])
def test_the_source_compiles_for_other_processors(processor: str, tmp_path: Path) -> None:
    chosen = compiler()
    if platform.machine() != "x86_64" or chosen is None:
        pytest.skip("needs a C compiler for x86-64")
    flags = [f"-march={processor}" if flag.startswith("-march") else flag for flag in FLAGS]
    command = [chosen, *flags, "-Wall", "-Wextra", "-Werror", str(SOURCE.path), "-o", str(tmp_path / "e.so"), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@here
@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_a_row_is_answered_alike_in_every_batch(threads: int, made: Any) -> None:
    torch.set_num_threads(threads)
    model = made("bert").small()
    torch.set_num_threads(1)
    many = batch_of(64, 40)
    whole = model.forward(many)["logits"]
    for row in (0, 3, 40, 63):
        length = int(many["attention_mask"][row].sum())
        alone = model.forward({name: value[row : row + 1, :length] for name, value in many.items()})["logits"]
        torch.testing.assert_close(alone[0], whole[row], rtol=1e-4, atol=1e-5)


@here
def test_what_is_left_out_is_as_transformers_assumes_it(made: Any) -> None:
    reference, model = made("bert").plain(), made("bert").small()
    ids = torch.tensor([[5, 6, 7, 8]])
    types = torch.tensor([[0, 0, 1, 1]])
    inner = torch.tensor([[1, 0, 1, 1]])  # a token in the middle that nobody sees
    for batch in (
        {"input_ids": ids},
        {"input_ids": ids, "token_type_ids": types},
        {"input_ids": ids, "attention_mask": inner},
    ):
        assert off(model.forward(batch)["logits"], reference.forward(batch)["logits"]) < 0.06
    assert model.forward({"input_ids": ids[:0]})["logits"].shape == (0, 3)


@here
def test_threads_share_it(made: Any) -> None:
    model = made("bert").small()
    given = [batch_of(rows, tokens) for rows, tokens in itertools.product((1, 5), (9, 60))] * 8
    expected = [model.forward(batch)["logits"] for batch in given]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: model.forward(batch)["logits"], given))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@here
def test_a_real_encoder_keeps_its_meaning(minilm: Path, tmp_path: Path) -> None:
    checkpoint, tokenizer = resolve(minilm), tokenizer_for(minilm)
    calibrating = ["a warm and clever story about two friends", "tedious, loud and far too long", "what a waste"]
    batches = [dict(tokenizer([text], return_tensors="pt")) for text in calibrating]
    NativeRuntime().quantize(checkpoint, "none", batches, tmp_path)
    texts = ["good", "a moving and funny film, from its first minute to its last", "dull", "not my kind of humour"]
    batch = dict(tokenizer(texts, padding=True, return_tensors="pt"))
    reference, model = TorchRuntime().load(checkpoint, "none", device="cpu"), NativeRuntime().open_copy(tmp_path)
    mask = batch["attention_mask"].unsqueeze(-1)
    found, expected = ((m.forward(batch)["last_hidden_state"] * mask).sum(1) / mask.sum(1) for m in (model, reference))
    assert float(torch.nn.functional.cosine_similarity(found, expected).min()) > 0.985


@here
def test_a_bundle_answers_and_auto_considers_its_copy(
    bundle: Bundle, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_compiled: None
) -> None:
    monkeypatch.setattr("deepseek.inference.choice.choosing.cache_dir", lambda: tmp_path / "cache")
    own = tmp_path / "sentiment"
    shutil.copytree(bundle.path, own)
    with pytest.raises(ConfigError, match="deepseek quantize BUNDLE ROWS --runtime native"):
        Predictor.load(own, runtime="native")
    quantize(own, rows * 6, runtime="native", calibration=8)
    asked = [{"text": text} for text in ("good", "a dull film")]
    expected = Predictor.load(own, dtype="float32").predict(asked)
    for dtype in ("auto", "int8"):
        found = Predictor.load(own, runtime="native", dtype=dtype).predict(asked)
        for answer, wanted in zip(found, expected, strict=True):
            assert answer["scores"] == pytest.approx(wanted["scores"], abs=0.05)
    [trial] = [t for t in choose(own, batch_size=2).trials if t.runtime == "native"]
    assert (trial.dtype, trial.validated) == ("int8", True)
    assert trial.seconds


@here
def test_refusals_name_what_is_wrong(made: Any, tmp_path: Path) -> None:
    one, runtime = made("bert"), NativeRuntime()
    with pytest.raises(ConfigError, match="npu:7"):
        runtime.load(one.checkpoint, "sequence-classification", device="npu:7")
    with pytest.raises(UnknownNameError, match="float32"):
        runtime.load(one.checkpoint, "sequence-classification", dtype="float32")
    model = one.small()
    with pytest.raises(ConfigError, match="from 0 to 119, received 5 to 120"):
        model.forward({"input_ids": torch.tensor([[5, 120]])})
    with pytest.raises(ConfigError, match="place numbers from 0 to 199"):
        model.forward({"input_ids": torch.full((1, 201), 7)})
    assert NativeRuntime.precisions(one.checkpoint, "sequence-classification", "cpu") == ()
    copy = tmp_path / "copy"
    shutil.copytree(one.copy, copy)
    about = json.loads((copy / ABOUT).read_text(encoding="utf-8"))
    (copy / ABOUT).write_text(json.dumps({**about, "form": "native encoder 0"}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"of the form 'native encoder 0'.*makes it again"):
        runtime.open_copy(copy)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": 96, "num_attention_heads": 3}, "its sizes do not fit: 96 wide"),
        ({"hidden_act": "relu"}, "the activation gelu, not relu"),
        ({"is_decoder": True}, "encoders with learned positions only"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    config = transformers.BertConfig(**{**SHAPE, **changes})
    from_config(config, head="sequence-classification").save_pretrained(tmp_path / "model")
    (tmp_path / "copy").mkdir()
    with pytest.raises(ConfigError, match=f"{reason}.*'openvino' and 'torch' can"):
        NativeRuntime().quantize(resolve(tmp_path / "model"), "sequence-classification", [], tmp_path / "copy")
    assert "not for masked-lm" in unfit(transformers.BertConfig(**SHAPE).to_dict(), "masked-lm")
    assert "not distilbert" in unfit(transformers.DistilBertConfig().to_dict(), "none")


def test_what_layers_are_given_is_seen_without_padding() -> None:
    torch.manual_seed(0)
    model = from_config(KINDS["bert"](), head="none").eval()
    whole = batch_of(3, 20)
    rows = [{n: v[i : i + 1, : int(whole["attention_mask"][i].sum())] for n, v in whole.items()} for i in range(3)]
    together, apart = seen(model, [whole]), seen(model, rows)
    name = "encoder.layer.1.output.dense"
    assert together[name].tokens == apart[name].tokens == int(whole["attention_mask"].sum())
    np.testing.assert_allclose(together[name].reach, apart[name].reach, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(together[name].mean, apart[name].mean, rtol=1e-3, atol=1e-5)
    assert not any(module._forward_pre_hooks for module in model.modules())


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_packed_weights_are_found_where_the_source_looks(pairs: int, deep: int, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    weight = drawn.normal(size=(32 * pairs, 64 * deep)).astype(np.float32)
    whole, scale = rounded(weight)
    data = packed(whole)
    assert data.shape == (pairs, deep, 2, 16, 64)
    rows, columns = np.indices(weight.shape)
    there = data[rows // 32, columns // 64, rows % 32 // 16, columns % 64 // 4, rows % 16 * 4 + columns % 4]
    np.testing.assert_allclose(there * scale[:, None], weight, atol=float(scale.max()) * 0.51)


def test_smoothing_evens_out_what_is_large() -> None:
    drawn = np.random.default_rng(0)
    reach = np.ones(64, np.float32)
    reach[7] = 50
    factor = smoothing(drawn.normal(size=(32, 64)).astype(np.float32), reach)
    assert factor[7] < 0.2 * np.median(factor)


def test_the_bias_takes_up_what_rounding_adds_on_the_average() -> None:
    drawn = np.random.default_rng(0)
    weight, bias = drawn.normal(size=(32, 64)).astype(np.float32), np.zeros(32, np.float32)
    tokens = (drawn.normal(size=(500, 64)) + drawn.normal(size=64) * 3).astype(np.float32)
    made = matrix(weight, bias, Seen(np.abs(tokens).max(0), tokens.sum(0), len(tokens)))
    whole = made["data"].reshape(1, 1, 2, 16, 16, 4).transpose(0, 2, 4, 1, 3, 5).reshape(32, 64)
    found = (tokens * made["smooth"]) @ (whole * made["scale"][:, None]).T
    lost = (tokens @ weight.T - found).mean(0)
    np.testing.assert_allclose(made["bias"], lost, atol=1e-4)
    assert np.abs(lost).max() > 1e-2

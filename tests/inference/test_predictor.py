"""One signature for one row and for many."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepseek.bundles import Bundle
from deepseek.errors import ConfigError, DataError, UnknownNameError
from deepseek.inference import RUNTIMES, Predictor, evaluate


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    return Predictor.load(bundle.path, batch_size=4)


def test_it_learned_something(predictor: Predictor, rows: list[dict[str, Any]]) -> None:
    assert evaluate(predictor, rows)["accuracy"] == 1.0


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=12))
def test_a_batch_answers_as_single_rows_do(predictor: Predictor, texts: list[str]) -> None:
    rows = [{"text": t} for t in texts]
    together = predictor.predict(rows)
    for row, answer in zip(rows, together, strict=True):
        alone = predictor.predict([row])[0]
        assert answer["scores"] == pytest.approx(alone["scores"], abs=1e-4)


def test_no_rows_give_no_answers(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_a_wrong_row_is_named_and_nothing_is_computed(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="row 1"):
        predictor.predict([{"text": "fine"}, {"text": 3}])
    with pytest.raises(DataError, match="temperature"):
        predictor.predict([{"text": "fine"}], {"temperature": 1})


def test_threads_may_share_it(predictor: Predictor) -> None:
    texts = [f"film number {i} " + "good " * (i % 7) for i in range(40)]
    expected = [predictor.predict([{"text": t}])[0]["scores"] for t in texts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda t: predictor.predict([{"text": t}])[0]["scores"], texts))
    for a, b in zip(expected, found, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_a_bundle_knows_its_task(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="text-generation"):
        Predictor.load(bundle.path, task="text-generation")


def test_an_encoder_without_a_head_says_what_to_do(minilm: Path) -> None:
    with pytest.raises(ConfigError, match="deepseek train"):
        Predictor.load(minilm)


def test_unknown_devices_dtypes_and_runtimes(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="auto, cpu"):
        Predictor.load(bundle.path, device="tpu")
    with pytest.raises(UnknownNameError, match="bfloat16"):
        Predictor.load(bundle.path, dtype="bf16loat")
    with pytest.raises(UnknownNameError, match="torch"):
        Predictor.load(bundle.path, runtime="torchh")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "torch-compile" else ()) for n in RUNTIMES.names()]
)
def test_every_runtime_keeps_the_contract(name: str, bundle: Bundle, request: pytest.FixtureRequest) -> None:
    runtime = RUNTIMES.get(name)
    state = runtime.available()
    assert runtime.name == name
    assert state.detail
    if not state.works:
        pytest.skip(state.detail)
    assert "cpu" in state.devices
    reference = Predictor.load(bundle.path, runtime="torch").predict([{"text": "a good film"}])[0]
    path, dtype, near = bundle.path, "float32", 1e-3
    if name == "native":
        path, dtype, near = request.getfixturevalue("copied"), "int8", 0.05
    answer = Predictor.load(path, runtime=name, dtype=dtype).predict([{"text": "a good film"}])[0]
    assert answer["scores"] == pytest.approx(reference["scores"], abs=near)

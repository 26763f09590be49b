"""A generation core is chosen by measurement: candidates, what is off by too much, who is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_torch_core import Make, made

from deepseek.errors import ConfigError
from deepseek.inference import Predictor
from deepseek.inference.choice import choose, generating
from deepseek.inference.generation import GenerationEngine, SamplingParameters
from deepseek.inference.generation.openvino.core import OpenVinoCore
from deepseek.inference.generation.torch.core import TorchCore

__all__ = ["made"]  # the fixture of tiny models
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def own_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepseek.inference.choice.choosing.cache_dir", lambda: tmp_path)


def test_every_core_is_measured_and_one_chosen_that_then_answers(made: Make) -> None:
    found = choose(made(), task="text-generation")
    by_name = {trial.name: trial for trial in found.trials}
    assert {"torch float32", "openvino float32", "openvino", "vllm"} <= set(by_name)
    assert "pip install" in by_name["vllm"].verdict
    measured = [trial for trial in found.trials if trial.seconds]
    assert all(set(trial.seconds) == set(found.batches) and len(found.batches) == 3 for trial in measured)
    assert by_name["torch float32"].error == 0
    assert by_name["openvino float32"].error == pytest.approx(0, abs=1e-3)
    assert found.chosen.error is not None
    assert found.chosen.error <= generating.TOLERANCE
    assert choose(made(), task="text-generation") == found  # kept
    with GenerationEngine.load(made()) as engine:
        assert engine.core.name == found.chosen.runtime
        assert (
            len(engine.generate([[5, 6, 7]], SamplingParameters(max_new_tokens=4, ignore_eos=True))[0].token_ids) == 4
        )
    predictor = Predictor.load(made(), runtime="auto")
    assert predictor.platform == found.chosen.runtime
    predictor.model.close()  # type: ignore[attr-defined]


def test_a_core_whose_text_is_worse_is_not_taken(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = TorchCore.logits

    def worse(self: TorchCore, sequences: Any, *, step_tokens: int | None = None) -> Any:
        return [-found for found in logits(self, sequences, step_tokens=step_tokens)]

    reference = choose(made(), task="text-generation", refresh=True)
    assert any(trial.runtime == "openvino" and trial.error is not None for trial in reference.trials)
    monkeypatch.setattr(TorchCore, "logits", worse)  # the first candidate's, so that all others are off
    found = choose(made(), task="text-generation", refresh=True)
    assert all("outputs differ by more than 2%" in t.verdict for t in found.trials if t.runtime == "openvino")
    assert found.chosen.runtime == "torch"


def test_a_core_whose_answers_are_worse_than_its_prompts_is_not_taken(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = OpenVinoCore.logits

    def worse(self: OpenVinoCore, sequences: Any, *, step_tokens: int | None = None) -> Any:
        return [-found if step_tokens else found for found in logits(self, sequences, step_tokens=step_tokens)]

    monkeypatch.setattr(OpenVinoCore, "logits", worse)
    found = choose(made(), task="text-generation", refresh=True)
    assert all("outputs differ by more than 2%" in t.verdict for t in found.trials if t.runtime == "openvino")


def test_a_precision_that_no_core_knows_is_refused_with_reasons(made: Make) -> None:
    with pytest.raises(ConfigError, match="float13"):
        choose(made(), task="text-generation", dtype="float13")

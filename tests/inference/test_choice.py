"""A runtime is chosen by measurement, the choice is kept and explained, and it answers as the reference does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepseek.errors import ConfigError, DataError
from deepseek.inference import RUNTIMES, Predictor
from deepseek.inference.choice import Trial, choose
from deepseek.inference.choice.contest import relative_error
from deepseek.inference.choice.judging import TOLERANCE, judged
from deepseek.inference.runtime import Availability, Runtime

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def own_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Choices are kept in a folder of the test's own; fetched models stay where they are."""
    monkeypatch.setattr("deepseek.inference.choice.choosing.cache_dir", lambda: tmp_path)
    return tmp_path / "choices"


def trial(name: str, *seconds: float, error: float | None = 0.0, verdict: str = "") -> Trial:
    times = {f"batch {number}": value for number, value in enumerate(seconds)}
    return Trial(runtime=name, device="cpu", dtype="float32", seconds=times, error=error, verdict=verdict)


def chosen(*trials: Trial) -> str:
    (found,) = [t.runtime for t in judged(trials) if t.verdict == "chosen"]
    return found


def test_the_fastest_over_all_batches_wins_if_it_is_exact_enough() -> None:
    assert chosen(trial("a", 1.0, 1.0), trial("b", 0.5, 0.9)) == "b"
    assert chosen(trial("a", 1.0, 1.0), trial("b", 0.5, 2.1)) == "a"  # twice as fast once, slower elsewhere
    assert chosen(trial("a", 1.0), trial("b", 0.1, error=TOLERANCE * 2), trial("c", 0.5)) == "c"
    assert chosen(trial("a", 1.0), trial("b", 0.1, error=float("inf"))) == "a"
    assert chosen(trial("a", 1.0), trial("b", 0.99)) == "a"  # not worth another runtime
    assert chosen(trial("a", verdict="not installed"), trial("b", error=None)) == "b"  # nothing else: not measured
    with pytest.raises(ConfigError, match=r"a float32: no such device; b float32: inexact"):
        judged([trial("a", verdict="no such device"), trial("b", 1.0, error=1.0)])


@given(st.lists(st.tuples(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3), st.floats(0, 0.1)), min_size=1, max_size=6))
def test_exactly_one_is_chosen_and_nothing_acceptable_beats_it_everywhere(
    figures: list[tuple[float, float, float]],
) -> None:
    trials = [trial(str(i), one, many, error=error if i else 0.0) for i, (one, many, error) in enumerate(figures)]
    (winner,) = [t for t in judged(trials) if t.verdict == "chosen"]
    assert (winner.error or 0.0) <= TOLERANCE
    for other in trials:
        if (other.error or 0.0) <= TOLERANCE:
            assert any(other.seconds[b] >= 0.9 * winner.seconds[b] for b in other.seconds)


def test_errors_are_of_the_values_that_count() -> None:
    mask = torch.tensor([[1, 1, 0]])
    one = torch.ones(1, 3, 2)
    other = one.clone()
    other[0, 2] = 100.0  # behind the padding
    assert relative_error({"x": other}, {"x": one}, {"attention_mask": mask}) == 0.0
    other[0, 0] = 1.5
    assert relative_error({"x": other}, {"x": one}, {"attention_mask": mask}) == pytest.approx(0.5**0.5 * 0.5)
    assert relative_error({"x": one * float("nan")}, {"x": one}, {}) == float("inf")


class _Fake(Runtime):
    """PyTorch by a clock of its own: each pass takes ``seconds``; ``factor`` falsifies its outputs."""

    seconds, factor, precision = 1.0, 1.0, ("float32",)
    clock = 0.0
    passes = 0
    inner: Any = None

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, ("cpu",), "")

    @classmethod
    def precisions(cls, checkpoint: Any, head: str, device: str) -> tuple[str, ...]:
        return cls.precision

    def load(self, checkpoint: Any, head: str, *, device: str = "auto", dtype: str = "auto") -> Any:
        inner = self.inner().load(checkpoint, head, device="cpu", dtype="float32")
        seconds, factor = self.seconds, self.factor

        kind = type(self)
        kind.passes = 0

        class Model:
            def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
                _Fake.clock += seconds
                kind.passes += 1
                return {name: value * factor for name, value in inner.forward(batch).items()}

        return Model()


def runtimes(monkeypatch: pytest.MonkeyPatch, **kinds: type[Runtime]) -> None:
    monkeypatch.setattr(_Fake, "inner", RUNTIMES.get("torch"))  # what the fakes run
    monkeypatch.setattr(RUNTIMES, "names", lambda: list(kinds))
    monkeypatch.setattr(RUNTIMES, "get", lambda name: kinds[name])
    monkeypatch.setattr("deepseek.inference.choice.contest.perf_counter", lambda: _Fake.clock)


def test_a_choice_is_measured_kept_explained_and_used(
    bundle: Any, own_choices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(_Fake):
        seconds = 2.5

    class Wrong(_Fake):
        seconds, factor = 0.5, 1.5

    class Broken(_Fake):
        def load(self, *_: Any, **__: Any) -> Any:
            raise ConfigError("cannot convert layer 3")

    class Absent(_Fake):
        @classmethod
        def available(cls) -> Availability:
            return Availability(False, (), "not installed; pip install it")

    runtimes(monkeypatch, slow=Slow, wrong=Wrong, broken=Broken, absent=Absent, torch=_Fake)
    found = choose(bundle.path, batch_size=4, dtype="float32")
    verdicts = {t.runtime: t.verdict for t in found.trials}
    assert found.trials[0].runtime == "torch"  # the reference, wherever it is registered
    assert verdicts["torch"] == "chosen"
    assert verdicts["slow"] == "takes 2.50 times as long"
    assert verdicts["wrong"] == "outputs differ by more than 3%"
    assert verdicts["broken"] == "cannot convert layer 3"
    assert verdicts["absent"] == "not installed; pip install it"
    assert len(found.batches) in (2, 4)  # of one length where the task cuts texts at 32 tokens
    assert "not installed" in str(found)
    assert found.model in str(found)

    assert choose(bundle.path, batch_size=4, dtype="float32") == found  # kept
    again = choose(bundle.path, batch_size=4, dtype="float32", refresh=True)
    assert again.measured > found.measured
    predictor = Predictor.load(bundle.path, runtime="auto", batch_size=4, dtype="float32")
    assert predictor.platform == "torch"
    (file,) = own_choices.iterdir()
    file.write_text("{}")
    assert choose(bundle.path, batch_size=4, dtype="float32").chosen.runtime == "torch"  # damaged: measured again


def test_who_is_far_behind_everywhere_runs_one_round(bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Near(_Fake):
        seconds = 1.9

    class Far(_Fake):
        seconds = 2.1

    class Plain(_Fake):
        pass

    runtimes(monkeypatch, torch=Plain, near=Near, far=Far)
    found = choose(bundle.path, batch_size=4, dtype="float32")
    batches = len(found.batches)
    assert Far.passes == 2 * batches  # one to warm up
    assert Near.passes >= 4 * batches
    assert {t.runtime: t.verdict for t in found.trials} == {
        "torch": "chosen", "near": "takes 1.90 times as long", "far": "takes 2.10 times as long",
    }  # fmt: skip


def test_rows_of_the_user_are_measured_and_then_kept_for_auto(bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Quick(_Fake):
        seconds = 0.5

    runtimes(monkeypatch, torch=_Fake, quick=Quick)
    rows = [{"text": "a film " * length} for length in (1, 2, 3, 4, 30)]
    found = choose(bundle.path, rows=rows, batch_size=2)
    assert len(found.batches) == 2
    assert all(int(name.split(" x ")[1]) < 20 for name in found.batches)
    assert found.chosen.runtime == "quick"
    assert choose(bundle.path, batch_size=2) == found
    with pytest.raises(DataError, match="row 0"):
        choose(bundle.path, rows=[{"title": "x"}])


def test_a_single_candidate_is_taken_without_measuring(bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Only(_Fake):
        def load(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("loaded")

    runtimes(monkeypatch, only=Only)
    found = choose(bundle.path)
    assert found.chosen.runtime == "only"
    assert not found.batches


@pytest.mark.usefixtures("nothing_compiled")
def test_what_is_installed_here_competes(bundle: Any) -> None:
    found = choose(bundle.path, batch_size=2)
    assert all(t.verdict for t in found.trials)
    assert {t.runtime for t in found.trials} >= {"torch", "openvino"}
    texts = [{"text": "a moving and funny film"}, {"text": "a dull and tired mess"}]
    mine = Predictor.load(bundle.path, runtime="auto", batch_size=2).predict(texts)
    reference = Predictor.load(bundle.path).predict(texts)
    assert [a["label"] for a in mine] == [a["label"] for a in reference]

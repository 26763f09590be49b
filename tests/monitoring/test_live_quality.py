"""Drift against a bundle's reference, confidence, and labels that come later."""

from __future__ import annotations

import logging
import math
import random
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data import profile
from deepseek.errors import ConfigError
from deepseek.monitoring.metrics import take
from deepseek.monitoring.metrics.samples import total
from deepseek.monitoring.quality import Label, QualityConfig, QualityMonitor
from deepseek.monitoring.quality.intervals import auc, mean, proportion
from deepseek.monitoring.quality.predictions import PredictionStore
from deepseek.monitoring.quality.reservoir import Reservoir
from deepseek.monitoring.quality.spill import SpillFile

CONFIG = QualityConfig(sample_rows=500, window_rows=400, min_rows=100, keep_answers=50)


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    chance = random.Random(1)
    rows = {
        "age": [chance.gauss(40, 10) for _ in range(2000)],
        "text": [f"number {chance.randrange(50)} of many" for _ in range(2000)],
        "label": [chance.choice(["no", "yes"]) for _ in range(2000)],
    }
    return profile(pa.table(rows))


def served(count: int, *, age: float = 40, yes: float = 0.5, seed: int = 2) -> tuple[list[Any], list[Any]]:
    chance = random.Random(seed)
    rows = [{"age": chance.gauss(age, 10), "text": f"number {chance.randrange(50)} of many"} for _ in range(count)]
    answers = [{"label": "yes" if chance.random() < yes else "no", "score": 0.9} for _ in range(count)]
    return rows, answers


def states(quality: QualityMonitor) -> dict[str, tuple[str, int]]:
    return {column.name: (column.side, column.state) for column in quality.drift}


@pytest.mark.parametrize(
    ("age", "yes", "expected"),
    [
        (40, 0.5, {"age": ("input", 0), "text": ("input", 0), "label": ("prediction", 0)}),
        (60, 0.5, {"age": ("input", 2), "text": ("input", 0), "label": ("prediction", 0)}),
        (40, 0.95, {"age": ("input", 0), "text": ("input", 0), "label": ("prediction", 2)}),
    ],
)
def test_drift_is_found_on_the_side_where_it_is(
    reference: dict[str, Any], age: float, yes: float, expected: dict[str, Any]
) -> None:
    quality = QualityMonitor("m", "1", CONFIG, reference=reference, answer_column="label")
    quality.answered(None, *served(450, age=age, yes=yes))
    quality.process()
    assert states(quality) == expected
    shown = {tuple(labels[2:]): value for labels, value in take([quality])["samples"]["deepseek_drift_state"]}
    assert shown == {(side, name): state for name, (side, state) in expected.items()}


def test_a_page_gets_each_tests_numbers_and_no_value_of_a_row(reference: dict[str, Any]) -> None:
    quality = QualityMonitor("m", "1", CONFIG, reference=reference, answer_column="label")
    rows, answers = served(450, age=60)
    quality.answered(None, [{**row, "text": "a secret"} for row in rows], answers)
    quality.process()
    page = quality.to_dict()
    columns = {column["name"]: column for column in page["drift"]["columns"]}
    worst = max(columns["age"]["tests"], key=lambda test: test["effect"] / test["drift"])
    assert (worst["aspect"], worst["verdict"]) == ("values", "drift")
    assert worst["effect"] / worst["drift"] == pytest.approx(columns["age"]["effect"])
    assert 0 < worst["warning"] <= worst["drift"]
    assert worst["p_adjusted"] < 0.05
    assert set(columns["label"]["shares"]["bins"]) == {"no", "yes"}
    assert sum(columns["age"]["shares"]["live"]) == pytest.approx(1)
    assert columns["text"]["shares"] is None
    assert "secret" not in repr(page)
    assert {each["label"] for each in page["answers"]["labels"]} == {"no", "yes"}
    assert sum(each["count"] for each in page["answers"]["labels"]) == page["answers"]["rows"] == 450


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([{"text": "generated"}, {"embedding": [1.0]}], None),
        ([{"labels": ["PER"], "starts": [0]}], None),
        ([{"labels": ["a", "b"]}, {"labels": ["b"]}], {"a": 1, "b": 2}),
        ([{"label": f"class {i}"} for i in range(40) for _ in range(40 - i)], {"class 0": 40, "class 29": 11}),
    ],
)
def test_answers_are_counted_without_a_reference(outputs: list[Any], expected: dict[str, int] | None) -> None:
    quality = QualityMonitor("m", "1", QualityConfig(sample_rows=1000))
    quality.answered(None, [{}] * len(outputs), outputs)
    quality.process()
    shown = quality.to_dict()["answers"]
    if expected is None:
        assert shown is None
        return
    counts = {each["label"]: each["count"] for each in shown["labels"]}
    assert counts.items() >= expected.items()
    assert len(counts) <= 30
    assert sum(counts.values()) + shown["others"] == sum(len(o.get("labels", [0])) for o in outputs)


def test_numbers_are_counted_in_bins() -> None:
    quality = QualityMonitor("m", "1", QualityConfig(sample_rows=1000))
    answers = [{"value": np.float32(i / 10)} for i in range(100)] + [{"value": math.nan}]
    quality.answered(None, [{}] * len(answers), answers)
    quality.process()
    shown = quality.to_dict()["answers"]
    assert (shown["kind"], shown["rows"], sum(shown["counts"])) == ("numbers", 100, 100)
    assert len(shown["edges"]) == len(shown["counts"]) + 1


def test_windows_follow_one_another(reference: dict[str, Any]) -> None:
    quality = QualityMonitor("m", "1", CONFIG, reference=reference, answer_column="label")
    quality.answered(None, *served(60))
    quality.process(now=1000.0)
    assert quality.drift == []  # too few
    quality.answered(None, *served(100, age=60))
    quality.process(now=1010.0)
    assert states(quality)["age"][1] > 0  # a first verdict before the window is complete
    assert quality.to_dict()["drift"]["ended"] is None
    quality.answered(None, *served(300, age=60))
    quality.process(now=1020.0)
    assert quality.to_dict()["drift"]["ended"] == 1020.0
    quality.answered(None, *served(150, seed=5))
    quality.process(now=1030.0)
    assert states(quality)["age"][1] == 2  # that of the last complete window
    quality.process(now=1020.0 + CONFIG.window_seconds + 1)
    assert states(quality)["age"][1] == 0  # complete by time


def test_what_is_looked_at_is_bounded(reference: dict[str, Any]) -> None:
    quality = QualityMonitor("m", "1", CONFIG, reference=reference, answer_column="label")
    rows, answers = served(5000)
    for start in range(0, 5000, 10):
        quality.answered(None, rows[start : start + 10], answers[start : start + 10])
    quality.process()
    assert total(take([quality]), "deepseek_quality_rows")[0] == CONFIG.sample_rows


def test_a_wide_reference_is_cut_and_keeps_the_answer(reference: dict[str, Any]) -> None:
    quality = QualityMonitor(
        "m", "1", QualityConfig(max_columns=2, min_rows=1, window_rows=1), reference=reference, answer_column="label"
    )
    quality.answered(None, *served(50))
    quality.process()
    assert set(states(quality)) == {"label", "age"}
    assert quality.to_dict()["drift"]["left_out"] == 1


def test_rows_that_do_not_fit_are_counted_and_harm_nothing(
    reference: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    quality = QualityMonitor("m", "1", CONFIG, reference=reference, answer_column="label")
    quality.answered(None, [{"age": "secret"}, {"age": 3}], [{"label": "yes"}, {"label": "no"}])
    quality.process()
    assert total(take([quality]), "deepseek_quality_failures")[0] == 1
    assert "do not fit" in caplog.text
    assert "secret" not in caplog.text
    quality.answered(None, *served(450))
    quality.process()
    assert states(quality)["age"] == ("input", 0)


def test_images_are_compared_by_size_and_not_held() -> None:
    reference = profile(pa.table({"image": [b"x" * (1000 + i) for i in range(300)]}))
    quality = QualityMonitor("m", "1", CONFIG, reference=reference)
    quality.answered(None, [{"image": b"x" * 100_000}] * 450, [{"label": "cat"}] * 450)
    assert "x" * 10 not in repr(quality._sample.kept)
    quality.process()
    assert states(quality)["image"] == ("input", 2)


def test_without_a_reference_there_is_confidence_alone() -> None:
    quality = QualityMonitor("m", "1", CONFIG)
    outputs = [{"label": "a", "score": np.float32(0.5)}, {"label": "b", "score": 1.0}, {"embedding": np.ones(3)}]
    outputs += [{"label": "c", "score": math.nan}, {"label": "d", "score": np.ones(2)}, {"label": "e", "score": True}]
    quality.answered("id", [{}] * 6, outputs)
    quality.process()
    assert quality.drift == []
    assert quality.confidence == pytest.approx(0.75)
    assert total(take([quality]), "deepseek_prediction_confidence")[1] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0]


def test_labels_give_accuracy_auc_and_calibration() -> None:
    quality = QualityMonitor("m", "1", QualityConfig(), positive="yes", reference_accuracy=0.9)
    chance = random.Random(3)
    answers, truths = [], []
    for number in range(400):
        truth = chance.random() < 0.5
        score = min(max(chance.gauss(0.65 if truth else 0.35, 0.2), 0.01), 0.99)
        label = "yes" if score >= 0.5 else "no"
        answers.append((label, max(score, 1 - score)))
        truths.append("yes" if truth else "no")
        quality.answered(f"r{number}", [{}], [{"label": label, "score": max(score, 1 - score)}])
    report = quality.add_labels([Label(f"r{n}", truth) for n, truth in enumerate(truths)])
    assert report == {"joined": 400, "late": 0, "unknown": 0, "duplicate": 0, "invalid": 0}
    quality.process()
    live = quality.live
    right = [a == t for (a, _), t in zip(answers, truths, strict=True)]
    assert live.accuracy is not None
    assert live.accuracy.value == pytest.approx(np.mean(right))
    assert live.accuracy.lower < live.accuracy.value < live.accuracy.upper

    from sklearn.metrics import brier_score_loss, roc_auc_score

    scores = [s if a == "yes" else 1 - s for a, s in answers]
    assert live.auc is not None
    assert live.auc.value == pytest.approx(roc_auc_score([t == "yes" for t in truths], scores))
    assert live.brier is not None
    assert live.brier.value == pytest.approx(brier_score_loss(right, [s for _, s in answers]))
    assert live.overconfidence is not None
    assert live.overconfidence.value == pytest.approx(np.mean([s for _, s in answers]) - np.mean(right))
    samples = take([quality])
    assert {tuple(x): v for x, v in samples["samples"]["deepseek_live_accuracy_ratio"]} == {
        ("m", "1", bound): value for bound, value in live.accuracy._asdict().items() if bound != "value"
    } | {("m", "1", "estimate"): live.accuracy.value}


def test_labels_that_cannot_be_joined_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    quality = QualityMonitor("m", "1", CONFIG)
    for number in range(60):  # ten more than are kept
        quality.answered(f"r{number}", [{}, {}], [{"label": "a", "score": 0.9}, {"embedding": [1.0]}])
    quality.process()
    first = quality.add_labels([Label("r59", "a"), Label("r59", "a"), Label("r0", "a"), Label("never", "a")])
    assert first == {"joined": 1, "duplicate": 1, "late": 1, "unknown": 1, "invalid": 0}
    assert quality.add_labels([Label("r58", "a", row=1)])["unknown"] == 1  # that row had no answer to compare
    assert "came too late" in caplog.text
    assert "r0" not in caplog.text
    assert {tuple(x)[2]: v for x, v in take([quality])["samples"]["deepseek_labels"]} == {
        "joined": 1, "late": 1, "unknown": 2, "duplicate": 1, "invalid": 0,
    }  # fmt: skip


def test_answers_are_forgotten_with_age() -> None:
    quality = QualityMonitor("m", "1", QualityConfig(keep_seconds=100, label_seconds=500))
    quality.process(now=1000.0)
    quality.answered("early", [{}], [{"label": "a"}])
    quality.process(now=1050.0)
    quality.answered("later", [{}], [{"label": "a"}])
    quality.answered("last", [{}], [{"label": "a"}])
    assert quality.add_labels([Label("early", "a"), Label("later", "b")], now=1101.0) == {
        "joined": 1, "late": 1, "unknown": 0, "duplicate": 0, "invalid": 0,
    }  # fmt: skip
    quality.process(now=1102.0)
    assert quality.live.labels == 1
    quality.process(now=1151.0)
    assert quality.add_labels([Label("last", "a")], now=1151.0)["late"] == 1
    quality.process(now=1600.0)
    assert quality.live.labels == 0


def test_numbers_have_an_error_instead(reference: dict[str, Any]) -> None:
    quality = QualityMonitor("m", "1", QualityConfig())
    for number in range(10):
        quality.answered(f"r{number}", [{}], [{"value": np.float32(number)}])
    report = quality.add_labels([*(Label(f"r{n}", n + 2.0) for n in range(9)), Label("r9", "many")])
    assert (report["joined"], report["invalid"]) == (9, 1)
    quality.process()
    assert quality.live.absolute_error is not None
    assert quality.live.absolute_error.value == pytest.approx(2.0)
    assert quality.live.accuracy is None


def test_older_answers_wait_in_a_file_and_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "answers" / "m.sqlite"

    def opened() -> QualityMonitor:
        store = PredictionStore(capacity=5, keep_seconds=100, spill=SpillFile(path, 1000))
        return QualityMonitor("m", "1", QualityConfig(), store=store)

    quality = opened()
    quality.process(now=1000.0)
    for number in range(20):
        quality.answered(f"r{number}", [{"text": "my secret"}], [{"label": "a", "score": 0.75}])
    assert quality.add_labels([Label("r0", "a"), Label("r0", "a"), Label("r19", "b")], now=1001.0) == {
        "joined": 2, "duplicate": 1, "late": 0, "unknown": 0, "invalid": 0,
    }  # fmt: skip
    quality.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"secret" not in path.read_bytes()
    again = opened()
    assert again.add_labels([Label("r1", "a"), Label("r18", "a")], now=1002.0)["joined"] == 2
    again.process(now=1200.0)
    assert again.add_labels([Label("r2", "a")], now=1200.0)["joined"] == 0
    again.close()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM answers").fetchone() == (0,)


def test_the_file_is_bounded(tmp_path: Path) -> None:
    store = PredictionStore(capacity=1, keep_seconds=100, spill=SpillFile(tmp_path / "m.sqlite", 10))
    quality = QualityMonitor("m", "1", QualityConfig(), store=store)
    for number in range(50):
        quality.process(now=1000.0 + number)
        quality.answered(f"r{number}", [{}], [{"label": "a"}])
    quality.process(now=1050.0)
    assert quality.add_labels([Label(f"r{n}", "a") for n in range(50)], now=1051.0)["joined"] == 11
    quality.close()


def test_what_a_full_disk_does_not_take_waits_and_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "deepseek")
    spill = SpillFile(tmp_path / "m.sqlite", 10_000)
    store = PredictionStore(capacity=1, keep_seconds=100, spill=spill)
    quality = QualityMonitor("m", "1", QualityConfig(), store=store)
    for number in range(100):
        quality.answered(f"early{number}", [{}], [{"label": "a"}])
    quality.process()
    room(spill, 0)
    for number in range(5000):
        quality.answered(f"r{number}", [{}], [{"label": "a" * 100}])
    quality.process()
    quality.process()
    assert quality.add_labels([Label("r4999", "a"), Label("r1", "a"), Label("r1", "a")]) == {
        "joined": 2, "duplicate": 1, "late": 0, "unknown": 0, "invalid": 0,
    }  # fmt: skip
    room(spill, 1000)
    quality.process()
    assert quality.add_labels([Label(f"r{n}", "a") for n in range(2, 5000)])["joined"] == 4997
    assert quality.add_labels([Label(f"early{n}", "a") for n in range(100)])["joined"] == 100
    assert store.lost == 0
    assert caplog.text.count("answers cannot be kept") == 1
    assert caplog.text.count("can be kept in") == 1
    quality.close()


def room(spill: SpillFile, pages: int) -> None:
    """Leave the file's disk room for so many pages more."""
    database = spill._open()
    database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0] + pages}")


def test_what_waits_for_a_full_disk_is_bounded_and_what_is_lost_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepseek.monitoring.quality.predictions.MOST_WAITING", 1000)
    spill = SpillFile(tmp_path / "m.sqlite", 10_000)
    store = PredictionStore(capacity=5000, keep_seconds=100, spill=spill)
    quality = QualityMonitor("m", "1", QualityConfig(), store=store)
    spill._open().execute("PRAGMA query_only = ON")
    for number in range(9000):
        quality.answered(f"r{number}", [{}], [{"label": "a" * 100}])
        if number % 500 == 0:
            quality.process()
    assert store.lost == 3000
    assert quality.add_labels([Label("r2999", "a"), Label("r3000", "a"), Label("r8999", "a")]) == {
        "joined": 2, "duplicate": 0, "late": 1, "unknown": 0, "invalid": 0,
    }  # fmt: skip
    quality.close()
    assert "8998 answers that labels may still come for are lost" in caplog.text


def test_an_answer_in_a_file_that_cannot_be_written_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    spill = SpillFile(path, 1000)
    spill.write([(f"k{n}", ("a", None, 1000.0)) for n in range(3)])
    spill._open().execute("PRAGMA query_only = ON")
    assert spill.pop("k1") == ("a", None, 1000.0)
    assert spill.pop("k1") is None
    assert not spill.write([("k3", ("b", None, 1000.0))])
    spill._open().execute("PRAGMA query_only = OFF")
    assert spill.write([("k1", ("again", None, 1001.0))])
    assert spill.pop("k1") == ("again", None, 1001.0)
    spill.forget_before(2000.0)
    spill.close()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM answers").fetchone() == (0,)


def test_a_wall_clock_that_jumps_ends_no_window_and_forgets_no_answer(
    reference: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    quality = QualityMonitor("m", "1", CONFIG, reference=reference, answer_column="label")
    quality.process()
    rows, outputs = served(CONFIG.min_rows + 50)
    for number, (row, output) in enumerate(zip(rows, outputs, strict=True)):
        quality.answered(f"r{number}", [row], [output])
    for hours in (50, -50, 0):
        monkeypatch.setattr("time.time", lambda hours=hours: 1e9 + hours * 3600.0)
        quality.process()
        assert quality.to_dict()["drift"]["ended"] is None
    assert quality.add_labels([Label(f"r{len(rows) - 1}", "a")])["joined"] == 1
    later = time.monotonic() + CONFIG.window_seconds + 1
    monkeypatch.setattr("time.monotonic", lambda: later)
    quality.process()
    assert quality.to_dict()["drift"]["ended"] is not None


def test_a_folder_that_cannot_be_made_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="spill_folder"):
        SpillFile(tmp_path / "file" / "m.sqlite", 10)
    (tmp_path / "no.sqlite").write_text("this is no database, but long enough to be read as one" * 100)
    with pytest.raises(ConfigError, match="spill_folder"):
        SpillFile(tmp_path / "no.sqlite", 10)


def test_a_reservoir_is_fair() -> None:
    taken = np.zeros(200)
    for seed in range(3000):
        reservoir: Reservoir[int] = Reservoir(10, seed=seed)
        for start in range(0, 200, 7):
            reservoir.offer(min(7, 200 - start), lambda i, start=start: start + i)  # type: ignore[misc]
        assert len(set(reservoir.kept)) == 10
        taken[reservoir.kept] += 1
    # each of the 200 is expected 150 times, with a standard deviation of 11.9; 4.5 of them pass by chance in 1 of 700 runs
    assert np.abs(taken - 150).max() < 4.5 * 11.9


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 20))
def test_a_reservoir_is_as_full_as_it_can_be(counts: list[int], size: int) -> None:
    reservoir: Reservoir[int] = Reservoir(size, seed=1)
    for count in counts:
        reservoir.offer(count, lambda i: i)
    assert len(reservoir.kept) == min(size, sum(counts))


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_proportion_is_inside_its_interval(right: int, count: int) -> None:
    found = proportion(min(right, count), count)
    assert found is not None
    assert 0 <= found.lower <= found.value <= found.upper <= 1


def test_intervals_hold_as_often_as_they_say() -> None:
    chance = np.random.default_rng(7)
    held = {"proportion": 0, "mean": 0, "auc": 0}
    true_auc = 0.7602  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
    for _ in range(1000):
        share = proportion(int(chance.binomial(60, 0.9)), 60)
        average = mean(chance.normal(3, 2, 50))
        area = auc(chance.normal(1, 1, 40), chance.normal(0, 1, 60))
        for name, found, true in (("proportion", share, 0.9), ("mean", average, 3), ("auc", area, true_auc)):
            assert found is not None
            held[name] += found.lower <= true <= found.upper
    # 950 expected, standard deviation 7; the normal interval of a mean is a little too narrow at 50
    assert all(920 <= count <= 980 for count in held.values()), held


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), st.lists(st.integers(0, 5), min_size=2, max_size=30))
@settings(max_examples=50)
def test_auc_is_that_of_scikit_learn(positive: list[int], negative: list[int]) -> None:
    from sklearn.metrics import roc_auc_score

    found = auc(np.array(positive, float), np.array(negative, float))
    assert found is not None
    truths = [1] * len(positive) + [0] * len(negative)
    assert found.value == pytest.approx(roc_auc_score(truths, [*positive, *negative]))
    assert 0 <= found.lower <= found.value <= found.upper <= 1


def test_too_little_has_no_interval() -> None:
    assert proportion(0, 0) is None
    assert mean(np.array([1.0])) is None
    assert auc(np.array([1.0]), np.array([0.0, 0.5])) is None

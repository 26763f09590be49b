"""How benchmarks measure: separate processes, alternating rounds, result files, and the page made of them."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness, report
from benchmarks.data_parts import generate
from benchmarks.harness import Figure, Measured, StepFailed, Worker, alternate, times_faster, write_results


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A module of steps that a worker can run."""
    (tmp_path / "some_steps.py").write_text(
        textwrap.dedent(
            """
            import os, time
            from benchmarks.worker import serve

            def add(clock, *, a, b):
                print("noise on standard output")
                with clock:
                    time.sleep(0.01)
                return a + b

            def hold(clock, *, megabytes):
                return len(bytearray(megabytes * 1_000_000))

            def fail(clock):
                raise ValueError("no such thing")

            def die(clock):
                os._exit(3)

            def hang(clock):
                time.sleep(60)

            serve(add, hold, fail, die, hang)
            """
        ),
        encoding="utf-8",
    )
    monkeypatch.setattr(harness, "_path", lambda _python: f"{tmp_path}:{harness.ROOT}")
    return "some_steps"


def test_a_worker_times_what_the_clock_covers_and_ignores_what_libraries_print(steps: str) -> None:
    with Worker(steps) as worker:
        reply = worker.run("add", a=2, b=3)
    assert reply["value"] == 5
    assert 0.01 <= reply["seconds"] < 1


def test_a_worker_reports_the_peak_of_each_step_alone(steps: str) -> None:
    with Worker(steps) as worker:
        large, small = worker.run("hold", megabytes=200)["peak_mb"], worker.run("add", a=1, b=1)["peak_mb"]
    assert large > 200 > small


def test_failures_are_told_apart_and_a_step_that_raised_leaves_its_worker_alive(steps: str) -> None:
    with Worker(steps) as worker:
        with pytest.raises(StepFailed, match="no such thing"):
            worker.run("fail")
        assert worker.run("add", a=1, b=1)["value"] == 2
        with pytest.raises(StepFailed, match="exit status 3"):
            worker.run("die")
    with Worker(steps) as worker, pytest.raises(StepFailed, match="did not finish within 1 s"):
        worker.run("hang", limit_s=1)


def test_a_memory_cap_fails_the_step(steps: str) -> None:
    with Worker(steps, memory_cap=300 << 20) as worker, pytest.raises(StepFailed, match="MemoryError"):
        worker.run("hold", megabytes=1000)


def test_contestants_alternate_and_none_is_always_first() -> None:
    order: list[str] = []

    def turn(name: str) -> Any:
        def run() -> dict[str, Any]:
            order.append(name)
            return {"seconds": float(len(order)), "peak_mb": 1.0, "value": name}

        return run

    measured = alternate({"a": turn("a"), "b": turn("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert measured["a"].rounds == (1.0, 4.0, 5.0)
    assert measured["a"].median == 4.0


def test_a_ratio_above_one_means_that_ours_is_faster() -> None:
    ours, theirs = (
        Measured(rounds=(1.0,), peak_mb=1, values=(None,)),
        Measured(rounds=(5.0,), peak_mb=1, values=(None,)),
    )
    figure = times_faster(ours, theirs, "Peer", "Some data.").as_dict()
    assert (figure["value"], figure["baseline"], figure["ratio"]) == (5.0, 1.0, 5.0)
    assert "bigger is better" in figure["note"]


def test_one_part_is_merged_into_the_results_that_are_there(tmp_path: Path) -> None:
    target = tmp_path / "data.json"
    write_results(
        "data", {"a": Figure(value=1, unit="s"), "b": Figure(value=2, unit="s")}, versions=(), peers={}, target=target
    )
    write_results(
        "data", {"b": Figure(value=4, unit="s", baseline=2)}, versions=("numpy",), peers={"feast": "0"}, target=target
    )
    document = json.loads(target.read_text(encoding="utf-8"))
    assert list(document) == ["name", "date", "commit", "command", "hardware", "versions", "figures"]
    assert document["figures"]["a"]["value"] == 1
    assert document["figures"]["b"] == {
        "value": 4, "unit": "s", "baseline": 2, "baseline_name": "", "ratio": 2, "note": "",
    }  # fmt: skip
    assert {"python", "numpy", "feast"} <= set(document["versions"])


def test_the_page_says_what_was_not_measured_and_why() -> None:
    page = report.render({})
    assert len(report.CLAIMS) == page.count("not measured here")
    assert "`make bench NAME=data` has not run here" in page


def test_generated_data_follow_the_seed_and_have_one_right_answer(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    folders = [tmp_path / name for name in "abc"]
    tables = []
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        folder.mkdir()
        features, _ = generate.driver_stats(folder, rows=5_000, requests=500, keys=50, seed=seed)
        tables.append(pq.read_table(features))
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])
    events = tables[0].column("event_timestamp").to_pylist()
    assert len(set(events)) == len(events)
    assert events != sorted(events)


def test_planted_copies_are_similar_to_their_originals() -> None:
    texts, pairs = generate.short_texts(2_000, seed=3)
    assert 150 < len(pairs) < 250
    for copy, original in pairs:
        assert original < copy
        assert abs(len(texts[copy].split()) - len(texts[original].split())) <= 1
        assert (
            texts[copy].split()[0] == texts[original].split()[0]
            or texts[copy].split()[-1] == texts[original].split()[-1]
        )

"""The quickstart on a few hundred of the real sentences: every step, both protocols, the report, the results file."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from deepseek.bundles import Bundle
from deepseek.data import Table, datasets
from deepseek.errors import ConfigError, DataError, UnknownNameError
from deepseek.recipe import load_recipe, read_recipe, run_recipe

DEEPSEEK = str(Path(sys.executable).parent / "deepseek")
FREE_PORTS = ["--http-port", "0", "--grpc-port", "0"]


def small(folder: Path, rows: int = 400, **changes: Any) -> Path:
    """The quickstart's recipe on the first ``rows`` sentences."""
    sentences = [r for r in datasets.load_dataset_rows("hutto-movie-reviews") if r["label"] is not None][:rows]
    # one exact copy and one row without a label, so that the cleaner has something to do
    sentences += [sentences[0], {**sentences[1], "label": None}]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(r) for r in sentences), encoding="utf-8")
    recipe = load_recipe("quickstart").model_dump(mode="json")
    recipe["name"] = "small"
    recipe["data"]["source"] = str(folder / "rows.jsonl")
    recipe["training"].update({"epochs": 1, "precision": "float32", **changes.pop("training", {})})
    recipe["task"].update(changes.pop("task", {}))
    recipe.update(changes)
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("quickstart")
    command = [DEEPSEEK, "quickstart", "--once", "--recipe", str(small(folder)), "--results", "r.json", *FREE_PORTS]
    return folder, subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)


def test_it_reports_what_a_person_wants_to_know(finished: Any) -> None:
    _, done = finished
    assert done.returncode == 0, done.stderr
    for part in (
        "accuracy",
        "baseline",
        "trained",
        "rejected: 1 no label, 1 exact duplicate",
        "seconds",
        "peak MB",
        "curl -s",
    ):
        assert part in done.stdout
    answers = re.findall(r"^  (REST|gRPC)  (positive|negative)\s+([\d.]+)  (.*)$", done.stdout, re.MULTILINE)
    assert len(answers) == 6
    assert [a[1:] for a in answers[:3]] == [a[1:] for a in answers[3:]]  # both protocols give the same answers
    assert "Traceback" not in done.stderr


def test_it_writes_its_figures(finished: Any) -> None:
    folder, _ = finished
    results = json.loads((folder / "r.json").read_text())
    assert set(results) == {"name", "date", "commit", "command", "hardware", "versions", "figures"}
    assert {"accuracy", "trainable_share", "wall_s"} <= set(results["figures"])
    for figure in results["figures"].values():
        assert set(figure) == {"value", "unit", "baseline", "baseline_name", "ratio", "note"}
    assert 0 < results["figures"]["trainable_share"]["value"] < 0.1


def test_it_leaves_a_run_folder_that_explains_itself(finished: Any) -> None:
    run = finished[0] / "runs" / "quickstart"
    bundle = Bundle.open(run / "bundle", verify=True)
    table, raw, rejects = (Table.open(run / f"{n}.lance") for n in ("clean", "raw", "clean.rejects"))
    assert len(raw) == 402
    assert len(table) + len(rejects) == 402
    assert bundle.manifest.data is not None
    assert bundle.manifest.data.fingerprint == table.fingerprint()
    assert sum(bundle.manifest.data.rows.values()) == len(table)
    assert set(bundle.manifest.reference["columns"]) == {"text", "label"}
    assert read_recipe(yaml.safe_dump(bundle.manifest.recipe)) == load_recipe(run / "recipe.yaml")


def test_training_the_same_recipe_gives_the_same_model(finished: Any, tmp_path: Path) -> None:
    first = Bundle.open(finished[0] / "runs" / "quickstart" / "bundle")
    command = [DEEPSEEK, "--quiet", "train", str(finished[0] / "small.yaml"), "--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    second = Bundle.open(tmp_path / "run" / "bundle")
    assert second.manifest.metrics == first.manifest.metrics
    weights = [b.manifest.files["model.safetensors"].sha256 for b in (first, second)]
    assert weights[0] == weights[1]


def test_no_row_of_the_test_split_was_trained_on(finished: Any) -> None:
    from deepseek.data.text_key import text_key

    table = Table.open(finished[0] / "runs" / "quickstart" / "clean.lance")
    keys = {s: {text_key(r["text"]) for r in table.rows(where=f"split = '{s}'")} for s in ("train", "test")}
    assert keys["train"]
    assert keys["test"]
    assert not keys["train"] & keys["test"]


def test_it_serves_until_it_is_told_to_stop(finished: Any) -> None:
    folder, _ = finished
    command = [DEEPSEEK, "serve", str(folder / "runs" / "quickstart" / "bundle"), *FREE_PORTS]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = next(m.group(1) for line in process.stderr if (m := re.search(r"(http://127\.0\.0\.1:\d+)", line)))
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=30) as response:
            assert response.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_ctrl_c_in_the_middle_leaves_the_old_bundle(finished: Any, tmp_path: Path) -> None:
    folder, _ = finished
    old = folder / "runs" / "quickstart" / "bundle"
    before = Bundle.open(old).manifest
    recipe = small(tmp_path, training={"epochs": 50})
    command = [DEEPSEEK, "train", str(recipe), "--output", str(old.parent)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(old.parent.glob("training/**/checkpoint-*/trainer_state.json")) or process.poll() is not None:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert Bundle.open(old, verify=True).manifest == before
    assert not list(old.parent.glob(".bundle*"))


def run(folder: Path, **changes: Any) -> Any:
    return run_recipe(load_recipe(small(folder, 40, **changes)), folder / "run")


def test_unknown_columns_sources_and_models(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown column 'txt'.*'text'"):
        run(tmp_path, task={"text": "txt"})
    with pytest.raises(UnknownNameError, match="all-minilm-l6-v2"):
        run(tmp_path, model={"base": "all-minilm-l6-v3"})
    with pytest.raises(UnknownNameError, match="hutto-movie-reviews"):
        run(tmp_path, data={"source": "hutto-movies"})
    with pytest.raises(DataError, match="absent"):
        run(tmp_path, data={"source": str(tmp_path / "absent.csv")})
    with pytest.raises(ConfigError, match="no interrupted run"):
        run_recipe(load_recipe(small(tmp_path)), tmp_path / "nothing", resume=True)


def test_one_class_only_and_empty_data(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("text,label\n" + "".join(f"film number {i} is fine,good\n" for i in range(20)))
    with pytest.raises(DataError, match="only 'good'"):
        run(tmp_path, data={"source": str(path)})
    path.write_text("text,label\n")
    with pytest.raises(DataError, match=r"one\.csv"):
        run(tmp_path, data={"source": str(path)})
    path.write_text("")
    with pytest.raises(DataError, match=r"one\.csv"):
        run(tmp_path, data={"source": str(path)})


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_quickstart_beats_the_baseline_by_three_points(tmp_path: Path) -> None:
    command = [DEEPSEEK, "--quiet", "quickstart", "--once", "--results", "r.json", *FREE_PORTS]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=1100)
    figure = json.loads((tmp_path / "r.json").read_text())["figures"]["accuracy"]
    assert figure["value"] - figure["baseline"] >= 0.03

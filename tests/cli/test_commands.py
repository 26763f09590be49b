"""The command line as a person uses it, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

OPTIONS = {
    "quickstart": ["--grpc-port", "--http-port", "--once", "--output", "--recipe", "--results"],
    "train": ["--check", "--output", "--resume", "--schema"],
    "evaluate": ["--device", "--json", "--split", "--where"],
    "predict": ["--device", "--input", "--param", "--task", "--text"],
    "serve": ["--device", "--grpc-port", "--host", "--http-port", "--max-batch-size"],
    "doctor": ["--json"],
}


def run(*arguments: str, folder: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "deepseek"), "--quiet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=folder, input=stdin)


def test_the_commands_and_their_options_are_frozen() -> None:
    from deepseek.cli.app import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) == {*OPTIONS, "data", "hub", "plugins"}
    for name, options in OPTIONS.items():
        there = sorted(o for p in commands[name].params for o in p.opts if o.startswith("--"))
        assert there == options, name
    assert set(commands["data"].commands) == {"list", "ingest", "show", "describe", "versions", "clean"}
    assert set(commands["hub"].commands) == {"list", "pull"}


def test_help_teaches() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in [*OPTIONS, "data", "hub", "plugins"]:
        assert name in done.stdout
    assert "runs/quickstart/bundle" in run("predict", "--help").stdout


def test_predict_and_evaluate(bundle: Any, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    done = run("predict", str(bundle.path), "-t", "a moving and funny film", "-t", "a dull and tired mess")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["positive", "negative"]
    piped = run("predict", str(bundle.path), "-i", "-", stdin="simply wonderful acting\n\npainfully bad acting\n")
    assert [json.loads(line)["label"] for line in piped.stdout.splitlines()] == ["positive", "negative"]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    scored = run("evaluate", str(bundle.path), "rows.jsonl", "--json", folder=tmp_path)
    assert json.loads(scored.stdout)["accuracy"] == 1.0
    assert json.loads(scored.stdout)["rows"] == len(rows)


def test_tables(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("text,label\nfine film,good\nbad film,bad\nfine film,good\n")
    assert "3 rows" in run("data", "ingest", "r.csv", "r.lance", folder=tmp_path).stdout
    shown = run("data", "show", "r.lance", "--json", "-n", "1", folder=tmp_path)
    assert json.loads(shown.stdout) == {"text": "fine film", "label": "good"}
    cleaned = run("data", "clean", "r.lance", "c.lance", "--report", "c.html", folder=tmp_path)
    assert cleaned.returncode == 0, cleaned.stderr
    assert "<html" in (tmp_path / "c.html").read_text(encoding="utf-8")
    described = json.loads(run("data", "describe", "c.lance", folder=tmp_path).stdout)
    assert described["rows"] == 2
    assert "1" in run("data", "versions", "r.lance", folder=tmp_path).stdout
    again = run("data", "ingest", "r.csv", "r.lance", folder=tmp_path)
    assert again.returncode == 2
    assert "overwrite" in again.stderr


def test_lists() -> None:
    assert "all-minilm-l6-v2" in run("hub", "list").stdout
    assert "hutto-movie-reviews" in run("data", "list").stdout
    assert "text-generation" in run("plugins", "list").stdout


def test_doctor_says_what_is_here() -> None:
    done = run("doctor", "--json")
    found = {f["subject"]: f for f in json.loads(done.stdout)}
    assert {"python", "processor", "libraries", "runtime torch", "cache"} <= set(found)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "nope.yaml"], "quickstart"),
        (["train"], "expected a recipe"),
        (["predict", "all-minilm-l6"], "expected --text"),
        (["predict", "all-minilm-l6", "-t", "x"], "all-minilm-l6-v2"),
        (["predict", "./absent", "-t", "x"], "no such file or folder"),
        (["evaluate", "all-minilm-l6-v2", "absent.csv"], "deepseek train"),
        (["serve", "all-minilm-l6-v2", "--http-port", "99999"], "--http-port"),
        (["data", "show", "hutto-movie-review"], "hutto-movie-reviews"),
        (["hub", "pull", "minilm"], "all-minilm-l6-v2"),
    ],
)
def test_mistakes_are_one_clear_message_and_exit_code_2(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""

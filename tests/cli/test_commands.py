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
    "train": [
        "--check",
        "--memory",
        "--output",
        "--plan",
        "--resume",
        "--schema",
        "--set",
        "--time",
        "--workers",
    ],
    "tune": ["--output", "--parallel", "--resume", "--trials"],
    "evaluate": ["--device", "--json", "--runtime", "--split", "--where"],
    "predict": ["--device", "--input", "--param", "--runtime", "--task", "--text"],
    "serve": [
        "--adapter",
        "--config",
        "--core",
        "--device",
        "--grpc-port",
        "--host",
        "--http-port",
        "--keys",
        "--max-batch-size",
        "--model-control",
        "--reload",
        "--reload-dir",
        "--repository",
        "--runtime",
        "--workers",
    ],
    "quantize": ["--calibration", "--dtype", "--json", "--max-drop", "--runtime", "--split"],
    "export": ["--dtype", "--force", "--json", "--max-error", "--output", "--task", "--to"],
    "explain": ["--batch-size", "--device", "--dtype", "--input", "--json", "--refresh", "--task"],
    "profile": [
        "--batch",
        "--context",
        "--device",
        "--dtype",
        "--input",
        "--json",
        "--length",
        "--plot",
        "--prefill",
        "--runtime",
        "--streams",
        "--task",
        "--trace",
    ],
    "doctor": ["--json"],
}
DATA_OPTIONS = {
    "clean": [
        "--config",
        "--engine",
        "--label",
        "--overwrite",
        "--report",
        "--report-language",
        "--set",
        "--split",
        "--text",
    ],
    "compact": ["--engine", "--keep-days"],
    "drift": ["--columns", "--current-version", "--engine", "--json", "--reference-version", "--report"],
    "history": ["--engine", "--feature", "--overwrite", "--time"],
    "import": ["--encoding", "--engine", "--format", "--option", "--overwrite", "--restart", "--strict"],
    "list": [],
    "materialize": ["--engine", "--online", "--until"],
    "online": ["--at", "--feature", "--online"],
    "profile": ["--columns", "--engine", "--json", "--report", "--version"],
    "register": [],
    "show": ["--columns", "--json", "--limit", "--version", "--where"],
    "sql": ["--json", "--limit", "--table"],
    "versions": [],
    "views": [],
}
KEYS_OPTIONS = {
    "create": ["--config", "--expires", "--model", "--note", "--owner", "--plan", "--store"],
    "list": ["--all", "--config", "--json", "--store"],
    "plans": ["--config", "--json"],
    "revoke": ["--config", "--store"],
    "rotate": ["--config", "--overlap", "--store"],
    "usage": ["--config", "--csv", "--from", "--key", "--model", "--store", "--to"],
}
MONITORING_OPTIONS = {"export": ["--overwrite"]}
HUB_OPTIONS = {
    "convert": ["--head", "--joint-steps", "--json", "--layer-steps", "--overwrite", "--seed", "--texts"],
    "list": [],
    "pull": [],
}
BENCH_OPTIONS = {"hardware": ["--device", "--json", "--seconds"]}


def run(*arguments: str, folder: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "deepseek"), "--quiet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=folder, input=stdin)


def test_the_commands_and_their_options_are_frozen() -> None:
    from deepseek.cli.app import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) == {*OPTIONS, "bench", "data", "hub", "keys", "monitoring", "plugins"}
    for name, options in OPTIONS.items():
        there = sorted(o for p in commands[name].params for o in p.opts if o.startswith("--"))
        assert there == options, name
    assert {
        name: sorted(o for p in command.params for o in p.opts if o.startswith("--"))
        for name, command in commands["data"].commands.items()
    } == DATA_OPTIONS
    assert {
        name: sorted(o for p in command.params for o in p.opts if o.startswith("--"))
        for name, command in commands["bench"].commands.items()
    } == BENCH_OPTIONS
    assert {
        name: sorted(o for p in command.params for o in p.opts if o.startswith("--"))
        for name, command in commands["keys"].commands.items()
    } == KEYS_OPTIONS
    assert {
        name: sorted(o for p in command.params for o in p.opts if o.startswith("--"))
        for name, command in commands["monitoring"].commands.items()
    } == MONITORING_OPTIONS
    assert {
        name: sorted(o for p in command.params for o in p.opts if o.startswith("--"))
        for name, command in commands["hub"].commands.items()
    } == HUB_OPTIONS


def test_help_teaches() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in [*OPTIONS, "bench", "data", "hub", "keys", "monitoring", "plugins"]:
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
    assert "3 rows" in run("data", "import", "r.csv", "r.lance", folder=tmp_path).stdout
    shown = run("data", "show", "r.lance", "--json", "-n", "1", folder=tmp_path)
    assert json.loads(shown.stdout) == {"text": "fine film", "label": "good"}
    assert json.loads(
        run("data", "show", "r.lance", "--columns", "label", "--json", "-n", "1", folder=tmp_path).stdout
    ) == {"label": "good"}
    counted = run("data", "sql", "SELECT label, count(*) AS n FROM r GROUP BY 1 ORDER BY 1", "--json", folder=tmp_path)
    assert [json.loads(line) for line in counted.stdout.splitlines()] == [
        {"label": "bad", "n": 1},
        {"label": "good", "n": 2},
    ]
    refused = run("data", "sql", "SELECT * FROM read_csv('r.csv')", folder=tmp_path)
    assert refused.returncode == 2, refused.stdout
    assert "1" in run("data", "versions", "r.lance", folder=tmp_path).stdout
    again = run("data", "import", "r.csv", "r.lance", folder=tmp_path)
    assert again.returncode == 2
    assert "overwrite" in again.stderr
    assert "fragments" in run("data", "compact", "r.lance", "--keep-days", "0", folder=tmp_path).stdout


def test_cleaning_profiles_and_drift(tmp_path: Path) -> None:
    lines = [
        f"a film with the number {n} and mail me{n}@example.org,{'good' if n % 2 else 'bad'},{n}" for n in range(300)
    ]
    (tmp_path / "r.csv").write_text("\n".join(["text,label,stars", *lines, lines[0]]))
    run("data", "import", "r.csv", "r.lance", folder=tmp_path)
    cleaned = run(
        "data", "clean", "r.lance", "c.lance", "--report", "c.html", "--report-language", "zh", "-s", "pii.action=mask",
        "-s", "near_duplicates=null", folder=tmp_path,
    )  # fmt: skip
    assert cleaned.returncode == 0, cleaned.stderr
    assert "<html" in (tmp_path / "c.html").read_text(encoding="utf-8")
    first = json.loads(run("data", "show", "c.lance", "--json", "-n", "1", folder=tmp_path).stdout)
    assert "[EMAIL]" in first["text"]
    wrong = run("data", "clean", "r.lance", "d.lance", "-s", "near_duplicate=0.9", folder=tmp_path)
    assert wrong.returncode == 2
    assert "near_duplicates" in wrong.stderr
    profiled = run("data", "profile", "c.lance", "--json", "--report", "p.html", folder=tmp_path)
    assert json.loads(profiled.stdout)["statistics"]["rows"] == 300
    assert "<html" in (tmp_path / "p.html").read_text(encoding="utf-8")
    (tmp_path / "p.json").write_text(profiled.stdout)
    same = run("data", "drift", "p.json", "c.lance", "--columns", "stars", folder=tmp_path)
    assert same.returncode == 0, same.stdout + same.stderr
    (tmp_path / "n.csv").write_text("text,label,stars\n" + "\n".join(f"t,good,{n + 500}" for n in range(300)))
    moved = run("data", "drift", "p.json", "n.csv", "--columns", "stars", "--json", folder=tmp_path)
    assert moved.returncode == 1, moved.stderr
    assert json.loads(moved.stdout)["columns"]["stars"]["verdict"] == "drift"


def test_features_in_time(tmp_path: Path) -> None:
    (tmp_path / "stats.jsonl").write_text(
        "\n".join(
            json.dumps({"driver": d, "day": f"2026-01-0{n}T00:00:00", "trips": 10 * d + n})
            for d in (1, 2)
            for n in (1, 3)
        )
    )
    (tmp_path / "asked.jsonl").write_text(
        "\n".join(
            json.dumps({"driver": d, "event_time": t})
            for d, t in ((1, "2026-01-02T00:00:00"), (2, "2026-01-04T00:00:00"))
        )
    )
    assert run("data", "import", "stats.jsonl", "stats.lance", folder=tmp_path).returncode == 0
    text_times = "name: stats\nsource: stats.lance\nentities: [driver]\nevent_time: day\n"
    (tmp_path / "view.yaml").write_text(text_times)
    refused = run("data", "register", "store", "view.yaml", folder=tmp_path)
    assert refused.returncode == 2
    assert "timestamp" in refused.stderr
    from deepseek.data import Table

    Table.open(tmp_path / "stats.lance").add_columns({"at": "cast(day as timestamp)"})
    (tmp_path / "view.yaml").write_text(text_times.replace("event_time: day", "event_time: at\nfeatures: [trips]"))
    registered = run("data", "register", "store", "view.yaml", folder=tmp_path)
    assert registered.returncode == 0, registered.stderr
    assert "stats" in run("data", "views", "store", folder=tmp_path).stdout
    run("data", "import", "asked.jsonl", "asked.lance", folder=tmp_path)
    Table.open(tmp_path / "asked.lance").add_columns({"t": "cast(event_time as timestamp)"})
    joined = run("data", "history", "store", "asked.lance", "out.lance", "--time", "t", folder=tmp_path)
    assert joined.returncode == 0, joined.stderr
    assert Table.open(tmp_path / "out.lance").to_arrow().column("trips").to_pylist() == [11, 23]
    made = run("data", "materialize", "store", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    read = run("data", "online", "store", "driver=2", "driver=7", folder=tmp_path)
    assert [json.loads(line)["trips"] for line in read.stdout.splitlines()] == [23, None]


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
        (["serve", "smollm2-135m-instruct", "--adapter", "folder"], "NAME=FOLDER"),
        (["data", "show", "hutto-movie-review"], "hutto-movie-reviews"),
        (["hub", "pull", "minilm"], "all-minilm-l6-v2"),
        (["hub", "convert", "minilm", "folder"], "all-minilm-l6-v2"),
        (["hub", "convert", "all-minilm-l6-v2", "folder", "--texts", "absent.txt"], "--texts"),
    ],
)
def test_mistakes_are_one_clear_message_and_exit_code_2(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""

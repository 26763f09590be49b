"""Every snippet that a person could copy from the documentation runs."""

from __future__ import annotations

import json
import re
import shlex
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

ROOT = Path(__file__).parents[1]
TUTORIALS = [
    f"docs/tutorials/{name}{language}.md"
    for name in ("feature-store", "fine-tuning", "pretraining", "serving")
    for language in ("", ".zh-CN")
]
EXPLANATIONS = ["docs/deepseek-base.md", "docs/deepseek-base.zh-CN.md"]
PAGES = ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", *TUTORIALS, *EXPLANATIONS]
BLOCK = re.compile(r"^```(\w+)( notest)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [body for kind, skip, body in BLOCK.findall(text) if kind == language and not skip]


@pytest.mark.parametrize("page", PAGES)
def test_python_snippets_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepseek.tasks import TASKS

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TASKS, "_targets", dict(TASKS._targets))
    monkeypatch.setattr(TASKS, "_loaded", dict(TASKS._loaded))
    space: dict[str, Any] = {"__name__": "snippet"}
    found = blocks(page, "python")
    assert found
    for body in found:
        exec(compile(body, page, "exec"), space)


def commands() -> list[tuple[str, str]]:
    return [
        (page, line)
        for page in PAGES
        for body in blocks(page, "bash")
        for line in body.replace("\\\n", " ").splitlines()
        if line.strip()
    ]


@pytest.mark.parametrize(("page", "line"), commands())
def test_shell_snippets_name_what_exists(page: str, line: str) -> None:
    words = shlex.split(line)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    elif words[0] == "deepseek":
        from deepseek.cli.app import app

        command: Any = get_command(app)
        rest = words[1:]
        while hasattr(command, "commands"):
            assert rest[0] in command.commands
            command = command.commands[rest.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options
    else:
        assert words[0] == "curl"


@pytest.mark.parametrize("page", [page for page in TUTORIALS if "serving" in page])
def test_the_settings_of_the_serving_tutorial_are_settings(page: str) -> None:
    from deepseek.serving import ServingConfig

    found = blocks(page, "yaml")
    assert found
    for body in found:
        ServingConfig.model_validate(yaml.safe_load(body))


def test_commands_in_the_table_are_the_commands_there_are() -> None:
    from deepseek.cli.app import app

    there = set(get_command(app).commands)  # type: ignore[attr-defined]
    for page in PAGES[:2]:
        assert set(re.findall(r"^\| `deepseek (\w+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)) == there


def test_the_curl_line_works(bundle: Any) -> None:
    from deepseek.inference import Predictor
    from deepseek.serving import Server, ServingConfig

    line = next(line for page, line in commands() if page == "README.md" and line.startswith("curl"))
    words = shlex.split(line)
    url = next(w for w in words if w.startswith("http"))
    headers = dict(words[i + 1].split(": ", 1) for i, w in enumerate(words) if w == "-H")
    body = words[words.index("-d") + 1].encode()
    config = ServingConfig(http_port=0, grpc_port=0)
    with Server(config, [Predictor.load(bundle.path, name="quickstart")]) as server:
        request = urllib.request.Request(
            url.replace("http://127.0.0.1:8000", server.http_url), data=body, headers=headers
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            reply = json.load(response)
    assert reply["outputs"][0]["label"] in {"positive", "negative"}


def test_links_to_files_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


def test_no_page_names_a_machine_of_ours() -> None:
    for path in ROOT.rglob("*.md"):
        if ".venv" not in path.parts and "runs" not in path.parts:
            assert "/work/" not in path.read_text(encoding="utf-8"), path

"""deepseek serve: settings from a file and from options, a folder of models, reloading; as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import ValidationError

from deepseek.cli.serve import _settings
from deepseek.errors import ConfigError
from deepseek.serving import ServingConfig

NOTHING: dict[str, Any] = {"host": None, "http_port": None}


def test_options_go_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "serving.yml"
    told = {"http_port": 1, "max_queue": 7, "access": {"mode": "off", "default_plan": "unlimited"}}
    file.write_text(yaml.safe_dump(told), encoding="utf-8")
    settings = _settings(file, NOTHING | {"http_port": 2}, "required", True)
    assert (settings.http_port, settings.max_queue, settings.model_control) == (2, 7, True)
    assert (settings.access.mode, settings.access.default_plan) == ("required", "unlimited")
    assert _settings(None, NOTHING, None, False) == ServingConfig()


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("[1]", {}, "expected settings by name"),
        ("a: [", {}, "cannot be read"),
        ("max_queue: 0", {}, "setting max_queue"),
        ("monitoring: {step_seconds: x}", {}, "setting monitoring.step_seconds"),
        ("{}", {"http_port": 99999}, "--http-port"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, given: dict[str, Any], message: str) -> None:
    file = tmp_path / "serving.yml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(message)):
        _settings(file, NOTHING | given, None, False)
    with pytest.raises(ValidationError):
        ServingConfig.model_validate({"http_port": 99999})


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """A folder with one tiny classifier."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fine", "dull"]))
    config = BertConfig(
        vocab_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=2
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder.parent


@pytest.fixture
def serving(bundles: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    code = tmp_path / "code"
    code.mkdir()
    command = [str(Path(sys.executable).parent / "deepseek"), "serve", "--repository", str(bundles)]
    options = ["--http-port", "0", "--grpc-port", "0", "--reload", "--reload-dir", str(code)]
    process = subprocess.Popen([*command, *options], stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
    yield process, _url(process)
    process.kill()
    process.communicate()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        found = re.search(r"REST (http\S+)", line)
        if found:
            return found[1]
    raise AssertionError("".join(lines))


def test_a_folder_is_served_and_changed_code_restarts_the_server(
    serving: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    process, url = serving
    answer = httpx.post(url + "/v1/tasks/text-classification", json={"inputs": "fine"}, timeout=30)
    assert answer.json()["model"] == "tiny"
    time.sleep(0.5)  # the watch begins beside the server's start
    (tmp_path / "code" / "app.py").write_text("x = 1", encoding="utf-8")
    again = _url(process)
    assert httpx.get(again + "/v2/models/tiny", timeout=30).json()["name"] == "tiny"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0

"""A tokenizer is the one that transformers' AutoTokenizer would give, without the imports that it would do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from transformers import AutoTokenizer
from transformers.utils import logging

from deepseek.errors import ConfigError
from deepseek.models import tokenizer_for
from deepseek.models.loading import quiet_transformers

TEXTS = ["A moving and funny film", "你好，世界", "  two  spaces\nand a line"]


def assert_same(folder: Path) -> None:
    ours, theirs = tokenizer_for(folder), AutoTokenizer.from_pretrained(folder)
    assert type(ours) is type(theirs)
    assert ours.init_kwargs == theirs.init_kwargs
    assert ours(TEXTS) == theirs(TEXTS)
    assert len(ours) == len(theirs)


@pytest.mark.parametrize("model", ["minilm", "smollm"])
def test_it_is_transformers_own(model: str, request: pytest.FixtureRequest) -> None:
    assert_same(request.getfixturevalue(model))


@pytest.mark.parametrize("change", [{"tokenizer_class": None}, {"tokenizer_class": "PreTrainedTokenizerFast"}])
def test_whatever_the_folder_says_of_its_class(change: dict[str, str | None], minilm: Path, tmp_path: Path) -> None:
    shutil.copytree(minilm, tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    told = json.loads(file.read_text()) | change
    file.write_text(json.dumps({name: value for name, value in told.items() if value is not None}))
    assert_same(tmp_path / "model")


def test_a_folder_without_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    with pytest.raises(ConfigError, match="no tokenizer"):
        tokenizer_for(tmp_path)


def test_a_language_model_is_opened_without_the_classes_of_models(smollm: Path) -> None:
    code = (
        "import sys; from deepseek.inference.opening import opened; from deepseek.models import tokenizer_for\n"
        f"found = opened({str(smollm)!r}); print(found.task.name, found.task.max_length)\n"
        "assert tokenizer_for(found.checkpoint)('a')['input_ids']\n"
        "print([name for name in sys.modules if name.startswith(('transformers.models.llama', 'torch._dynamo.sy'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    config = json.loads((smollm / "config.json").read_text())
    assert done.stdout.splitlines() == [f"text-generation {config['max_position_embeddings']}", "[]"]


def test_overlapping_silences_end_with_what_was_before() -> None:
    before = logging.get_verbosity()
    first_is_in, second_is_in = threading.Event(), threading.Event()

    def longer() -> None:
        first_is_in.wait(10)
        with quiet_transformers():
            second_is_in.set()
            over.wait(10)

    over = threading.Event()
    thread = threading.Thread(target=longer)
    thread.start()
    with quiet_transformers():
        first_is_in.set()
        assert second_is_in.wait(10)
    assert logging.get_verbosity() == logging.ERROR
    over.set()
    thread.join()
    assert logging.get_verbosity() == before

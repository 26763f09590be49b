"""What every task must do, shipped or from a plugin: one parametrised test picks a new one up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deepseek.errors import DataError
from deepseek.models import tokenizer_for
from deepseek.models.loading import HEADS
from deepseek.tasks import TASKS

NAMES = TASKS.names()


def example(name: str) -> Any:
    """A task with its smallest configuration."""
    kind = TASKS.get(name)
    return kind(labels=("a", "b")) if "labels" in kind.model_fields else kind()


@pytest.mark.parametrize("name", NAMES)
def test_it_describes_itself(name: str) -> None:
    task = example(name)
    assert type(task).name == name
    assert type(task).head in HEADS
    fields = [*task.signature.inputs, *task.signature.outputs]
    assert len({f.name for f in fields}) == len(fields)
    assert all(f.oip_datatype for f in fields)


@pytest.mark.parametrize("name", NAMES)
def test_its_configuration_survives_json(name: str) -> None:
    task = example(name)
    assert type(task)(**json.loads(task.model_dump_json())) == task


@pytest.mark.parametrize("name", NAMES)
def test_it_encodes_rows_and_pads_them(name: str) -> None:
    task, tokenizer = example(name), tokenizer_for("all-minilm-l6-v2")
    column = task.text_columns[0]
    features = task.prepare([{column: "short"}, {column: "a somewhat longer text"}], tokenizer)
    batch = task.collate(features, tokenizer)
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert batch["input_ids"].shape[0] == 2
    assert batch["attention_mask"].sum(1).tolist() == [len(f["input_ids"]) for f in features]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, 7, "", "   ", b"bytes"])
def test_it_refuses_what_is_no_text(name: str, value: Any) -> None:
    task, tokenizer = example(name), tokenizer_for("all-minilm-l6-v2")
    column = task.text_columns[0]
    with pytest.raises(DataError, match=f"row .*{column}"):
        task.prepare([{column: value}], tokenizer)
    with pytest.raises(DataError, match=column):
        task.prepare([{"other": "text"}], tokenizer)


@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_parameters_it_does_not_name(name: str) -> None:
    with pytest.raises(DataError, match="nonsense"):
        example(name).check_parameters({"nonsense": 1})

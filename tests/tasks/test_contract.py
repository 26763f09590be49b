"""What every task must do, shipped or from a plugin: one parametrised test picks a new one up."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pytest
import torch
import transformers
from task_examples import EXAMPLES

from deepseek.errors import DataError
from deepseek.inference.torch_runtime import TorchModel
from deepseek.models import tokenizer_for
from deepseek.models.loading import HEADS
from deepseek.serving.oip.tensor_field import TensorField
from deepseek.tasks import TASKS

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = TASKS.names()
TEXT = [name for name in NAMES if TASKS.get(name).processor == "tokenizer"]
TRAINED = [name for name in NAMES if EXAMPLES[name].rows]
BROKEN = [(name, *case) for name in TRAINED for case in EXAMPLES[name].broken]
WEIGHED = [name for name in TRAINED if EXAMPLES[name].weighs]


def example(name: str) -> Any:
    """A task with its smallest configuration."""
    return TASKS.get(name)(**EXAMPLES[name].options)


def tiny(task: Any) -> Any:
    """A small model of random weights with the head that the task needs."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, **task.model_options()
    )
    return getattr(transformers, HEADS[type(task).head]).from_config(config)


@pytest.fixture
def tokenizer() -> Any:
    return tokenizer_for("all-minilm-l6-v2")


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


@pytest.mark.parametrize("name", TEXT)
def test_it_encodes_rows_and_pads_them(name: str, tokenizer: Any) -> None:
    task = example(name)
    column = task.text_columns[0]
    features = task.prepare([{column: text} for text in EXAMPLES[name].texts], tokenizer)
    batch = task.collate(features, tokenizer)
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert batch["input_ids"].shape[0] == 2
    assert batch["attention_mask"].sum(1).tolist() == [len(f["input_ids"]) for f in features]


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("value", [None, 7, "", "   ", b"bytes"])
def test_it_refuses_what_is_no_text(name: str, value: Any, tokenizer: Any) -> None:
    task = example(name)
    column = task.text_columns[0]
    with pytest.raises(DataError, match=f"row .*{column}"):
        task.prepare([{column: value}], tokenizer)
    with pytest.raises(DataError, match=column):
        task.prepare([{"other": "text"}], tokenizer)


@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_parameters_it_does_not_name(name: str) -> None:
    with pytest.raises(DataError, match="nonsense"):
        example(name).check_parameters({"nonsense": 1})


@pytest.mark.parametrize("name", TRAINED)
def test_it_learns_its_configuration_from_rows(name: str) -> None:
    rows = EXAMPLES[name].rows
    learned = {k: v for k, v in EXAMPLES[name].options.items() if k != "labels"}
    fitted = TASKS.get(name)(**learned).fitted(rows)
    assert fitted == example(name).fitted(rows)
    assert fitted == TASKS.get(name)(**learned).fitted(rows[::-1])
    assert type(fitted)(**json.loads(fitted.model_dump_json())) == fitted
    assert set(fitted.input_columns) <= set(rows[0])
    assert fitted.answer_column is None or fitted.answer_column in rows[0]
    with pytest.raises(DataError, match="no rows"):
        fitted.fitted([])


@pytest.mark.parametrize("name", TRAINED)
def test_its_training_features_can_be_stored(name: str, tokenizer: Any) -> None:
    task = example(name)
    features = task.encode(EXAMPLES[name].rows, tokenizer)
    assert all(task.length(f) >= 1 for f in features)
    stored = pa.Table.from_pylist(features).to_pylist()
    straight, stored = (task.collate_training(f, tokenizer) for f in (features, stored))
    assert straight.keys() == stored.keys()
    assert all(torch.equal(straight[key], stored[key]) for key in straight)


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_reach_the_head_and_the_trunk(name: str, tokenizer: Any) -> None:
    task = example(name)
    model = tiny(task)
    loss, outputs = task.loss(model, task.collate_training(task.encode(EXAMPLES[name].rows, tokenizer), tokenizer))
    assert loss.ndim == 0
    assert math.isfinite(loss.item())
    assert "logits" in outputs
    loss.backward()
    gradients = {n: p.grad.abs().sum().item() for n, p in model.named_parameters() if p.grad is not None}
    assert any(value > 0 for n, value in gradients.items() if not n.startswith(model.base_model_prefix))
    assert any(value > 0 for n, value in gradients.items() if "embeddings" in n)


@pytest.mark.parametrize("name", TRAINED)
def test_a_few_steps_lower_the_loss(name: str, tokenizer: Any) -> None:
    task = example(name)
    model = tiny(task).train()
    batch = task.collate_training(task.encode(EXAMPLES[name].rows, tokenizer), tokenizer)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    losses = []
    for _ in range(10):
        loss, _ = task.loss(model, batch)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", TRAINED)
def test_classes_can_be_weighed_and_smoothed_or_are_said_not_to_be_there(name: str, tokenizer: Any) -> None:
    task = example(name)
    model = tiny(task).eval()
    features = task.encode(EXAMPLES[name].rows, tokenizer)
    batch = task.collate_training(features, tokenizer)
    if name not in WEIGHED:
        with pytest.raises(DataError, match="no classes"):
            task.class_counts(features)
        with pytest.raises(DataError, match="no classes"):
            task.loss(model, batch, label_smoothing=0.1)
        return
    counts = task.class_counts(features)
    assert len(counts) == len(task.labels)
    assert all(n > 0 for n in counts)
    plain = task.loss(model, batch)[0].item()
    ones = torch.ones(len(counts))
    assert task.loss(model, batch, class_weights=ones)[0].item() == pytest.approx(plain, rel=1e-5)
    weighed = task.loss(model, batch, class_weights=torch.arange(len(counts)) + 1.0)[0].item()
    smoothed = task.loss(model, batch, label_smoothing=0.3)[0].item()
    assert weighed != pytest.approx(plain, rel=1e-6)
    assert smoothed != pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("name", TRAINED)
def test_its_scores_have_the_main_metric_and_intervals(name: str, tokenizer: Any) -> None:
    task = example(name)
    scores = task.score(TorchModel(tiny(task).eval()), EXAMPLES[name].rows, tokenizer, batch_size=3)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    metrics = [m for m in scores if not m.endswith(("_low", "_high"))]
    assert task.main_metric in metrics
    for metric in metrics:
        assert scores[f"{metric}_low"] <= scores[metric] <= scores[f"{metric}_high"], metric
    with pytest.raises(DataError, match="no rows"):
        task.metrics([], [])


@pytest.mark.parametrize("name", TRAINED)
def test_answers_are_as_the_signature_says_whatever_else_is_in_the_batch(name: str, tokenizer: Any) -> None:
    task = example(name)
    model = TorchModel(tiny(task).eval())
    features = task.prepare(EXAMPLES[name].rows, tokenizer)
    together = task.run(model, features, tokenizer, {})
    for feature, answer in zip(features, together, strict=True):
        assert list(answer) == [field.name for field in task.signature.outputs]
        json.dumps(answer, allow_nan=False)
        for field in task.signature.outputs:  # the tensors of the Open Inference Protocol
            shape, values = TensorField(field, "output").flatten_rows([answer[field.name]])
            assert math.prod(shape) == len(values)
            TensorField(field, "output").parse_json(values)
        (alone,) = task.run(model, [feature], tokenizer, {})
        for key, value in answer.items():
            numbers = isinstance(value, float) or (isinstance(value, list) and value and isinstance(value[0], float))
            assert alone[key] == (pytest.approx(value, abs=1e-5) if numbers else value), key


@pytest.mark.parametrize(("name", "change", "said"), BROKEN)
def test_a_broken_row_is_named(name: str, change: dict[str, Any], said: str, tokenizer: Any) -> None:
    task = example(name)
    rows = [dict(row) for row in EXAMPLES[name].rows]
    rows[1] |= change
    with pytest.raises(DataError, match=f"row 1: .*{said}"):
        task.encode(rows, tokenizer)
    if set(change) & {"label", "labels", "tags"}:
        with pytest.raises(DataError, match=f"row 1: .*{said}"):
            task.fitted(rows)

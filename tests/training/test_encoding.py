"""Features on disk are the features in memory, whatever the rows; wrong rows stop with their number."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import save_tiny, sentences

from deepseek.data import Table
from deepseek.errors import ConfigError, DataError
from deepseek.models import from_pretrained, tokenizer_for
from deepseek.tasks import TASKS, Signature, Task
from deepseek.training.encoding.encoded_rows import EncodedRows, open_encoded
from deepseek.training.encoding.limits import ModelLimits
from deepseek.training.encoding.row_source import split_rows
from deepseek.training.encoding.writing import encode, encoding_fingerprint


class Given(Task):
    """A task whose rows are their features."""

    name: ClassVar[str] = "given"
    head: ClassVar[str] = "none"

    @property
    def signature(self) -> Signature:
        return Signature(inputs=(), outputs=())

    def encode(self, rows: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in rows]

    def prepare(self, rows: Any, tokenizer: Any) -> Any: ...
    def collate(self, features: Any, tokenizer: Any) -> Any: ...
    def decode(self, outputs: Any, count: int) -> Any: ...


def encoded(rows: Any, folder: Path, task: Any = None, tokenizer: Any = None, **options: Any) -> EncodedRows:
    return encode(split_rows(rows, None)[0], task or Given(), tokenizer, folder, **options)


INT = st.integers(-(2**62), 2**62)
NUMBERS = {
    "id": st.one_of(st.integers(-5, 5), st.integers(-40_000, 40_000), INT),
    "size": st.floats(width=32, allow_nan=False),
    "text": st.text(max_size=5),
    "sure": st.booleans(),
    "ids": st.lists(st.one_of(st.integers(0, 1), INT), max_size=6),
    "deep": st.lists(st.lists(st.integers(0, 300), max_size=3), min_size=1, max_size=3).filter(lambda v: any(v)),
    "mixed": st.lists(st.one_of(st.integers(-9, 9), st.floats(width=32, allow_nan=False)), max_size=4),
}


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries(NUMBERS), min_size=1, max_size=12), chunk=st.integers(1, 5))
def test_features_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, rows: Any, chunk: int) -> None:
    from deepseek.training.encoding import writing

    before, writing.CHUNK = writing.CHUNK, chunk  # so that columns widen from chunk to chunk
    try:
        found = encoded(rows, tmp_path_factory.mktemp("given") / "encoded")
    finally:
        writing.CHUNK = before
    assert len(found) == len(rows)
    for index, row in enumerate(rows):
        assert found[index] == {**row, "row": index}
    assert list(found) == [found[i] for i in range(len(rows))]
    assert found[-1] == found[len(rows) - 1]


def test_numbers_are_kept_narrow(tmp_path: Path) -> None:
    rows = [{"mask": [1, 1, 0], "ids": [7, 30_000, 2], "label": 1, "score": 0.5}] * 4
    encoded(rows, tmp_path / "e")
    with pa.memory_map(str(tmp_path / "e" / "features.arrow")) as source:
        schema = pa.ipc.open_file(source).schema
    types = {name: str(schema.field(name).type) for name in ("mask", "ids", "label", "score")}
    assert types == {"mask": "list<item: int8>", "ids": "list<item: int16>", "label": "int8", "score": "float"}


def test_images_come_back_as_arrays(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((5, 3, 4, 4), np.float32)
    for number, values in enumerate((list(pixels), pixels.tolist())):
        found = encoded(
            [{"pixel_values": value, "labels": i} for i, value in enumerate(values)], tmp_path / str(number)
        )
        assert np.array_equal(np.stack([item["pixel_values"] for item in found]), pixels)
        assert found[3]["pixel_values"].dtype == np.float32
    ragged = [{"pixel_values": np.ones((2, 3)).tolist()}, {"pixel_values": np.ones((1, 3)).tolist()}]
    assert encoded(ragged, tmp_path / "ragged")[1]["pixel_values"] == [[1.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"a": 1}, {"b": 1}], "row 1: expected the features a in every row, received b"),
        ([{"a": 1}, {"a": None}], "row 1: feature 'a' has no value"),
        ([{"a": [1]}, {"a": 2}], "expected lists of one depth"),
        ([{"a": object()}], "expected numbers, strings or lists of numbers"),
        ([{"a": ["x"]}], "expected numbers, strings or lists of numbers"),
        ([{"row": 1}], "may not be called 'row'"),
    ],
)
def test_features_that_cannot_be_kept_are_refused(tmp_path: Path, rows: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        encoded(rows, tmp_path / "e")
    assert not list(tmp_path.iterdir())


def test_a_table_is_streamed_and_its_split_is_respected(tmp_path: Path, tiny: Path) -> None:
    rows = sentences(50)
    splits = [("train", "validation", "test")[i % 3] for i in range(50)]
    table = Table.create(
        tmp_path / "t.lance", pa.Table.from_pylist([{**r, "split": s} for r, s in zip(rows, splits, strict=True)])
    )
    train, scored = split_rows(table, None)
    task, tokenizer = TASKS.get("text-classification")().fitted(train), tokenizer_for(tiny)
    found = encode(train, task, tokenizer, tmp_path / "e")
    expected = task.encode([r for r, s in zip(rows, splits, strict=True) if s == "train"], tokenizer)
    assert [{k: v for k, v in item.items() if k != "row"} for item in found] == expected
    assert found.lengths.tolist() == [len(f["input_ids"]) for f in expected]
    assert found.lengths.dtype == np.int32
    assert scored is not None
    assert len(scored) == splits.count("validation")
    assert scored[0] == {**rows[1], "split": "validation"}
    assert list(scored) == list(scored[:])
    assert found.origin(2) == "row 6 (id 's6')"
    assert len(split_rows(str(tmp_path / "t.lance"), None)[0]) == len(train)
    assert len(split_rows(tmp_path / "t.lance", rows)[1]) == 50
    assert pickle.loads(pickle.dumps(found))[3] == found[3]


def test_a_row_is_named_by_its_number_in_the_table(tmp_path: Path, tiny: Path) -> None:
    rows = [{**row, "split": "train" if i % 2 else "test"} for i, row in enumerate(sentences(40))]
    rows[31]["text"] = " "
    tokenizer, task = tokenizer_for(tiny), TASKS.get("text-classification")()
    for source in (rows, Table.create(tmp_path / "t.lance", pa.Table.from_pylist(rows))):
        train, _ = split_rows(source, None)
        with pytest.raises(DataError, match=r"^row 31: 'text' is empty"):
            encode(train, task.fitted(train), tokenizer, tmp_path / "e")


def test_the_same_rows_are_encoded_once(tmp_path: Path, monkeypatch: Any) -> None:
    rows = [{"a": [1, 2]}, {"a": [3]}]
    encoded(rows, tmp_path / "e")
    with monkeypatch.context() as patch:
        patch.setattr(Given, "encode", None)
        assert encoded(rows, tmp_path / "e")[1] == {"a": [3], "row": 1}
    assert encoded([{"a": [1, 2]}, {"a": [4]}], tmp_path / "e")[1] == {"a": [4], "row": 1}


def test_the_fingerprint_is_of_task_tokenizer_and_rows(tmp_path: Path, tiny: Path) -> None:
    tokenizer, other = tokenizer_for(tiny), tokenizer_for(tiny)
    rows = split_rows(sentences(4), None)[0]
    task = TASKS.get("text-classification")(labels=("negative", "positive"))
    first = encoding_fingerprint(rows, task, tokenizer)
    tokenizer(["w1 w2"], truncation=True, max_length=3)  # leaves its settings in the tokenizer
    assert encoding_fingerprint(rows, task, tokenizer) == first
    other.add_tokens(["new"])
    assert encoding_fingerprint(rows, task, other) != first
    assert encoding_fingerprint(rows, task.model_copy(update={"max_length": 7}), tokenizer) != first
    assert encoding_fingerprint(split_rows(sentences(5), None)[0], task, tokenizer) != first
    table = Table.create(tmp_path / "t.lance", pa.Table.from_pylist(sentences(4)))
    before = encoding_fingerprint(split_rows(table, None)[0], task, tokenizer)
    assert encoding_fingerprint(split_rows(Table.open(tmp_path / "t.lance"), None)[0], task, tokenizer) == before
    table.append(pa.Table.from_pylist(sentences(1)))
    assert encoding_fingerprint(split_rows(table, None)[0], task, tokenizer) != before


def test_an_interrupted_encoding_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    from deepseek.training.encoding import writing

    monkeypatch.setattr(writing, "CHUNK", 2)
    calls = 0

    def encode_some(self: Any, rows: Any, tokenizer: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return [dict(row) for row in rows]

    with monkeypatch.context() as patch:
        patch.setattr(Given, "encode", encode_some)
        with pytest.raises(KeyboardInterrupt):
            encoded([{"a": i} for i in range(6)], tmp_path / "e")
    assert not list(tmp_path.iterdir())
    (tmp_path / ".e.tmp-killed").mkdir()
    assert len(encoded([{"a": i} for i in range(6)], tmp_path / "e")) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    assert open_encoded(tmp_path / "e", "another fingerprint") is None


@pytest.mark.parametrize(("kind", "positions", "limit"), [("bert", 20, 20), ("roberta", 20, 19)])
def test_sequences_beyond_the_positions_are_refused(tmp_path: Path, kind: str, positions: int, limit: int) -> None:
    tiny = save_tiny(tmp_path / "m", positions=positions, kind=kind)
    limits = ModelLimits.of(from_pretrained(tiny))
    assert limits == ModelLimits(limit, 65)
    rows = [{"text": "w1 w2", "label": "a"}, {"text": "w3 " * 40, "label": "b"}]
    task = TASKS.get("text-classification")(max_length=limit).fitted(rows)
    assert max(encoded(rows, tmp_path / "e", task, tokenizer_for(tiny), limits=limits).lengths) == limit
    longer = task.model_copy(update={"max_length": limit + 1})
    with pytest.raises(ConfigError, match=rf"row 1 has {limit + 1} tokens.*positions for {limit}; set task.max_length"):
        encoded(rows, tmp_path / "e", longer, tokenizer_for(tiny), limits=limits)
    with pytest.raises(ConfigError, match="knows 65 tokens; the tokenizer is not this model's"):
        encoded([{"input_ids": [3, 65]}], tmp_path / "f", limits=limits)


def test_rotary_positions_have_no_limit() -> None:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    assert ModelLimits.of(transformers.AutoModelForCausalLM.from_config(config)) == ModelLimits(None, 9)


def test_other_things_than_rows_are_refused(tmp_path: Path) -> None:
    for wrong, match in [
        (3, "received int"),
        ({"text": "x"}, "received dict"),
        ([], "no rows"),
        (["x"], "row 0: expected a dict"),
    ]:
        with pytest.raises(DataError, match=match):
            split_rows(wrong, None)
    with pytest.raises(DataError, match="whose split is 'train'"):
        split_rows([{"text": "x", "split": "test"}], None)


def test_a_data_frame_is_rows(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    train, scored = split_rows(pandas.DataFrame(sentences(6)), pandas.DataFrame(sentences(2)))
    assert list(train) == sentences(6)
    assert scored is not None
    assert list(scored) == sentences(2)

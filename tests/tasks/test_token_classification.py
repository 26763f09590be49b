"""Tags on sub-words, windows, spans with offsets, plain text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from deepseek.errors import ConfigError, DataError
from deepseek.models import tokenizer_for
from deepseek.tasks.token_classification import IGNORED, TokenClassification

NER = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tokenizer_for("all-minilm-l6-v2")


class Oracle:
    """A model that knows the tag of each sub-word by its id; everything else is 'O'."""

    def __init__(self, tokenizer: Any, tags: dict[str, str], labels: tuple[str, ...]) -> None:
        self.ids = {tokenizer.convert_tokens_to_ids(piece): labels.index(tag) for piece, tag in tags.items()}
        self.other, self.count, self.batches = labels.index("O"), len(labels), []

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        ids = batch["input_ids"]
        self.batches.append(tuple(ids.shape))
        best = torch.tensor([[self.ids.get(i, self.other) for i in row] for row in ids.tolist()])
        return {"logits": 20.0 * torch.nn.functional.one_hot(best, self.count)}


def test_the_tag_is_on_the_first_subword_only(tokenizer: Any) -> None:
    task = TokenClassification(labels=NER)
    row = {"tokens": ["Unbelievabilities", "in", "Rome"], "tags": ["B-PER", "O", "B-LOC"]}
    (feature,) = task.encode([row], tokenizer)
    pieces = tokenizer.convert_ids_to_tokens(feature["input_ids"])
    labelled = [(piece, NER[label]) for piece, label in zip(pieces, feature["labels"], strict=True) if label != IGNORED]
    assert [tag for _, tag in labelled] == row["tags"]
    assert labelled[1:] == [("in", "O"), ("rome", "B-LOC")]
    assert not labelled[0][0].startswith("##")
    assert len(pieces) > 5 + 1


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.sampled_from(["Rome", "unbelievabilities", "a", "\u200b", "don't", "中文", "x" * 300]),
        min_size=1,
        max_size=120,
    ),
    st.integers(16, 64),
)
def test_every_token_is_learned_once_whatever_the_windows(tokens: list[str], max_length: int) -> None:
    tokenizer = tokenizer_for("all-minilm-l6-v2")
    task = TokenClassification(labels=("A", "B", "O"), max_length=max_length)
    tags = ["ABO"[n % 3] for n in range(len(tokens))]
    features = task.encode([{"tokens": tokens, "tags": tags}], tokenizer)
    assert all(len(f["input_ids"]) <= max_length for f in features)
    learned = [label for f in features for label in f["labels"] if label != IGNORED]
    assert sorted(learned) == sorted(task.labels.index(tag) for tag in tags)
    (row,) = task.prepare([{"tokens": tokens}], tokenizer)
    assert sorted(word for window in row["windows"] for word in window["words"]) == list(range(len(tokens)))


def test_long_rows_are_answered_as_short_ones_are(tokenizer: Any) -> None:
    task = TokenClassification(labels=NER, max_length=16)
    oracle = Oracle(tokenizer, {"alice": "B-PER", "new": "B-LOC", "york": "I-LOC"}, NER)
    tokens = ["Alice", "saw", "New", "York", "."] * 20
    features = task.prepare([{"tokens": tokens}, {"tokens": ["Alice"]}], tokenizer)
    long, short = task.run(oracle, features, tokenizer, {})
    assert long["tags"] == ["B-PER", "O", "B-LOC", "I-LOC", "O"] * 20
    assert long["texts"][:2] == ["Alice", "New York"]
    assert [(" ".join(tokens))[a:b] for a, b in zip(long["starts"], long["ends"], strict=True)] == long["texts"]
    assert short["tags"] == ["B-PER"]
    assert max(rows for rows, _ in oracle.batches) == 2  # never more at once than was asked
    scores = task.metrics([long], [["B-PER", "O", "B-LOC", "I-LOC", "O"] * 20])
    assert scores["f1"] == scores["accuracy"] == 1


def test_plain_text_gives_spans_with_its_own_offsets(tokenizer: Any) -> None:
    task = TokenClassification(labels=NER)
    oracle = Oracle(tokenizer, {"alice": "B-PER", "new": "B-LOC", "york": "I-LOC"}, NER)
    text = '  "Alice,\n(of New\tYork)"'
    (answer,) = task.run(oracle, task.prepare([{"text": text}], tokenizer), tokenizer, {})
    assert answer["texts"] == ["Alice", "New\tYork"]
    assert [text[a:b] for a, b in zip(answer["starts"], answer["ends"], strict=True)] == answer["texts"]
    assert answer["labels"] == ["PER", "LOC"]
    assert answer["scores"] == pytest.approx([1, 1], abs=1e-3)
    json.dumps(answer)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("He left. Then", ["He", "left", ".", "Then"]),
        ("state-of-the-art, isn't it?", ["state-of-the-art", ",", "isn't", "it", "?"]),
        ("the U.S. army", ["the", "U.S.", "army"]),
        ("我爱New York。", ["我", "爱", "New", "York", "。"]),
        ("3.14 km", ["3.14", "km"]),
        ("😀_x", ["😀", "_x"]),
    ],
)
def test_how_plain_text_is_split(text: str, words: list[str], tokenizer: Any) -> None:
    (feature,) = TokenClassification(labels=NER).prepare([{"text": text}], tokenizer)
    assert [text[a:b] for a, b in zip(feature["starts"], feature["ends"], strict=True)] == words


def byte_level(padding_side: str) -> Any:
    """A tokenizer of GPT-2's kind: bytes, no merges, the space belongs to the word after it, padding on the left."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(["<pad>", *alphabet])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", padding_side=padding_side)


@pytest.mark.parametrize("side", ["left", "right"])
def test_byte_level_tokenizers_and_left_padding(side: str) -> None:
    tokenizer = byte_level(side)
    task = TokenClassification(labels=("A", "B", "O"))
    rows = [{"tokens": ["é", "b"], "tags": ["A", "B"]}, {"tokens": ["long", "er", "b"], "tags": ["O", "A", "B"]}]
    features = task.encode(rows, tokenizer)
    batch = task.collate_training(features, tokenizer)
    for ids, labels, row in zip(batch["input_ids"], batch["labels"], rows, strict=True):
        kept = labels != IGNORED
        assert [task.labels[i] for i in labels[kept].tolist()] == row["tags"]
        assert (ids[kept] != tokenizer.pad_token_id).all()
    oracle = Oracle(tokenizer, {"b": "B"}, task.labels)  # 'b' itself, not the space before it
    found = task.run(oracle, task.prepare([{"tokens": ["b"]}, {"tokens": ["b", "xxx", "x"]}], tokenizer), tokenizer, {})
    assert found[0]["tags"] == ["B"]
    assert found[1]["tags"] == ["B", "O", "O"]


def test_what_a_span_is_follows_from_the_tags() -> None:
    assert len(TokenClassification(labels=NER).spans(["B-PER", "I-PER", "B-PER"])) == 2
    assert len(TokenClassification(labels=("O", "PER")).spans(["PER", "PER", "O", "PER"])) == 2
    assert len(TokenClassification(labels=("DET", "NOUN")).spans(["DET", "NOUN", "NOUN"])) == 3
    assert len(TokenClassification(labels=("O", "PER"), scheme="tokens").spans(["PER", "PER"])) == 2


def test_mistakes_of_a_whole_table(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="'E-PER' among them, which looks like IOBES"):
        TokenClassification().fitted([{"tokens": list("abc"), "tags": ["B-PER", "E-PER", "S-LOC"]}])
    with pytest.raises(DataError, match=r"at least two tags.*'O' \(2 tokens\)"):
        TokenClassification().fitted([{"tokens": ["a", "b"], "tags": ["O", "O"]}])
    with pytest.raises(DataError, match="row 1: expected 2 tags, received 1"):
        TokenClassification(labels=NER).metrics([{"tags": ["O"]}, {"tags": ["O"]}], [["O"], ["O", "O"]])
    with pytest.raises(
        DataError, match="row 0: expected tokens in 'tokens' or a string in 'text', received the columns a"
    ):
        TokenClassification(labels=NER).prepare([{"a": 1}], tokenizer)
    with pytest.raises(ConfigError, match="character offsets; SlowOne does not"):
        TokenClassification(labels=NER).prepare([{"text": "a"}], type("SlowOne", (), {"is_fast": False})())


def test_arrays_are_lists_too(tokenizer: Any) -> None:
    task = TokenClassification(labels=NER)
    row = {"tokens": np.array(["a", "b"], object), "tags": np.array(["O", "O"], object)}
    assert task.references([row]) == [["O", "O"]]
    assert task.encode([row], tokenizer) == task.encode([{"tokens": ["a", "b"], "tags": ["O", "O"]}], tokenizer)

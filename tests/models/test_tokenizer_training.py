"""Tokenizers trained on one's own texts."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.normalizers import BertNormalizer

from deepseek.errors import ConfigError, DataError
from deepseek.models import train_tokenizer
from deepseek.models.tokenizers.training import _CHINESE

TEXTS = [
    f"Der {a} Hund läuft {b} den Park, {i} Mal!"
    for i in range(30)
    for a in ("kleine", "große")
    for b in ("durch", "um")
]
KINDS = ["wordpiece", "bpe", "unigram"]


@pytest.fixture(scope="module")
def trained() -> dict[tuple[str, str], Any]:
    return {
        (kind, purpose): train_tokenizer(iter(TEXTS), kind=kind, vocab_size=400, purpose=purpose)  # type: ignore[arg-type]
        for kind in KINDS
        for purpose in ("encoder", "decoder")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoders_tokenizer_has_berts_special_tokens(kind: str, trained: Any, tmp_path: Any) -> None:
    tokenizer = trained[kind, "encoder"]
    ids = tokenizer("Der große [MASK] läuft")["input_ids"]
    assert ids[0] == tokenizer.cls_token_id
    assert ids[-1] == tokenizer.sep_token_id
    assert ids.count(tokenizer.mask_token_id) == 1
    assert tokenizer.pad_token_id is not None
    assert tokenizer.unk_token_id not in ids
    assert len(tokenizer) <= 400
    tokenizer.save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again("Der große [MASK] läuft")["input_ids"] == ids
    pair = tokenizer("Der", "Park")["input_ids"]
    assert pair.count(tokenizer.sep_token_id) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoders_tokenizer_ends_texts_and_gives_them_back(kind: str, trained: Any) -> None:
    tokenizer = trained[kind, "decoder"]
    text = "Der große Hund läuft um den Park"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_token_id is not None
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.pad_token_id is not None


@pytest.fixture(scope="module")
def bytes_tokenizer(trained: Any) -> Any:
    return trained["bpe", "decoder"]


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(blacklist_categories=["Cs"]), max_size=40))
def test_byte_pairs_know_every_character(text: str, bytes_tokenizer: Any) -> None:
    import unicodedata

    composed = unicodedata.normalize("NFC", text)
    assert bytes_tokenizer.decode(bytes_tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False) == composed


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_texts_give_the_same_tokenizer(kind: Any, trained: Any) -> None:
    again = train_tokenizer(TEXTS, kind=kind, vocab_size=400)
    assert again.get_vocab() == trained[kind, "encoder"].get_vocab()


def test_a_mask_takes_in_the_space_that_belongs_to_a_word(trained: Any) -> None:
    tokenizer = trained["bpe", "encoder"]
    whole = tokenizer("Der Hund läuft")["input_ids"]
    masked = tokenizer("Der [MASK] läuft")["input_ids"]
    at = masked.index(tokenizer.mask_token_id)
    assert (masked[:at], masked[at + 1 :]) == (whole[:at], whole[at + 1 :])


def test_case_can_be_dropped() -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=300, lowercase=True)
    assert tokenizer("DER HUND")["input_ids"] == tokenizer("der hund")["input_ids"]


def test_chinese_characters_are_words_and_take_one_place() -> None:
    texts = [f"今天{a}很好 good{a}" for a in "天地人山水"] * 3
    tokenizer = train_tokenizer(texts, vocab_size=200)
    assert tokenizer.tokenize("山好go") == ["山", "好", "go"]
    assert not [piece for piece in tokenizer.get_vocab() if piece.startswith("##") and piece[2:] > "\u3000"]
    assert tokenizer.unk_token_id not in tokenizer("good水地人good")["input_ids"]


@given(st.characters(categories=["Lo"]))
@settings(max_examples=300)
def test_characters_that_are_always_words_are_those_of_berts_normaliser(character: str) -> None:
    split = BertNormalizer(strip_accents=False).normalize_str(f"a{character}b") == f"a {character} b"
    assert split is bool(_CHINESE.match(character))


def test_a_vocabulary_without_room_for_words_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="deepseek.models"):
        train_tokenizer(["".join(map(chr, range(0x4E00, 0x4F00))), "many words"], vocab_size=400)
        assert "of the vocabulary's 400 tokens are single characters" in caplog.text
        caplog.clear()
        train_tokenizer(TEXTS, vocab_size=400)
    assert not caplog.text


def test_what_cannot_be_trained_on() -> None:
    with pytest.raises(DataError, match="no texts"):
        train_tokenizer([])
    with pytest.raises(DataError, match="text 1: expected a string, received 3"):
        train_tokenizer(["a", 3])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="raise vocab_size above 10"):
        train_tokenizer(TEXTS, vocab_size=10)
    with pytest.raises(ConfigError, match="no unigram vocabulary of 10"):
        train_tokenizer(TEXTS, vocab_size=10, kind="unigram")
    with pytest.raises(ConfigError, match="'wordpeace'"):
        train_tokenizer(TEXTS, kind="wordpeace")  # type: ignore[arg-type]

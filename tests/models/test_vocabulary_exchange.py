"""A checkpoint under another vocabulary: dictionaries parsed, texts cut into words, embeddings from translations."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepseek.models.exchange.dictionary import parse_meanings
from deepseek.models.exchange.embeddings import Translated
from deepseek.models.exchange.vocabulary import SPECIAL, chosen, tokenizer_of

ENTRIES = """# CC-CEDICT
房間 房间 [fang2 jian1] /room/CL:間|间[jian1],個|个[ge4]/
書 书 [Shu1] /abbr. for 書經|书经[Shu1 jing1]/
書 书 [shu1] /book/letter/document/to write/
好 好 [hao3] /good/(of two people) close; friendly/
上海 上海 [Shang4 hai3] /Shanghai municipality/
周 周 [Zhou1] /surname Zhou/
"""
COUNTS = {"房间": 900, "书": 800, "好": 700, "房": 50, "间": 50, "漂亮": 300, "漂": 10, "亮": 10, "上海": 5}


def test_meanings_are_kept_by_both_spellings_without_asides() -> None:
    found = parse_meanings(ENTRIES.splitlines())
    assert found["房间"] == found["房間"] == ["room"]
    assert found["书"] == ["book", "letter", "document"]  # the name's reading adds nothing to the word's
    assert found["好"] == ["good", "close; friendly"]
    assert found["上海"] == ["Shanghai municipality"]  # a name alone keeps its meaning
    assert "周" not in found


def test_the_vocabulary_has_the_most_frequent_known_words_and_characters() -> None:
    counts = chosen(COUNTS, parse_meanings(ENTRIES.splitlines()), words=1, characters=3)
    chinese = [word for word in counts if "\u4e00" <= word[0] <= "\u9fff"]
    assert chinese == ["房间", "书", "好", "房"]  # 漂亮 has no meaning, 上海 is rarer, 间 is the fourth character
    assert {"a", "7", "。"} <= set(counts)


def test_texts_are_cut_into_words_and_the_tokenizer_survives_a_folder(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    known = parse_meanings(ENTRIES.splitlines())
    tokenizer = tokenizer_of(chosen(COUNTS, [*known, "漂亮"], words=10, characters=20), max_length=64)
    text = "房间好漂亮。ＡＢ 12鑫"
    assert tokenizer.tokenize(text) == ["房间", "好", "漂亮", "。", "a", "b", "1", "2", "鑫"]
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == SPECIAL.index("[CLS]")
    assert ids[-1] == SPECIAL.index("[SEP]")
    assert ids[-2] == SPECIAL.index("[UNK]")
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(text)["input_ids"] == ids
    assert (again.pad_token_id, again.mask_token_id, again.model_max_length) == (0, 4, 64)


@pytest.fixture
def translated(tmp_path: Path) -> Translated:
    import torch
    from transformers import BertTokenizer

    words = [*SPECIAL, "room", "book", "letter", "document", "good", "close", "friendly", "write", "##s", ".", "a"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    old = torch.randn(len(words), 64, generator=torch.Generator().manual_seed(0))
    return Translated(old, tokenizer, parse_meanings(ENTRIES.splitlines()))


def test_a_word_begins_near_its_translation(translated: Translated) -> None:
    import torch

    old, vocabulary = translated._old, translated._vocabulary
    matrix = translated.matrix(["[CLS]", ".", "房间", "书", "书房间", "犇"])
    assert torch.equal(matrix[0], old[vocabulary["[CLS]"]])
    assert torch.equal(matrix[1], old[vocabulary["."]])
    away, all_away = matrix - translated._mean, old - translated._mean
    nearest = torch.nn.functional.cosine_similarity(away[:, None], all_away[None], dim=-1).argmax(-1)
    assert nearest[2] == vocabulary["room"]
    assert nearest[3] == vocabulary["book"]  # the first sense weighs most
    length = away[2:].norm(dim=1)
    assert torch.allclose(length, length[:1].expand_as(length))  # means of several senses are not shorter
    assert torch.equal(matrix, translated.matrix(["[CLS]", ".", "房间", "书", "书房间", "犇"]))


@pytest.mark.slow
def test_the_catalogues_chinese_model_knows_its_words() -> None:
    from deepseek.models import CATALOGUE, from_pretrained, tokenizer_for

    model, tokenizer = from_pretrained("minilm-l6-chinese"), tokenizer_for("minilm-l6-chinese")
    assert model.num_parameters() == CATALOGUE["minilm-l6-chinese"].parameters
    assert tokenizer.tokenize("酒店的服务不错，性价比高") == ["酒店", "的", "服务", "不错", ",", "性", "价", "比", "高"]
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)

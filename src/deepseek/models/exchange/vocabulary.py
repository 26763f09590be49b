"""A tokenizer of words and characters: the most probable segmentation by word frequencies (a unigram model).

That is how jieba cuts a text into words; ``tokenizers`` has the algorithm (Kudo 2018, https://arxiv.org/abs/1804.10959).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MARKS = ",.!?:;\"'()“”‘’、。《》…-~·/%&+*=<>@#_—【】"
LATIN = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
_MARK_COUNT, _LATIN_COUNT = 5000, 50


def chosen(frequencies: Mapping[str, int], known: Collection[str], words: int, characters: int) -> dict[str, int]:
    """The vocabulary with its counts: Chinese words that are ``known`` and characters, the most frequent of each.

    Letters, digits and punctuation marks come with it.
    """
    han = {word: count for word, count in frequencies.items() if all("\u4e00" <= c <= "\u9fff" for c in word)}
    several = sorted((w for w in han if len(w) > 1 and w in known), key=lambda w: (-han[w], w))[:words]
    single = {w for w in known if len(w) == 1 and "\u4e00" <= w <= "\u9fff"} | {w for w in han if len(w) == 1}
    ranked = sorted(single, key=lambda w: (-han.get(w, 1), w))[:characters]
    counts = {word: han.get(word, 1) for word in [*several, *ranked]}
    counts |= dict.fromkeys(MARKS, _MARK_COUNT) | dict.fromkeys(LATIN + DIGITS, _LATIN_COUNT)
    return counts


def tokenizer_of(counts: Mapping[str, int], *, max_length: int) -> PreTrainedTokenizerFast:
    """A tokenizer in transformers' form, ``[CLS] text [SEP]``; ids: the special tokens, then the order of ``counts``.

    Text is put in NFKC and lower case; anything outside the vocabulary is ``[UNK]``.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    total = sum(counts.values())
    pieces = [(token, 0.0) for token in SPECIAL] + [(word, math.log(n / total)) for word, n in counts.items()]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=SPECIAL.index("[UNK]")))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"[a-z]+|[0-9]|[^\w\s]"), "isolated"),
        ]
    )
    ids = {token: SPECIAL.index(token) for token in SPECIAL}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    names = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **names)

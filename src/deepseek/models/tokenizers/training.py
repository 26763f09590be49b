"""Train a sub-word tokenizer with the tokenizers library.

Encoders get BERT's special tokens and put ``[CLS]`` and ``[SEP]`` around a text; decoders get ``<|endoftext|>``, which
also pads. Byte-pair encoding works on bytes and so knows every character; WordPiece and Unigram split first at spaces
(WordPiece also at punctuation and around Chinese characters) and have an unknown token.

The same texts give the same tokenizer. The library's own WordPiece and Unigram trainers number equally frequent pieces
as a hash map happens to order them, so pieces are put in order here, and WordPiece's are learned by its byte-pair
trainer (on which its WordPiece trainer rests too) with a mark at the start of a word, not at continuations.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from deepseek import progress
from deepseek.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Kind = Literal["wordpiece", "bpe", "unigram"]
ENCODER = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
END = "<|endoftext|>"
UNKNOWN = "<|unknown|>"
_START = "\ue000"
_CHINESE = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002b73f"
    "\U0002b740-\U0002b81f\U0002b920-\U0002ceaf\U0002f800-\U0002fa1f]"
)
"""What BERT's normaliser puts spaces around."""
CROWDED = 0.5
"""The share of a vocabulary above which single characters leave too little room for words."""
logger = logging.getLogger("deepseek.models")


def train_tokenizer(
    texts: Iterable[str],
    *,
    kind: Kind = "wordpiece",
    vocab_size: int = 30_000,
    purpose: Literal["encoder", "decoder"] = "encoder",
    lowercase: bool = False,
    min_frequency: int = 2,
    max_length: int = 512,
) -> PreTrainedTokenizerFast:
    """Train a tokenizer; pass ``vocab_size=len(tokenizer)`` to the model's config.

    Args:
        texts: texts to learn from, read once; ``(row["text"] for row in table.rows(columns=["text"]))`` streams a
            table.
        kind: WordPiece (Schuster and Nakajima 2012), byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909) or Unigram
            (Kudo 2018, arXiv:1804.10959).
        vocab_size: number of tokens at most, special ones included; small corpora give fewer.
        purpose: what the model is: an encoder (BERT and its like) or a decoder (a causal language model).
        lowercase: whether case is dropped (and for WordPiece accents too).
        min_frequency: pairs that are rarer are not merged (not used by Unigram).
        max_length: longest input of the model, in tokens.

    Raises:
        DataError: there are no texts, or a value is no string.
        ConfigError: the vocabulary has no room for the characters of the texts.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    encoder = purpose == "encoder"
    unknown = ENCODER["unk"] if encoder else UNKNOWN
    special = list(ENCODER.values()) if encoder else [END, *([] if kind == "bpe" else [UNKNOWN])]
    # where the space before a word is part of its first piece, a mask takes that space in
    mask = AddedToken(ENCODER["mask"], lstrip=kind != "wordpiece", special=True)
    shared: dict[str, Any] = {
        "vocab_size": vocab_size,
        "special_tokens": [mask if token == ENCODER["mask"] else token for token in special],
        "show_progress": False,
    }
    trainer: Any
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)  # drops private-use characters too
        words = pre_tokenizers.BertPreTokenizer()
        mark = pre_tokenizers.Metaspace(replacement=_START, prepend_scheme="always", split=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, mark])
        trainer = trainers.BpeTrainer(min_frequency=min_frequency, **shared)
    elif kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(min_frequency=min_frequency, initial_alphabet=alphabet, **shared)
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])]
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token=unknown, **shared)
    else:
        raise ConfigError(f"expected kind 'wordpiece', 'bpe' or 'unigram', received {kind!r}")
    counted = _Counted(texts)
    with progress.bar("train tokenizer", None, "texts") as bar:
        try:
            tokenizer.train_from_iterator(counted.iterate(bar), trainer=trainer)
        except Exception as error:
            if type(error) is not Exception:  # the library's own errors have no type of their own
                raise
            raise ConfigError(
                f"no {kind} vocabulary of {vocab_size} tokens can be made of the texts: {error}"
            ) from error
    if not counted.number:
        raise DataError("there are no texts to train a tokenizer on")
    if kind == "wordpiece":
        vocabulary = _word_pieces(tokenizer.get_vocab(), special, vocab_size)
        tokenizer.model = models.WordPiece(vocabulary, unk_token=unknown)
        tokenizer.pre_tokenizer, tokenizer.decoder = words, decoders.WordPiece()
    elif kind == "unigram":
        tokenizer.model = _ordered(tokenizer, special, unknown)
    size = tokenizer.get_vocab_size()
    if size > vocab_size:
        raise ConfigError(
            f"the texts have so many characters that the vocabulary needs {size} tokens; raise vocab_size above "
            f"{vocab_size}, or use kind='bpe' with at least 300"
        )
    ids = {token: tokenizer.token_to_id(token) for token in special}
    if encoder:
        cls, sep = ENCODER["cls"], ENCODER["sep"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} $B:1 {sep}:1",
            special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
        )
    elif kind == "bpe":
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    names: dict[str, Any] = {f"{name}_token": token for name, token in ENCODER.items()}
    names = {**names, "mask_token": mask} if encoder else _decoder_names(kind)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **names)


def _word_pieces(marked: dict[str, int], special: list[str], vocab_size: int) -> dict[str, int]:
    """Ids of WordPiece's pieces, from pieces that are marked where a word starts.

    Special tokens come first, then all characters (Chinese ones, which are always words, in one role, others in two),
    then pieces in the order in which they were merged, as many as there is room for.
    """
    merged = [piece for piece in sorted(marked, key=marked.__getitem__) if piece not in special and piece != _START]
    characters = sorted({c for piece in merged for c in piece} - {_START})
    pieces = [*special, *characters, *(f"##{c}" for c in characters if not _CHINESE.match(c))]
    fixed = len(pieces)
    if fixed > CROWDED * vocab_size:
        logger.warning(
            "%d of the vocabulary's %d tokens are single characters, so most words will be cut into letters: raise "
            "vocab_size, or use kind='bpe', which has no need of them all", fixed, vocab_size,
        )  # fmt: skip
    for piece in merged:
        start = piece.startswith(_START)
        if start or not _CHINESE.match(piece):
            pieces.append(piece.removeprefix(_START) if start else f"##{piece}")
    unique = list(dict.fromkeys(pieces))
    return {piece: i for i, piece in enumerate(unique[: max(vocab_size, fixed)])}


def _ordered(tokenizer: Any, special: list[str], unknown: str) -> Any:
    """A Unigram model with its pieces by probability, equally probable ones by name; special tokens stay in front."""
    from tokenizers import models

    pieces = [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]
    front, rest = pieces[: len(special)], pieces[len(special) :]
    return models.Unigram(front + sorted(rest, key=lambda item: (-item[1], item[0])), special.index(unknown))


def _decoder_names(kind: Kind) -> dict[str, str]:
    names = {"bos_token": END, "eos_token": END, "pad_token": END}
    return names if kind == "bpe" else {**names, "unk_token": UNKNOWN}


class _Counted:
    """Texts, checked and counted while they are read."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts, self.number = texts, 0

    def iterate(self, bar: progress.Bar) -> Iterator[str]:
        for text in self.texts:
            if not isinstance(text, str):
                raise DataError(f"text {self.number}: expected a string, received {text!r:.80}")
            self.number += 1
            if self.number % 1000 == 0:
                bar.advance(1000)
            yield text

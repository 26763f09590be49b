"""MiniLM with a Chinese vocabulary: what to fine-tune on Chinese where no Chinese checkpoint can be had.

It has seen no Chinese text: words, frequencies and meanings are from dictionaries, everything above the embeddings is
English MiniLM's. Train all weights of it, not an adapter alone: its embeddings are only a beginning.
"""

from __future__ import annotations

from pathlib import Path

from deepseek import progress
from deepseek.artifacts.cache import cache_dir, staged_directory

SOURCE = "all-minilm-l6-v2"
FORMAT = 1
"""Raise it when what is built changes, so that old copies are not used."""
WORDS = 12_000
CHARACTERS = 6_000


def chinese_minilm() -> Path:
    """The model's folder, built at first use (a minute) and cached.

    Raises:
        FetchError: the source model or a dictionary cannot be fetched.
    """
    target = chinese_folder()
    if not target.is_dir():
        build(target, words=WORDS, characters=CHARACTERS)
    return target


def chinese_folder() -> Path:
    """Where it lies once it was built."""
    return cache_dir() / "converted" / f"minilm-l6-chinese-v{FORMAT}"


def build(target: Path, *, words: int, characters: int) -> None:
    """Build it into ``target``, which appears when it is complete."""
    import torch

    from deepseek.models.exchange.dictionary import frequencies, meanings
    from deepseek.models.exchange.embeddings import Translated
    from deepseek.models.exchange.vocabulary import chosen, tokenizer_of
    from deepseek.models.loading import from_pretrained, quiet_transformers, tokenizer_for

    with progress.bar("build Chinese MiniLM", 4, "steps") as bar, quiet_transformers():
        senses = meanings()
        counts = chosen(frequencies(), senses.keys(), words, characters)
        bar.advance(note="dictionaries")
        model = from_pretrained(SOURCE)
        tokenizer = tokenizer_of(counts, max_length=model.config.max_position_embeddings)
        bar.advance(note="tokenizer")
        vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        with torch.no_grad():
            translated = Translated(model.get_input_embeddings().weight.detach().clone(), tokenizer_for(SOURCE), senses)
            matrix = translated.matrix([word for word, _ in vocabulary])
            model.resize_token_embeddings(len(matrix), mean_resizing=False)
            model.get_input_embeddings().weight.copy_(matrix)
        model.config.pad_token_id = tokenizer.pad_token_id
        bar.advance(note="embeddings")
        with staged_directory(target) as stage:
            model.save_pretrained(stage)
            tokenizer.save_pretrained(stage)
        bar.advance(note="saved")

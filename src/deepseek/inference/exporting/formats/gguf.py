"""GGUF: one file with weights, settings and vocabulary, as llama.cpp and its relatives read it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from deepseek.errors import AccuracyError
from deepseek.inference.exporting.comparing import TEXTS
from deepseek.inference.exporting.format import ExportFormat, Source
from deepseek.inference.torch_runtime import TorchModel
from deepseek.models.gguf.opened import opened
from deepseek.models.gguf.writing import KINDS, check_config, write_gguf

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Gguf(ExportFormat):
    """Language models of the Llama, Mistral, Qwen2 and Qwen3 families with byte-level BPE vocabularies."""

    name: ClassVar[str] = "gguf"
    heads: ClassVar[tuple[str, ...]] = ("causal-lm",)
    dtypes: ClassVar[tuple[str, ...]] = tuple(KINDS)
    # beside the file, transformers would read the tokenizer's files in part instead of the vocabulary inside it
    companions: ClassVar[str] = "tokenizer"

    def check(self, source: Source, dtype: str) -> None:
        from transformers import AutoConfig

        check_config(AutoConfig.from_pretrained(source.checkpoint.path, trust_remote_code=False), dtype)

    def write(self, source: Source, dtype: str, folder: Path) -> None:
        import torch

        from deepseek.models.loading import from_pretrained

        model = from_pretrained(source.checkpoint, head=source.head, dtype=torch.float32)
        write_gguf(
            folder / f"{source.name}-{KINDS[dtype]}.gguf", model, source.processor, dtype=dtype, name=source.name
        )

    def open(self, folder: Path) -> TorchModel:
        return TorchModel(opened(_file(folder))[0])

    def notes(self, source: Source, folder: Path) -> tuple[str, ...]:
        from deepseek.models.gguf.header import read_header
        from deepseek.models.gguf.settings import config_of
        from deepseek.models.gguf.vocabulary import tokenizer_of

        header = read_header(_file(folder))
        return unlike(source.processor, tokenizer_of(header, config_of(header)))


def unlike(tokenizer: PreTrainedTokenizerBase, found: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """What a tokenizer that was read back does otherwise with its special tokens, in words.

    Raises:
        AccuracyError: it gives other ids for plain texts.
    """
    for text in TEXTS:
        expected, received = tokenizer(text)["input_ids"], found(text)["input_ids"]
        if expected != received:
            raise AccuracyError(
                f"the vocabulary reads back from the GGUF file as another one: {text[:40]!r} gave the tokens "
                f"{expected[:12]}, now {received[:12]}; nothing was written. The format torch-export keeps the "
                "tokenizer's own files"
            )
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    split = [each for each in special if _plain(found, each) != _plain(tokenizer, each)]
    if not split:
        return ()
    named = f"{', '.join(split[:3])}{', ...' if len(split) > 3 else ''}"
    return (
        f"transformers' GGUF reader cuts {len(split)} of {len(special)} special tokens into pieces ({named}); take the "
        "tokenizer in the folder 'tokenizer' there",
    )


def _plain(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _file(folder: Path) -> Path:
    (found,) = folder.glob("*.gguf")
    return found

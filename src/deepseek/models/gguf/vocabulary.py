"""The tokenizer that a GGUF file describes, by transformers' own converters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.errors import ConfigError
from deepseek.models.gguf.header import Header

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


def tokenizer_of(header: Header, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """The tokenizer, of the class that ``AutoTokenizer`` takes for the config.

    ``AutoTokenizer`` itself is not asked: it would read the whole head of the file with the ``gguf`` library once more,
    only to find the class, and take settings from any tokenizer files that lie beside the GGUF file.

    Raises:
        ConfigError: the file has no vocabulary, or one of a kind that transformers cannot build.
    """
    from transformers import PreTrainedTokenizerFast
    from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING

    kind = TOKENIZER_MAPPING.get(type(config), PreTrainedTokenizerFast)
    if kind is None or not issubclass(kind, PreTrainedTokenizerFast):  # Mistral's, which wants files of its own
        kind = PreTrainedTokenizerFast
    if "tokenizer.ggml.tokens" not in header.metadata:
        raise ConfigError(f"{header.path} cannot be converted: expected a vocabulary in its metadata, received none")
    try:
        architecture, vocabulary, settings = get_gguf_tokenizer(str(header.path))
        backend, more = convert_gguf_tokenizer(architecture, vocabulary)
    except Exception as error:  # the tokenizers library raises no narrower type
        raise ConfigError(
            f"{header.path} cannot be converted: no tokenizer can be built from its vocabulary: "
            f"{type(error).__name__}: {error}"
        ) from error
    return kind(tokenizer_object=backend, **settings, **more)

"""A byte-level BPE tokenizer as a GGUF file's metadata.

Not covered: SentencePiece vocabularies (Llama 2, the first Mistrals), WordPiece and Unigram.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""llama.cpp's types of tokens."""
_WITH_SPLIT = ("llama-bpe", "qwen2", "tekken", "gpt-4o", "qwen35")
"""Names of the rules by which text is cut before merging (``tokenizer.ggml.pre``) that readers know by a pattern."""


def add_vocabulary(writer: Any, tokenizer: PreTrainedTokenizerBase, *, rows: int, config: PreTrainedConfig) -> None:
    """Add a tokenizer to a ``gguf.GGUFWriter``.

    Args:
        rows: of the embedding; rows without a token get a name that no text has.

    Raises:
        ConfigError: it is no byte-level BPE, or cuts text by a rule that readers of GGUF files do not know.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(f"GGUF takes byte-level BPE vocabularies, received a {type(tokenizer).__name__} without one")
    state = json.loads(backend.to_str())
    pre = pre_tokenizer_name(state)
    special = {index: token.special for index, token in tokenizer.added_tokens_decoder.items()}
    tokens, types = [f"[PAD{index}]" for index in range(rows)], [UNUSED] * rows
    for token, index in tokenizer.get_vocab().items():
        if index >= rows:
            raise ConfigError(f"the tokenizer has the token {token!r} with id {index}, the model {rows} embeddings")
        tokens[index] = token
        types[index] = NORMAL if index not in special else CONTROL if special[index] else USER_DEFINED
    merges = [each if isinstance(each, str) else " ".join(each) for each in state["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    eos = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
    ids = {
        "bos": _first(tokenizer.bos_token_id, config.bos_token_id),
        "eos": _first(tokenizer.eos_token_id, eos),
        "pad": tokenizer.pad_token_id,
        "unk": tokenizer.unk_token_id,
    }
    for role, index in ids.items():
        if index is not None:
            getattr(writer, f"add_{role}_token_id")(index)
    writer.add_add_bos_token(ids["bos"] is not None and tokenizer("a")["input_ids"][0] == ids["bos"])
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def pre_tokenizer_name(state: dict[str, Any]) -> str:
    """GGUF's name of the rule by which a tokenizer cuts text.

    Args:
        state: the tokenizer as ``tokenizer.json`` has it.

    Raises:
        ConfigError: it is no byte-level BPE, or the rule has no name that is known here.
    """
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    kind = state["model"]["type"]
    steps = state.get("pre_tokenizer") or {"type": "none"}
    steps = steps["pretokenizers"] if steps["type"] == "Sequence" else [steps]
    kinds = [step["type"] for step in steps]
    if kind != "BPE" or "ByteLevel" not in kinds:
        raise ConfigError(
            f"GGUF takes byte-level BPE vocabularies here, received {kind} after {', '.join(kinds)}; the format "
            "torch-export takes the model, with its tokenizer files beside it"
        )
    if kinds == ["ByteLevel"] and steps[0]["use_regex"] and not steps[0]["add_prefix_space"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and steps[1]["use_regex"]:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not steps[1]["use_regex"]:
        pattern = steps[0]["pattern"].get("Regex")
        for name in _WITH_SPLIT:
            if GGUF_PRE_TOKENIZER_SPLITS.get(name) == pattern:
                return name
    raise ConfigError(
        f"the tokenizer cuts text by a rule that GGUF has no known name for: {json.dumps(steps)[:300]}; the format "
        "torch-export takes the model, with its tokenizer files beside it"
    )


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)

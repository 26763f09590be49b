"""What a single token stands for: text and bytes.

A token may be a part of a character only, and a tokenizer's ``decode`` drops leading spaces, so the token's name in the
vocabulary is read as the tokenizer's decoder would (byte-level BPE; bytes as ``<0x0A>`` and spaces as ``▁``).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenText(NamedTuple):
    """A token's text, with U+FFFD for bytes that are no whole character, and its bytes."""

    text: str
    bytes: bytes


class TokenTexts:
    """Texts of a tokenizer's tokens, kept once known; used from one thread at a time."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        self._known: dict[int, TokenText] = {}
        self._kinds: frozenset[str] | None = None
        self._special: dict[int, str] = {}

    def __getitem__(self, token: int) -> TokenText:
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = self._read(token)
        return known

    def _read(self, token: int) -> TokenText:
        if self._kinds is None:
            self._kinds = _decoder_kinds(self._tokenizer)
            added = getattr(self._tokenizer, "added_tokens_decoder", {})
            self._special = {number: str(each.content) for number, each in added.items()}
        if token in self._special:
            return _of_text(self._special[token])
        if self._kinds & {"ByteLevel", "ByteFallback", "Metaspace"}:
            name = self._tokenizer.convert_ids_to_tokens(token)
            if name is None:  # padding of the output layer: the model may rank it, no text has it
                return TokenText("", b"")
            if "ByteLevel" in self._kinds:
                return _of_bytes(bytes(_BYTE_OF[c] for c in name))
            found = _BYTE.fullmatch(name)
            return _of_bytes(bytes([int(found[1], 16)])) if found else _of_text(name.replace("▁", " "))
        return _of_text(self._tokenizer.decode([token]))


def _of_text(text: str) -> TokenText:
    return TokenText(text, text.encode())


def _of_bytes(raw: bytes) -> TokenText:
    return TokenText(raw.decode(errors="replace"), raw)


def _decoder_kinds(tokenizer: Any) -> frozenset[str]:
    """Types of a fast tokenizer's decoder steps."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if decoder is None:
        return frozenset()
    told = json.loads(decoder.__getstate__())
    return frozenset(step["type"] for step in told.get("decoders", [told]))


def _byte_level() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others for letters from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in plain]
    return letters | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_level()

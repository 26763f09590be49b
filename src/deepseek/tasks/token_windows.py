"""Words to windows of sub-words: where each word begins, and which window answers for it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from deepseek.errors import ConfigError, DataError

WINDOWS = "windows"


def windows_of(rows: Sequence[Sequence[str]], tokenizer: Any, max_length: int) -> list[list[dict[str, Any]]]:
    """The windows of each row, in order; a row that fits has one.

    A window has the model's inputs, and of the words that it answers for their numbers (``words``) and the positions of
    their first sub-words (``positions``). Every word of a row is in exactly one of its windows; a window without words
    (in the middle of a word longer than a window) is left out.

    Raises:
        ConfigError: the tokenizer does not know character offsets.
        DataError: a word is nothing to the tokenizer, which has no token for the unknown either.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(
            f"token classification needs a tokenizer that knows character offsets; {type(tokenizer).__name__} does not"
        )
    found = _windows(rows, tokenizer, max_length)
    for number, (words, windows) in enumerate(zip(rows, found, strict=True)):
        answered = {word for window in windows for word in window["words"]}
        if len(answered) == len(words):
            continue
        # control and zero-width characters vanish in normalisation; the model reads an unknown word there
        unknown = tokenizer.unk_token
        repaired = [word if i in answered else unknown for i, word in enumerate(words)]
        again = _windows([repaired], tokenizer, max_length)[0] if unknown else windows
        if sum(len(window["words"]) for window in again) < len(words):
            place = next(i for i in range(len(words)) if i not in answered)
            raise DataError(f"row {number}: the model's tokenizer makes nothing of token {place}, {words[place]!r}")
        found[number] = again
    return found


def _windows(rows: Sequence[Sequence[str]], tokenizer: Any, max_length: int) -> list[list[dict[str, Any]]]:
    encoded = tokenizer(
        [" ".join(words) for words in rows],
        truncation=True,
        max_length=max_length,
        stride=max_length // 4,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        add_special_tokens=True,
    )
    names = [name for name in tokenizer.model_input_names if name in encoded]
    windows: list[list[dict[str, Any]]] = [[] for _ in rows]
    firsts: list[list[dict[int, int]]] = [[] for _ in rows]
    starts = [_starts(words) for words in rows]
    for i, row in enumerate(encoded["overflow_to_sample_mapping"]):
        first: dict[int, int] = {}
        for position, (begin, end) in enumerate(encoded["offset_mapping"][i]):
            if end <= begin:
                continue  # a special token
            # some tokenizers count the space before a word as part of it, so the last character decides
            word = bisect_right(starts[row], end - 1) - 1
            if end - 1 < starts[row][word] + len(rows[row][word]):
                first.setdefault(word, position)
        windows[row].append({name: encoded[name][i] for name in names})
        firsts[row].append(first)
    for row, row_windows in enumerate(windows):
        _share_out(row_windows, firsts[row])
        windows[row] = [w for w in row_windows if w["words"]] or row_windows[:1]
    return windows


def _share_out(windows: list[dict[str, Any]], firsts: list[dict[int, int]]) -> None:
    """Give each word to the window in which its first sub-word is farthest from the edge."""
    best: dict[int, tuple[int, int]] = {}
    for number, first in enumerate(firsts):
        length = len(windows[number]["input_ids"])
        for word, position in first.items():
            margin = min(position, length - 1 - position)
            if word not in best or margin > best[word][0]:
                best[word] = margin, number
    for number, (window, first) in enumerate(zip(windows, firsts, strict=True)):
        owned = sorted(word for word in first if best[word][1] == number)
        window["words"], window["positions"] = owned, [first[word] for word in owned]


def _starts(words: Sequence[str]) -> list[int]:
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(word) + 1
    return starts

"""Texts that positions are fitted on, cut into windows of tokens; some are kept apart to measure with.

A window is as long as it says and has no padding: the first token and the last as the tokenizer puts them around a
text, between them a document from its beginning, continued by the next one where it is short.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deepseek.data import datasets
from deepseek.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HELD_OUT = 6
"""One of so many texts is measured with and not fitted to."""
_SENTENCES = 12
"""Sentences of a sentence data set that make a default text: they follow each other in its order."""


def default_texts() -> Iterator[str]:
    """English posts (20 Newsgroups; lower case, letters only) and passages of newspapers and film reviews in turn.

    Raises:
        FetchError: a data set can be neither found in the cache nor fetched.
    """
    posts = (row["text"] for row in datasets.load_dataset_rows("20-newsgroups"))
    sentences = chain.from_iterable(datasets.load_dataset_rows(n) for n in ("hutto-news", "hutto-movie-reviews"))
    for post in islice(posts, 0, None, 6):  # they are in the order of their topics
        yield post
        if passage := " ".join(row["text"] for row in islice(sentences, _SENTENCES)):
            yield passage


class TextPool:
    """Documents as token numbers, those to fit on and those to measure with."""

    def __init__(self, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, *, tokens: int, longest: int) -> None:
        """Read texts until there are enough.

        Args:
            texts: read once, and no further than needed.
            tokens: tokens to fit on that are wanted; a sixth of them to measure with come in addition.
            longest: tokens that are read of a text.

        Raises:
            DataError: a text is no string, or there are too few for one window of ``longest`` tokens of each kind.
        """
        around: list[int] = tokenizer("")["input_ids"]
        self.lead, self.end = around[:1], around[1:]
        self.fitted: list[list[int]] = []
        self.held_out: list[list[int]] = []
        total = 0
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"texts: expected strings, received {type(text).__name__} at number {number}")
            ids = tokenizer(text, add_special_tokens=False, truncation=True, max_length=longest)["input_ids"]
            if not ids:
                continue
            (self.held_out if number % HELD_OUT == 1 else self.fitted).append(ids)
            total += len(ids)
            if total >= tokens + tokens // (HELD_OUT - 1):
                break
        for part, name in ((self.fitted, "fit on"), (self.held_out, "measure with")):
            found = sum(map(len, part))
            if found < longest:
                raise DataError(
                    f"texts: expected {longest} tokens or more to {name} (one text of {HELD_OUT} is measured with), "
                    f"received {found}; pass more texts"
                )

    @property
    def first_token(self) -> int | None:
        """The token that begins every text, if there is one."""
        return self.lead[0] if self.lead else None

    def windows(self, documents: Sequence[list[int]], length: int, number: int, seed: int) -> Tensor:
        """(windows, length) int64; fewer than ``number`` where documents do not give as many."""
        order = torch.randperm(len(documents), generator=torch.Generator().manual_seed(seed)).tolist()
        room = length - len(self.lead) - len(self.end)
        found: list[list[int]] = []
        begun: list[int] = []
        for index in order:
            begun += documents[index]
            if len(begun) >= room:
                found.append([*self.lead, *begun[:room], *self.end])
                begun = []
                if len(found) == number:
                    break
        return torch.tensor(found, dtype=torch.long).view(-1, length)

    def parts(self, windows_WT: Tensor, length: int) -> Tensor:
        """Windows cut into shorter ones of ``length`` tokens, each with its own first token and last: (W, P, length).

        What is left over at the end is dropped.
        """
        inside = windows_WT[:, len(self.lead) : windows_WT.shape[1] - len(self.end)]
        body = inside.unfold(1, room := length - len(self.lead) - len(self.end), room)
        lead, end = (torch.tensor(t, dtype=torch.long).expand(*body.shape[:2], -1) for t in (self.lead, self.end))
        return torch.cat([lead, body, end], -1)

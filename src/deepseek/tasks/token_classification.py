"""One tag for each token: entities (IOB2 tags), other spans, parts of speech.

How rows become tensors:

* Tokens are joined by spaces and given to the model's tokenizer; the tag of a token belongs to its first sub-word, all
  others are left out of the loss (Devlin et al. 2019, section 5.3). Which sub-words a token has is read from character
  offsets, so that byte-level and SentencePiece tokenizers work as WordPiece does.
* Rows longer than ``max_length`` sub-words are not cut: they are read in windows that overlap by a quarter. A token
  that lies in several windows is learned and answered in the one where it is farthest from the edge, once.
* A plain ``text`` can be given instead of ``tokens`` to get answers: it is split at spaces and into punctuation, and
  into single characters for scripts that have no spaces between words (Chinese, Japanese, Thai, ...), as corpora of
  these languages are. Offsets of the answers count characters of that text.

Tags may be IOB2 (``B-PER I-PER O``), plain with ``O`` for outside (a run of one tag is a span), or plain without ``O``
(each token is a span of its own: parts of speech).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field as ConfigField

from deepseek.errors import DataError
from deepseek.tasks.base import LABELS, Executable, Row, TextTask
from deepseek.tasks.labels import id_of, label_options, named
from deepseek.tasks.metrics import Span, iob2_spans, run_spans, span_metrics
from deepseek.tasks.signature import Field, Signature
from deepseek.tasks.token_windows import WINDOWS, windows_of

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""The label of sub-words that the loss leaves out, as torch and transformers have it."""
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai and Lao, Burmese, Khmer, kana, Han."""
_WORD = re.compile(rf"[{_UNSPACED}]|(?:[^\W\d_]\.){{2,}}|[^\W{_UNSPACED}]+(?:[^\w\s]+[^\W{_UNSPACED}]+)*|[^\w\s]")
"""A character of an unspaced script, an abbreviation (U.S.), a word with its inner hyphens and dots, or a mark."""


class TokenClassification(TextTask):
    """Tags for the tokens of a text, and the spans that they mark.

    Outputs per row: ``tags`` (strings, one a token), and of each span ``starts`` and ``ends`` (characters of the text,
    or of the tokens joined by spaces; ``ends`` exclusive), ``labels``, ``scores`` (mean probability of its tags),
    ``texts``; lists of equal length.
    """

    name: ClassVar[str] = "token-classification"
    head: ClassVar[str] = "token-classification"
    main_metric: ClassVar[str] = "f1"

    text: str = ConfigField("text", description="Column with a plain text, for answers to rows without tokens.")
    tokens: str = ConfigField("tokens", description="Column with the tokens, a list of strings.")
    label: str = ConfigField("tags", description="Column with the tags, a list of strings, one a token.")
    labels: tuple[str, ...] = ConfigField((), description="All tags, in id order; learned from the data when empty.")
    scheme: Literal["auto", "iob2", "runs", "tokens"] = ConfigField(
        "auto",
        description="What a span is: iob2 tags; runs of one tag other than O; each token. auto: iob2 if all tags but O "
        "begin with B- or I-, else runs if there is an O, else tokens.",
    )
    max_length: int = ConfigField(256, ge=16, le=1_000_000, description="Sub-words of one window.")

    @property
    def class_column(self) -> str | None:
        """None: a row has many tags."""
        return None

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Training rows have tokens."""
        return (self.tokens,)

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=(Field(name=self.text, dtype="string", description="the text to tag"),),
            outputs=(
                Field(name="tags", dtype="string", shape=(-1,), description="one tag a token"),
                Field(name="starts", dtype="int32", shape=(-1,), description="first character of each span"),
                Field(name="ends", dtype="int32", shape=(-1,), description="character behind each span"),
                Field(name="labels", dtype="string", shape=(-1,), description="label of each span"),
                Field(name="scores", dtype="float32", shape=(-1,), description="mean probability of its tags"),
                Field(name="texts", dtype="string", shape=(-1,), description="the characters of each span"),
            ),
        )

    def fitted(self, rows: Sequence[Row]) -> Self:
        counts: Counter[str] = Counter()
        labels = frozenset(self.labels)
        for number, row in enumerate(rows):
            tags = self._tags(number, row)
            for tag in tags if labels else ():
                named(tag, labels, number, self.label)
            counts.update(tags)
        if not counts:
            raise DataError("there are no rows to train on; expected at least one of each tag")
        if len(counts) < 2:
            only, number = next(iter(counts.items()))
            raise DataError(f"expected at least two tags to train on, received only {only!r} ({number} tokens)")
        task = self.model_copy(update={"labels": self.labels or tuple(sorted(counts))})
        if self.scheme in ("auto", "iob2"):
            other = sorted(tag for tag in task.labels if re.match(r"[ESLU]-", tag))
            if other and any(tag.startswith("B-") for tag in task.labels):
                raise DataError(
                    f"expected IOB2 tags (B- begins a span, I- continues it), received {other[0]!r} among them, which "
                    "looks like IOBES; rewrite E- as I- and S- as B- first"
                )
        return task

    def spans(self, tags: Sequence[str]) -> list[Span]:
        """The spans that tags mark, in token positions."""
        scheme = self.scheme
        if scheme == "auto":
            prefixed = all(tag == "O" or re.match(r"[BI]-.", tag) for tag in self.labels)
            scheme = "iob2" if prefixed else "runs" if "O" in self.labels else "tokens"
        if scheme == "iob2":
            return iob2_spans(tags)
        return run_spans(tags) if scheme == "runs" else [Span(tag, i, i + 1) for i, tag in enumerate(tags)]

    def model_options(self) -> dict[str, Any]:
        return label_options(self.labels)

    def references(self, rows: Sequence[Row]) -> list[Any]:
        return [self._tags(i, row) for i, row in enumerate(rows)]

    def _tags(self, number: int, row: Row) -> list[str]:
        tokens = _strings(row.get(self.tokens), number, self.tokens)
        tags = _strings(row.get(self.label), number, self.label)
        if len(tags) != len(tokens):
            raise DataError(
                f"row {number}: expected one tag a token, received {len(tags)} in {self.label!r} and {len(tokens)} in "
                f"{self.tokens!r}"
            )
        return tags

    def prepare(self, rows: Sequence[Row], tokenizer: Any) -> list[dict[str, Any]]:
        texts, words = [], []
        for number, row in enumerate(rows):
            if row.get(self.tokens) is None:
                text = self._text(number, row)
                places = [(m.start(), m.end()) for m in _WORD.finditer(text)]
            else:
                tokens = _strings(row[self.tokens], number, self.tokens)
                text, places = " ".join(tokens), []
                for token in tokens:
                    start = places[-1][1] + 1 if places else 0
                    places.append((start, start + len(token)))
            texts.append(text)
            words.append(places)
        features = []
        pieces = [[text[a:b] for a, b in places] for text, places in zip(texts, words, strict=True)]
        for text, places, windows in zip(texts, words, windows_of(pieces, tokenizer, self.max_length), strict=True):
            starts, ends = [a for a, _ in places], [b for _, b in places]
            features.append({**windows[0], WINDOWS: windows, "text": text, "starts": starts, "ends": ends})
        return features

    def _text(self, number: int, row: Row) -> str:
        value = row.get(self.text)
        if not isinstance(value, str):
            found = ", ".join(map(str, row)) or "none"
            came = f"the columns {found}" if self.text not in row else type(value).__name__
            raise DataError(
                f"row {number}: expected tokens in {self.tokens!r} or a string in {self.text!r}, received {came}"
            )
        if not value.strip():
            raise DataError(f"row {number}: {self.text!r} is empty; expected some text")
        return value

    def encode(self, rows: Sequence[Row], tokenizer: Any) -> list[dict[str, Any]]:
        """Training features, one a window: a long row gives several."""
        ids = {tag: i for i, tag in enumerate(self.labels)}
        features = []
        labels = [[id_of(tag, ids, i, self.label) for tag in self._tags(i, row)] for i, row in enumerate(rows)]
        names = set(tokenizer.model_input_names)
        for feature, row_labels in zip(self.prepare(rows, tokenizer), labels, strict=True):
            for window in feature[WINDOWS]:
                targets = [IGNORED] * len(window["input_ids"])
                for word, position in zip(window["words"], window["positions"], strict=True):
                    targets[position] = row_labels[word]
                features.append({**{k: v for k, v in window.items() if k in names}, LABELS: targets})
        return features

    def collate_training(self, features: Sequence[Mapping[str, Any]], tokenizer: Any) -> dict[str, torch.Tensor]:
        import torch

        batch = self.collate([{k: v for k, v in f.items() if k != LABELS} for f in features], tokenizer)
        width = batch["input_ids"].shape[1]
        labels = torch.full((len(features), width), IGNORED)
        for number, feature in enumerate(features):
            values = torch.as_tensor(list(feature[LABELS]))
            shift = _shift(width, len(values), tokenizer)
            labels[number, shift : shift + len(values)] = values
        return {**batch, LABELS: labels}

    def class_counts(self, features: Sequence[Mapping[str, Any]]) -> list[int]:
        """Tokens of each tag."""
        counts = Counter(int(label) for f in features for label in f[LABELS])
        return [counts[i] for i in range(len(self.labels))]

    def loss(
        self,
        model: Any,
        batch: Mapping[str, torch.Tensor],
        *,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[torch.Tensor, Any]:
        """Cross-entropy, the mean over tokens (not sub-words)."""
        from torch.nn.functional import cross_entropy

        outputs = model(**{k: v for k, v in batch.items() if k != LABELS})
        loss = cross_entropy(
            outputs.logits.float().flatten(0, 1),
            batch[LABELS].flatten(),
            weight=class_weights,
            ignore_index=IGNORED,
            label_smoothing=label_smoothing,
        )
        return loss, outputs

    def run(
        self, model: Executable, features: Sequence[Mapping[str, Any]], tokenizer: Any, parameters: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """All windows of the rows through the model, never more at once than there are rows, put together again."""
        import torch

        scores = [torch.zeros(len(f["starts"]), len(self.labels)) for f in features]
        windows = [(number, window) for number, f in enumerate(features) for window in f[WINDOWS]]
        for start in range(0, len(windows), len(features)):
            chunk = windows[start : start + len(features)]
            logits = model.forward(self.collate([window for _, window in chunk], tokenizer))["logits"]
            for place, (number, window) in enumerate(chunk):
                positions = torch.tensor(window["positions"], dtype=torch.long)
                shift = _shift(logits.shape[1], len(window["input_ids"]), tokenizer)
                scores[number][window["words"]] = logits[place, positions + shift].float().softmax(-1)
        return self.decode({"scores": scores, "features": features}, len(features))

    def decode(self, outputs: Any, count: int) -> list[dict[str, Any]]:
        """From ``scores`` (one tensor a row: tag probabilities, shape (tokens, tags)) and ``features`` to answers."""
        answers = []
        for scores, feature in zip(outputs["scores"], outputs["features"], strict=True):
            best, ids = scores.max(-1)
            tags = [self.labels[i] for i in ids.tolist()]
            spans = self.spans(tags)
            starts = [feature["starts"][span.start] for span in spans]
            ends = [feature["ends"][span.end - 1] for span in spans]
            answers.append(
                {
                    "tags": tags,
                    "starts": starts,
                    "ends": ends,
                    "labels": [span.type for span in spans],
                    "scores": [float(best[span.start : span.end].mean()) for span in spans],
                    "texts": [feature["text"][a:b] for a, b in zip(starts, ends, strict=True)],
                }
            )
        return answers

    def metrics(self, answers: Sequence[Row], references: Sequence[Any]) -> dict[str, float]:
        """``f1``, ``precision``, ``recall`` of spans, ``f1/LABEL``, ``accuracy`` of tokens.

        See :func:`deepseek.tasks.metrics.span_metrics`.
        """
        predicted = [answer["tags"] for answer in answers]
        for number, (said, real) in enumerate(zip(predicted, references, strict=True)):
            if len(said) != len(real):
                raise DataError(f"row {number}: expected {len(real)} tags, received {len(said)}")
        pairs = list(zip(predicted, references, strict=True))
        return span_metrics(
            [self.spans(tags) for tags in predicted],
            [self.spans(tags) for tags in references],
            right_tokens=[sum(a == b for a, b in zip(said, real, strict=True)) for said, real in pairs],
            tokens=[len(real) for real in references],
        )


def _strings(value: Any, number: int, column: str) -> list[str]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list | tuple) or not value:
        raise DataError(f"row {number}: expected a list of strings in {column!r}, received {value!r}")
    for place, item in enumerate(value):
        if not isinstance(item, str) or not item.strip():
            raise DataError(f"row {number}: expected a string with some text at {column}[{place}], received {item!r}")
    return list(value)


def _shift(width: int, length: int, tokenizer: Any) -> int:
    """Where a sequence begins in a padded batch."""
    return width - length if getattr(tokenizer, "padding_side", "right") == "left" else 0

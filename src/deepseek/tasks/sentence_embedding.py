"""A vector for a text, so that texts of like meaning lie close.

Training rows are pairs (``text`` and a ``positive``, perhaps a ``negative``), learned by ranking within the batch, so
that larger batches are harder and better; or two texts with a ``score`` of their likeness. All texts of a batch go
through the model in one forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field as ConfigField

from deepseek.errors import DataError
from deepseek.tasks.base import LABELS, Executable, Row, TextTask
from deepseek.tasks.embedding.pooling import Pooling, pool, sentence_transformers_files
from deepseek.tasks.signature import Field, Signature

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Objective = Literal["auto", "ranking", "cosent", "cosine-mse"]
PARTNER, NEGATIVE, ROLE = "partner_ids", "negative_ids", "role"


class SentenceEmbedding(TextTask):
    """Sentence embedding. Outputs per row: ``embedding``, float32, shape (width of the model,); ``prompt_tokens``."""

    name: ClassVar[str] = "sentence-embedding"
    head: ClassVar[str] = "none"

    text: str = ConfigField("text", description="Column with the text (the anchor, the query).")
    positive: str = ConfigField("positive", description="Column with a text that belongs to it.")
    negative: str = ConfigField("negative", description="Column with a text that does not, optional.")
    text_pair: str = ConfigField("text_pair", description="Column with the other text of a scored pair.")
    score_column: str = ConfigField("score", description="Column with the likeness of a scored pair, a number.")
    objective: Objective = ConfigField(
        "auto",
        description="ranking (text, positive), cosent or cosine-mse (text, text_pair, score); auto: by the columns, "
        "ranking or cosent.",
    )
    temperature: float = ConfigField(0.05, gt=0, le=10, description="Of the cosines in ranking and cosent.")
    symmetric: bool = ConfigField(False, description="Ranking: also rank the texts for each positive.")
    pooling: Pooling = ConfigField("mean", description="mean of the tokens, cls (the first) or last.")
    normalise: bool = ConfigField(True, description="Give vectors of length 1.")
    max_length: int = ConfigField(256, ge=4, le=1_000_000, description="Tokens beyond this are cut.")

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=(Field(name=self.text, dtype="string", description="the text to embed"),),
            outputs=(
                Field(name="embedding", dtype="float32", shape=(-1,), description="its vector"),
                Field(name="prompt_tokens", dtype="int64", description="tokens of the text that were read"),
            ),
        )

    @property
    def main_metric(self) -> str:  # type: ignore[override]
        """``spearman`` for scored pairs, ``mrr`` otherwise."""
        return "spearman" if self.objective in ("cosent", "cosine-mse") else "mrr"

    @property
    def cacheable(self) -> bool:
        return False

    def extra_files(self, config: Any) -> dict[str, str]:
        width = config.get_text_config().hidden_size
        return sentence_transformers_files(width, self.max_length, self.pooling, normalise=self.normalise)

    def fitted(self, rows: Sequence[Row]) -> Self:
        if not rows:
            raise DataError("there are no rows to train on")
        objective = self._objective(rows)
        if objective == "ranking" and len(rows) < 2:
            raise DataError("ranking needs at least two rows: the other rows of a batch are what it ranks against")
        return self.model_copy(update={"objective": objective})

    def _objective(self, rows: Sequence[Row]) -> Objective:
        if self.objective != "auto":
            return self.objective
        columns = {name for name, value in rows[0].items() if value is not None} if rows else set()
        if self.positive in columns:
            return "ranking"
        if {self.text_pair, self.score_column} <= columns:
            return "cosent"
        raise DataError(
            f"row 0: expected the column {self.positive!r}, or {self.text_pair!r} and {self.score_column!r}, "
            f"received {', '.join(map(repr, sorted(map(str, columns)))) or 'none'}"
        )

    def _scores(self, rows: Sequence[Row], objective: Objective) -> list[float]:
        found = []
        for number, row in enumerate(rows):
            value = row.get(self.score_column)
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
                raise DataError(f"row {number}: expected a number in {self.score_column!r}, received {value!r}")
            if objective == "cosine-mse" and not -1 <= value <= 1:
                raise DataError(
                    f"row {number}: cosine-mse learns cosines, so it expects scores from -1 to 1, received {value!r}; "
                    "scale them, or use cosent, which learns their order"
                )
            found.append(float(value))
        return found

    def encode(self, rows: Sequence[Row], tokenizer: Any) -> list[dict[str, Any]]:
        objective = self._objective(rows)
        features = self._token_ids(self.texts(rows), tokenizer, "input_ids")
        if objective != "ranking":
            pairs = self._token_ids(self.texts(rows, self.text_pair), tokenizer, PARTNER)
            scores = self._scores(rows, objective)
            return [{**a, **b, LABELS: s} for a, b, s in zip(features, pairs, scores, strict=True)]
        positives = self._token_ids(self.texts(rows, self.positive), tokenizer, PARTNER)
        given = [i for i, row in enumerate(rows) if row.get(self.negative) is not None]
        negatives: list[dict[str, Any]] = [{NEGATIVE: []} for _ in rows]
        texts = [self.text_at(i, rows[i], self.negative) for i in given]
        for i, negative in zip(given, self._token_ids(texts, tokenizer, NEGATIVE), strict=True):
            negatives[i] = negative
        return [{**a, **b, **c} for a, b, c in zip(features, positives, negatives, strict=True)]

    def _token_ids(self, texts: Sequence[str], tokenizer: Any, key: str) -> list[dict[str, Any]]:
        cut = [t[: self.max_length * 32] for t in texts]
        encoded = tokenizer(cut, truncation=True, max_length=self.max_length)["input_ids"] if cut else []
        return [{key: list(ids)} for ids in encoded]

    def length(self, feature: Mapping[str, Any]) -> int:
        return sum(len(feature.get(key) or ()) for key in ("input_ids", PARTNER, NEGATIVE))

    def collate_training(self, features: Sequence[Mapping[str, Any]], tokenizer: Any) -> dict[str, torch.Tensor]:
        """All texts of the rows as one batch: first the texts, then their partners, then the negatives.

        ``role`` (texts,) is 0, 1 or 2 accordingly; scored pairs have ``labels`` (rows,).
        """
        import torch

        parts = [[f[key] for f in features if f.get(key)] for key in ("input_ids", PARTNER, NEGATIVE)]
        texts = [{"input_ids": ids} for part in parts for ids in part]
        batch = self.collate(texts, tokenizer)
        if "attention_mask" not in batch:
            batch = dict(tokenizer.pad(texts, padding=True, return_tensors="pt", return_attention_mask=True))
        batch[ROLE] = torch.tensor([role for role, part in enumerate(parts) for _ in part])
        if LABELS in features[0]:
            batch[LABELS] = torch.tensor([float(f[LABELS]) for f in features])
        return batch

    def loss(
        self,
        model: Any,
        batch: Mapping[str, torch.Tensor],
        *,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[torch.Tensor, Any]:
        from torch.nn.functional import mse_loss

        from deepseek.tasks.embedding.losses import cosent_loss, ranking_loss

        self.refuse_class_options(class_weights, label_smoothing)
        ids, mask, role = batch["input_ids"], batch["attention_mask"], batch[ROLE]
        outputs = model(input_ids=ids, attention_mask=mask)
        vectors = pool(outputs.last_hidden_state, mask, self.pooling, normalise=True)
        rows = int((role == 0).sum())
        anchors, others = vectors[:rows], vectors[rows:]
        if LABELS in batch:
            cosines = (anchors * others).sum(-1)
            if self.objective == "cosine-mse":
                return mse_loss(cosines, batch[LABELS]), outputs
            return cosent_loss(cosines, batch[LABELS], temperature=self.temperature), outputs
        excluded = _repeats(ids.masked_fill(mask == 0, -1), rows)
        loss = ranking_loss(anchors, others, excluded, temperature=self.temperature, symmetric=self.symmetric)
        return loss, outputs

    def run(
        self,
        model: Executable,
        features: Sequence[Mapping[str, Any]],
        tokenizer: PreTrainedTokenizerBase,
        parameters: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        import torch

        batch = self.collate(features, tokenizer)
        mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
        states = model.forward(batch)["last_hidden_state"]
        answers = self.decode(pool(states, mask, self.pooling, normalise=self.normalise), len(features))
        return [{**a, "prompt_tokens": len(f["input_ids"])} for a, f in zip(answers, features, strict=True)]

    def decode(self, outputs: Any, count: int) -> list[dict[str, Any]]:
        """Pooled vectors, (rows, width), to answers."""
        return [{"embedding": vector} for vector in outputs.tolist()]

    def score(
        self, model: Executable, rows: Sequence[Row], tokenizer: Any, *, batch_size: int = 32
    ) -> dict[str, float]:
        """Pairs: ``mrr``, ``recall_at_1``, ``recall_at_10`` of finding a row's positive among all positives and
        negatives of ``rows``; scored pairs: ``spearman`` of the cosines. Each with its 95% interval over rows.
        """
        import numpy as np

        from deepseek.tasks.embedding.retrieval import ranks, retrieval_scores
        from deepseek.tasks.metrics import regression_metrics

        if not rows:
            raise DataError("there are no rows to evaluate on")
        texts, objective = self.texts(rows), self._objective(rows)
        ranking = objective == "ranking"
        partners = self.texts(rows, self.positive if ranking else self.text_pair)
        truth = [] if ranking else self._scores(rows, objective)
        given = [self.text_at(i, r, self.negative) for i, r in enumerate(rows) if r.get(self.negative) is not None]
        candidates = list(dict.fromkeys([*partners, *(given if ranking else [])]))
        queries = list(dict.fromkeys(texts))
        unique = list(dict.fromkeys([*queries, *candidates]))
        vectors = dict(zip(unique, self._vectors(model, unique, tokenizer, batch_size), strict=True))
        left = np.stack([vectors[t] for t in texts])
        if not ranking:
            right = np.stack([vectors[t] for t in partners])
            found = regression_metrics((left * right).sum(1).tolist(), truth)
            return {name: value for name, value in found.items() if name.startswith("spearman")}
        place = {text: i for i, text in enumerate(candidates)}
        right_answers: dict[str, list[int]] = {}
        for text, partner in zip(texts, partners, strict=True):
            right_answers.setdefault(text, []).append(place[partner])
        own = [place[partner] for partner in partners]
        found_at = ranks(left, np.stack([vectors[t] for t in candidates]), own, [right_answers[t] for t in texts])
        return retrieval_scores(found_at)

    def _vectors(self, model: Executable, texts: Sequence[str], tokenizer: Any, batch_size: int) -> list[Any]:
        import numpy as np

        features = self._token_ids(texts, tokenizer, "input_ids")
        order = sorted(range(len(texts)), key=lambda i: -len(features[i]["input_ids"]))
        vectors: list[Any] = [None] * len(texts)
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            for i, answer in zip(chunk, self.run(model, [features[i] for i in chunk], tokenizer, {}), strict=True):
                vector = np.asarray(answer["embedding"])
                vectors[i] = vector / max(float(np.linalg.norm(vector)), 1e-12)
        return vectors


def _repeats(tokens: torch.Tensor, rows: int) -> torch.Tensor:
    """Which candidates are no negatives of a row, because their text is its positive or belongs to the same anchor.

    Args:
        tokens: (rows + candidates, tokens), the anchors first; the first ``rows`` candidates are the positives.

    Returns:
        (rows, candidates), false at a row's own positive.
    """
    import torch

    _, text = torch.unique(tokens, dim=0, return_inverse=True)
    anchors, candidates = text[:rows], text[rows:]
    same = candidates[:rows, None] == candidates[None]
    same[:, :rows] |= anchors[:, None] == anchors[None]
    return same & ~torch.eye(rows, len(candidates), dtype=torch.bool, device=tokens.device)

"""Table steps with models and statistics: outliers, wrong labels, class balance. Each is off unless configured.

Outliers and wrong labels are flagged by default: the kept rows then get columns that say so (:data:`MARKS`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.balance import OVER_CAP, class_balance, over_the_cap
from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.label_errors import judge_labels
from deepseek.data.cleaning.outliers import judge_outliers
from deepseek.data.cleaning.report import EXAMPLES, excerpt
from deepseek.data.cleaning.step import Columns, Rejection, RowNumbers, Rows
from deepseek.data.cleaning.text_facts import TRAIN
from deepseek.data.cleaning.text_steps import presentable

LABEL_ERROR, SUGGESTED_LABEL, OUTLIER = "label_error", "suggested_label", "outlier"
MARKS = (LABEL_ERROR, SUGGESTED_LABEL, OUTLIER)
"""Columns that flagged rows get: the probability that the label is wrong, the likeliest label, why it is an outlier.
All null in rows that are not flagged."""
_SHOWN = 10


def outliers(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Flag or reject unusual rows."""
    assert config.outliers is not None
    found = judge_outliers(
        rows.batches, rows.schema, config.outliers, text=columns.text, vector=columns.vector, seed=config.seed
    )
    reasons = Counter(outlier.reason for outlier in found)
    rows.details["found"] = dict(reasons.most_common())
    if config.outliers.action == "reject":
        for outlier in found:
            yield Rejection(row=outlier.row, reason=outlier.reason, detail=f"score {outlier.score:.4g}")
        return
    numbers = np.array([outlier.row for outlier in found], np.int64)
    rows.mark(OUTLIER, numbers, pa.array([outlier.reason for outlier in found], pa.string()))
    shown_rows: list[int] = []
    for reason in reasons:
        shown_rows += [outlier.row for outlier in found if outlier.reason == reason][:EXAMPLES]
    reason_of = {outlier.row: (outlier.reason, outlier.score) for outlier in found}
    texts = _texts(rows, columns, config, np.array(shown_rows, np.int64))
    rows.details["flagged"] = [
        {"row": row, "reason": reason_of[row][0], "score": round(reason_of[row][1], 4), "text": text}
        for row, text in zip(shown_rows, texts, strict=True)
    ]


def label_errors(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Flag or reject rows whose labels are probably wrong."""
    settings = config.label_errors
    assert settings is not None
    assert columns.label is not None
    found = judge_labels(
        rows.batches, settings, text=columns.text, label=columns.label, vector=columns.vector, seed=config.seed
    )
    rows.details.update(judged=found.judged, unjudged=found.unjudged, estimated_noise=round(found.noise_rate, 4))
    if settings.action == "reject":
        for row, given, suggested, error in zip(found.rows, found.given, found.suggested, found.error, strict=True):
            detail = f"{given!r} is probably {suggested!r}: {error:.2f}"
            yield Rejection(row=int(row), reason="probably a wrong label", detail=detail)
        return
    order = np.argsort(found.rows)
    kind = rows.schema.field(columns.label).type
    rows.mark(LABEL_ERROR, found.rows[order], pa.array(found.error[order], pa.float32()))
    rows.mark(SUGGESTED_LABEL, found.rows[order], pa.array([found.suggested[at] for at in order], kind))
    texts = _texts(rows, columns, config, found.rows[:_SHOWN])
    rows.details["found"] = {"probably a wrong label": len(found.rows)}
    rows.details["flagged"] = [
        {"row": int(row), "reason": f"{given} → {suggested}?", "score": round(float(error), 4), "text": text}
        for row, given, suggested, error, text in zip(
            found.rows, found.given, found.suggested, found.error, texts, strict=False
        )
    ]


def balance(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Count the classes, and reject rows over a label's cap."""
    assert config.balance is not None
    assert columns.label is not None
    goes, before = over_the_cap(
        rows.batches, config.balance, label=columns.label, split=columns.split, train=TRAIN, seed=config.seed
    )
    rows.details.update(class_balance(before, config.balance.beta).to_dict())
    for row in goes:
        yield Rejection(row=row, reason=OVER_CAP)


def _texts(rows: Rows, columns: Columns, config: CleaningConfig, numbers: RowNumbers) -> Iterable[Any]:
    if columns.text is None or not len(numbers):
        return [""] * len(numbers)
    return [excerpt(presentable(text, config)) for text in rows.take(numbers, [columns.text]).column(0).to_pylist()]

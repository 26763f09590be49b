"""Row steps over texts: quality rules, languages, personal data. Each is off unless the configuration has it.

They run in this order. Quality looks at the text as it came (lines included, before whitespace is normalised), the
language is told before anything is masked, and duplicates are sought after masking.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.language import language_verdicts
from deepseek.data.cleaning.pii import PII_KINDS, find_pii, mask_pii
from deepseek.data.cleaning.quality import quality_problem
from deepseek.data.cleaning.step import Columns, Rejection, StepResult, values_of


def check_quality(table: pa.Table, columns: Columns, config: CleaningConfig) -> StepResult:
    """Reject texts that break a quality rule; missing texts are the row checks' business."""
    assert config.quality is not None
    rejections = []
    for row, text in enumerate(values_of(table, columns.text)):
        if text and (problem := quality_problem(text, config.quality)) is not None:
            rejections.append(Rejection(row=row, reason=problem.reason, detail=problem.detail))
    return StepResult(table=table, rejections=rejections)


def check_language(table: pa.Table, columns: Columns, config: CleaningConfig) -> StepResult:
    """Reject texts in other languages; the counts say how many texts each language has."""
    assert config.language is not None
    verdicts = language_verdicts(values_of(table, columns.text), config.language)
    rejections = [
        Rejection(row=row, reason=verdict.reason, detail=verdict.detail)
        for row, verdict in enumerate(verdicts)
        if verdict.reason
    ]
    counts = Counter(verdict.language for verdict in verdicts)
    return StepResult(table=table, rejections=rejections, counts=counts)


def handle_pii(table: pa.Table, columns: Columns, config: CleaningConfig) -> StepResult:
    """Mask, reject or report personal data; the counts say how much of each kind there was."""
    assert config.pii is not None
    texts = values_of(table, columns.text)
    rejections = []
    counts: Counter[str] = Counter()
    changed = 0
    for row, text in enumerate(texts):
        if config.pii.action == "mask":
            masked, kinds = mask_pii(text, config.pii)
            if kinds:
                texts[row] = masked
                changed += 1
        else:
            kinds = [finding.kind for finding in find_pii(text, config.pii)]
            if kinds and config.pii.action == "reject":
                detail = ", ".join(f"{kind}: {count}" for kind, count in sorted(Counter(kinds).items()))
                rejections.append(Rejection(row=row, reason="personal data", detail=detail))
        counts.update(kinds)
    if changed:
        index = table.schema.get_field_index(columns.text)
        field = table.schema.field(index)
        table = table.set_column(index, field, pa.array(texts, field.type))
    ordered: dict[str, int] = {kind: counts[kind] for kind in PII_KINDS if counts[kind]}
    return StepResult(table=table, rejections=rejections, changed=changed, counts=ordered)


def presentable(text: str | None, config: CleaningConfig) -> str | None:
    """A text as reports may show it: personal data hidden whenever the configuration looks for any."""
    return text if text is None or config.pii is None else mask_pii(text, config.pii)[0]

"""Scores of answers against references, each with a 95% interval.

Every function takes what was answered and what is true and returns ``{m: value, m_low: ..., m_high: ...}`` for each of
its metrics. Shares of independent rows have Wilson's interval; all others come from a percentile bootstrap over rows
(:func:`bootstrap`), so that ratios, means of ratios and rank correlations have one too. numpy only: nothing here needs
scikit-learn or scipy, which the tests compare with.
"""

from __future__ import annotations

from deepseek.tasks.metrics.classification import classification_metrics
from deepseek.tasks.metrics.intervals import LEVEL, bootstrap, share, wilson
from deepseek.tasks.metrics.multi_label import multi_label_metrics
from deepseek.tasks.metrics.ranking import roc_auc
from deepseek.tasks.metrics.regression import regression_metrics
from deepseek.tasks.metrics.spans import Span, iob2_spans, run_spans, span_metrics

__all__ = [
    "LEVEL",
    "Span",
    "bootstrap",
    "classification_metrics",
    "iob2_spans",
    "multi_label_metrics",
    "regression_metrics",
    "roc_auc",
    "run_spans",
    "share",
    "span_metrics",
    "wilson",
]

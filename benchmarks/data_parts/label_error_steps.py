"""Label errors, found by ours and by cleanlab in one environment, as cleanlab is one of our dependencies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import cleaning_quality
from benchmarks.worker import Clock, serve

state: dict[str, Any] = {}


def load(clock: Clock, *, rows: int) -> int:
    """Hold the sentences and their labels; ``rows`` takes a part, 0 all."""
    texts, codes, classes = cleaning_quality.labelled(cleaning_quality.MAIN)
    chosen = np.random.default_rng(0).permutation(len(texts))[: rows or None]
    state.update(texts=[texts[index] for index in chosen], truth=codes[chosen], classes=classes)
    return len(chosen)


def flip(clock: Clock, *, share: float, seed: int) -> None:
    """Give a share of the rows, drawn by ``seed``, another label."""
    state["given"], wrong = cleaning_quality.flipped(state["truth"], state["classes"], seed, share)
    state["flipped"] = np.flatnonzero(wrong)


def find(clock: Clock, *, way: str, seed: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of the rows that are said to be labelled wrongly."""
    given = state["given"]
    with clock:
        found = _ours(given, seed) if way == "ours" else _cleanlab(given, characters=way == "characters", seed=seed)
    right = len(np.intersect1d(found, state["flipped"]))
    precision, recall = right / max(1, len(found)), right / len(state["flipped"])
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def _ours(given: np.ndarray, seed: int) -> np.ndarray:
    from deepseek.data.cleaning import find_label_errors

    return np.asarray(find_label_errors(pa.table({"text": state["texts"], "label": given}), seed=seed).rows)


def _cleanlab(given: np.ndarray, *, characters: bool, seed: int) -> np.ndarray:
    from cleanlab.classification import CleanLearning
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    views = [TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)]
    if characters:
        views.append(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True))
    features = hstack([view.fit_transform(state["texts"]) for view in views]).tocsr()
    learner = CleanLearning(LogisticRegression(max_iter=400), cv_n_folds=5, seed=seed)
    issues = learner.find_label_issues(features, given)
    return np.flatnonzero(issues["is_label_issue"].to_numpy())


if __name__ == "__main__":
    serve(load, flip, find)

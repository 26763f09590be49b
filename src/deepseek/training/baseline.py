"""The baseline that a fine-tuned text classifier has to beat: TF-IDF and logistic regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepseek.errors import require

if TYPE_CHECKING:
    from deepseek.tasks.text_classification import TextClassification


FOLDS = 3


def tfidf_baseline(
    task: TextClassification,
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Train on ``train``, score on ``test``; same rows and same metrics as the model beside it.

    Words and word pairs, sublinear term frequency, the regularisation chosen by cross-validation on the training rows:
    settings that are usual for short reviews, not a straw man. Texts without spaces between words (Chinese, Japanese)
    get one to four characters that occur twice at least instead.

    Raises:
        MissingExtraError: scikit-learn is not installed (extra ``eval``).
        DataError: a row lacks its text or label.
    """
    require("sklearn", "eval")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    labels = task.references(train)
    texts = _texts(task, train)
    units: dict[str, Any] = {"ngram_range": (1, 2)}
    if _without_spaces(texts):
        units = {"analyzer": "char", "ngram_range": (1, 4), "min_df": 2}
    vectoriser = TfidfVectorizer(sublinear_tf=True, **units)
    features = vectoriser.fit_transform(texts)
    model = LogisticRegression(C=4, max_iter=1000, random_state=seed)
    fewest = min(labels.count(label) for label in set(labels))
    if fewest >= FOLDS:
        folds = StratifiedKFold(n_splits=FOLDS, shuffle=True, random_state=seed)
        model = GridSearchCV(model, {"C": [1, 4, 16]}, cv=folds)
    model.fit(features, labels)
    answers = [{"label": str(label)} for label in model.predict(vectoriser.transform(_texts(task, test)))]
    return task.metrics(answers, task.references(test))


def _texts(task: TextClassification, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts, pairs as one text each."""
    if task.text_pair is None:
        return task.texts(rows)
    return [f"{a}\n{b}" for a, b in zip(task.texts(rows), task.texts(rows, task.text_pair), strict=True)]


def _without_spaces(texts: Sequence[str]) -> bool:
    """Whether most letters are of scripts that are written without spaces between words."""
    letters = [c for text in texts[:1000] for c in text[:200] if c.isalpha()]
    unspaced = sum("\u3040" <= c <= "\u30ff" or "\u3400" <= c <= "\u9fff" or "\uf900" <= c <= "\ufaff" for c in letters)
    return 2 * unspaced > len(letters)

"""The baseline that a fine-tuned text classifier has to beat: TF-IDF and logistic regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepseek.errors import require

if TYPE_CHECKING:
    from deepseek.tasks.text_classification import TextClassification


def tfidf_baseline(
    task: TextClassification,
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Train on ``train``, score on ``test``; same rows and same metrics as the model beside it.

    Words and word pairs, sublinear term frequency, the regularisation chosen among five by 5-fold cross-validation on the
    training rows: settings that are usual for short reviews, not a straw man.

    Raises:
        MissingExtraError: scikit-learn is not installed (extra ``eval``).
        DataError: a row lacks its text or label.
    """
    require("sklearn", "eval")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline

    labels = task.references(train)
    fewest = min(labels.count(label) for label in set(labels))
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000, random_state=seed)
    )
    if fewest >= 2:
        folds = StratifiedKFold(n_splits=min(5, fewest), shuffle=True, random_state=seed)
        model = GridSearchCV(model, {"logisticregression__C": [0.5, 1, 2, 4, 8]}, cv=folds)
    model.fit(task.texts(train), labels)
    answers = [{"label": str(label)} for label in model.predict(task.texts(test))]
    return task.metrics(answers, task.references(test))

"""Class probabilities for every row from models that were not trained on it (cross-validation).

Texts that fit in memory become TF-IDF features of words, pairs of words and character n-grams (a Chinese or Japanese
character is a word); two kinds of model vote: logistic regression, and complement naive Bayes (Rennie et al. 2003),
which errs differently and costs almost nothing. Their probabilities are pooled by a weighted geometric mean; the weight
is the one with the smallest Brier score on the given labels, out of sample. Both are repeated with other folds: what a
row gets depends on who shares its fold, and averaging takes that chance out.

Larger collections are streamed: hashed word features, fold by fold naive Bayes (its counts add up) and averaged
stochastic gradient descent (Xu 2011) for the logistic regression. Memory is then bounded by classes and features, not
by rows. Vectors, if there are any, replace the text features.

Everything is seeded, so the same rows give the same probabilities.

Shapes: ``n`` rows, ``k`` classes, ``f`` sparse features, ``d`` width of a vector.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from deepseek.data.cleaning.label_noise import Floats, Ints
from deepseek.data.cleaning.text_measures import CJK
from deepseek.errors import require

TOKEN = rf"(?u){CJK.pattern}|[^\W_]+|[!?]"
IN_MEMORY_CHARS = 20_000_000
"""Texts up to this many characters together are held; their features then take about 1 GB."""
IN_MEMORY_CELLS = 64_000_000
"""Rows times the width of vectors, or the number of classes, up to which those are held (256 MB)."""
_CHAR_GRAMS_UP_TO = 6_000_000  # characters together, and
_SHORT = 300  # on average a text; longer ones have words enough, and their n-grams would cost most of the time
_CHARS_USED = 20_000  # of one text
_MODEL_BYTES = 600_000_000
_LEAST = 1e-6


class LabelledBatch(NamedTuple):
    """Texts or vectors of some rows: positions 0, 1, ... over all batches, features, class codes."""

    positions: Ints
    texts: list[str] | None
    vectors_nd: Floats | None
    given_n: Ints


Read = Callable[[], Iterator[LabelledBatch]]


@dataclass(frozen=True, kw_only=True)
class Size:
    """What decides between memory and stream."""

    rows: int
    classes: int
    characters: int
    vector_width: int

    @property
    def fits(self) -> bool:
        """Whether everything can be held in memory."""
        cells = self.rows * max(self.classes, self.vector_width)
        return self.characters <= IN_MEMORY_CHARS and cells <= IN_MEMORY_CELLS


def out_of_sample(
    read: Read,
    given_n: Ints,
    size: Size,
    *,
    folds: int = 5,
    repeats: int = 2,
    seed: int = 0,
    stream: bool | None = None,
) -> Iterator[tuple[Ints, Floats]]:
    """Yield positions and probabilities ``[rows, classes]`` until every row had its turn.

    Args:
        read: gives all batches, from the start, each time it is called.
        given_n: the class codes of all rows; every class needs at least ``folds`` rows.
        size: how much there is.
        folds: parts of the cross-validation.
        repeats: how often to repeat it with other folds (in memory only).
        seed: of the folds.
        stream: force or forbid streaming; by size when ``None``.
    """
    streaming = not size.fits if stream is None else stream
    if streaming:
        yield from _Streamed(read, given_n, size, folds, seed).run()
    else:
        yield np.arange(size.rows), _held(list(read()), given_n, size, folds, repeats, seed)


def _held(batches: Sequence[LabelledBatch], given_n: Ints, size: Size, folds: int, repeats: int, seed: int) -> Floats:
    if size.vector_width:
        vectors_nd = np.concatenate([batch.vectors_nd for batch in batches if batch.vectors_nd is not None])
        return _cross_validate(_dense_logistic, vectors_nd, given_n, size, folds, range(seed, seed + repeats))
    texts = [text[:_CHARS_USED] for batch in batches for text in batch.texts or ()]
    features_nf = _features(texts, size)
    few = repeats if size.classes == 2 else 1  # many classes cost many times as much and gain less
    return _pooled(
        _cross_validate(_logistic, features_nf, given_n, size, folds, range(seed, seed + few)),
        _cross_validate(_bayes, features_nf, given_n, size, 2 * folds, range(seed, seed + repeats)),
        given_n,
    )


def _pooled(a_nk: Floats, b_nk: Floats, given_n: Ints) -> Floats:
    """The weighted geometric mean with the smallest Brier score, each weight at its best temperature.

    The Brier score, since a few wrong labels that a model is sure about would rule a logarithmic one.
    """
    rows = np.arange(len(given_n))
    a_nk, b_nk = (np.log(np.maximum(vote_nk, _LEAST)) for vote_nk in (a_nk, b_nk))
    best, best_nk = np.inf, a_nk
    for weight in (0.0, 0.25, 0.5, 0.75, 1.0):
        log_nk = weight * a_nk + (1 - weight) * b_nk
        for sharpness in (0.5, 0.7, 1.0, 1.5, 2.0, 3.0):
            tried_nk = _normalised(np.exp(sharpness * log_nk))
            score = float(((tried_nk**2).sum(axis=1) - 2 * tried_nk[rows, given_n]).mean())
            if score < best:
                best, best_nk = score, log_nk
    return _normalised(np.exp(best_nk))


def _features(texts: Sequence[str], size: Size) -> Any:
    """Sparse TF-IDF ``[rows, features]``, float32, rows of length 1 in each view."""
    text = require("sklearn.feature_extraction.text", "clean")
    common = {"sublinear_tf": True, "dtype": np.float32, "min_df": 2 if len(texts) > 1000 else 1}
    views = [text.TfidfVectorizer(token_pattern=TOKEN, ngram_range=(1, 2), **common).fit_transform(texts)]
    if size.characters <= min(_CHAR_GRAMS_UP_TO, _SHORT * size.rows):
        views.append(text.TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **common).fit_transform(texts))
    return require("scipy.sparse", "clean").hstack(views).tocsr()


Fit = Callable[[Any, Any], Any]


def _cross_validate(fit: Fit, features_nf: Any, given_n: Ints, size: Size, folds: int, seeds: range) -> Floats:
    """The mean over the seeds of the probabilities that each fold's model gives the rows it did not see."""
    selection = require("sklearn.model_selection", "clean")
    sum_nk = np.zeros((size.rows, size.classes), np.float32)
    folds = min(folds, int(np.bincount(given_n).min()))
    for seed in seeds:
        divide = selection.StratifiedKFold(folds, shuffle=True, random_state=seed)
        for seen, unseen in divide.split(np.zeros(size.rows), given_n):
            model = fit(features_nf[seen], given_n[seen])
            sum_nk[unseen] += model.predict_proba(features_nf[unseen])
    return sum_nk / len(seeds)


def _logistic(features_nf: Any, given_n: Any) -> Any:
    two = given_n.max() == 1
    linear = require("sklearn.linear_model", "clean")
    solver, steps = ("liblinear", 200) if two else ("lbfgs", 100)
    with _quiet():  # the last digits of the weights do not matter
        return linear.LogisticRegression(C=3.0, tol=1e-3, max_iter=steps, solver=solver).fit(features_nf, given_n)


def _bayes(features_nf: Any, given_n: Any) -> Any:
    return require("sklearn.naive_bayes", "clean").ComplementNB(alpha=0.3).fit(features_nf, given_n)


def _dense_logistic(vectors_nd: Any, given_n: Any) -> Any:
    linear, scale = require("sklearn.linear_model", "clean"), require("sklearn.preprocessing", "clean")
    logistic = linear.LogisticRegression(C=1.0, tol=1e-3, max_iter=200)
    with _quiet():
        return (
            require("sklearn.pipeline", "clean")
            .make_pipeline(scale.StandardScaler(), logistic)
            .fit(vectors_nd, given_n)
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the note that the optimiser stopped at its limit of steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", require("sklearn.exceptions", "clean").ConvergenceWarning)
        yield


def _normalised(weights_nk: Floats) -> Floats:
    return np.asarray(weights_nk / weights_nk.sum(axis=1, keepdims=True))


class _Streamed:
    """Cross-validation over batches: one model of each kind a fold, fed with the rows of the other folds."""

    EPOCHS = 3

    def __init__(self, read: Read, given_n: Ints, size: Size, folds: int, seed: int) -> None:
        self._read, self._given_n, self._size, self._folds = read, given_n, size, folds
        linear = require("sklearn.linear_model", "clean")
        self._fold_n = np.empty(size.rows, np.int8)
        rng = np.random.default_rng(seed)
        for code in range(size.classes):  # stratified: every fold has its share of every class
            members = rng.permutation(np.flatnonzero(given_n == code))
            self._fold_n[members] = np.arange(len(members)) % folds
        self._classes = np.arange(size.classes)
        alpha = 1.0 / (3.0 * size.rows)
        self._linear = [
            linear.SGDClassifier(loss="log_loss", alpha=alpha, average=True, shuffle=True, random_state=seed + fold)
            for fold in range(folds)
        ]
        self._bayes: list[Any] = []
        if not size.vector_width:
            bayes, text = require("sklearn.naive_bayes", "clean"), require("sklearn.feature_extraction.text", "clean")
            width = 2**20
            while width > 2**14 and width * size.classes * folds * 32 > _MODEL_BYTES:
                width //= 2
            self._hash = text.HashingVectorizer(
                n_features=width,
                token_pattern=TOKEN,
                ngram_range=(1, 2),
                alternate_sign=False,
                norm=None,
                dtype=np.float32,
            )
            self._bayes = [bayes.ComplementNB(alpha=0.3) for _ in range(folds)]
            self._weights_f = np.zeros(width)
        self._mean_d: Floats = np.zeros(size.vector_width)
        self._spread_d: Floats = np.ones(size.vector_width)

    def run(self) -> Iterator[tuple[Ints, Floats]]:
        """Weigh the features, train in several passes, then predict in one more."""
        self._weigh()
        for epoch in range(self.EPOCHS):
            for batch in self._read():
                self._learn(batch, first=epoch == 0)
        for batch in self._read():
            yield batch.positions, self._predict(batch)

    def _weigh(self) -> None:
        if self._size.vector_width:
            total, squares = np.zeros(self._size.vector_width), np.zeros(self._size.vector_width)
            for batch in self._read():
                vectors_nd = np.asarray(batch.vectors_nd, np.float64)
                total += vectors_nd.sum(axis=0)
                squares += (vectors_nd**2).sum(axis=0)
            self._mean_d = total / self._size.rows
            variance = squares / self._size.rows - self._mean_d**2
            self._spread_d = np.sqrt(np.maximum(variance, 1e-12))
        else:
            seen_f = np.zeros(len(self._weights_f))
            for batch in self._read():
                seen_f += np.bincount(self._counts(batch).indices, minlength=len(seen_f))
            self._weights_f = np.log((1 + self._size.rows) / (1 + seen_f)) + 1

    def _counts(self, batch: LabelledBatch) -> Any:
        return self._hash.transform([text[:_CHARS_USED] for text in batch.texts or ()])

    def _features(self, batch: LabelledBatch) -> Any:
        if self._size.vector_width:
            # the step size of gradient descent presumes rows of about length 1
            scale = self._spread_d * np.sqrt(self._size.vector_width)
            return (np.asarray(batch.vectors_nd, np.float64) - self._mean_d) / scale
        features_nf = self._counts(batch)
        features_nf.data = ((1 + np.log(features_nf.data)) * self._weights_f[features_nf.indices]).astype(np.float32)
        return require("sklearn.preprocessing", "clean").normalize(features_nf, copy=False)

    def _learn(self, batch: LabelledBatch, *, first: bool) -> None:
        features_nf, fold_n = self._features(batch), self._fold_n[batch.positions]
        for fold in range(self._folds):
            seen = np.flatnonzero(fold_n != fold)
            if len(seen):
                self._linear[fold].partial_fit(features_nf[seen], batch.given_n[seen], classes=self._classes)
                if first and self._bayes:
                    self._bayes[fold].partial_fit(features_nf[seen], batch.given_n[seen], classes=self._classes)

    def _predict(self, batch: LabelledBatch) -> Floats:
        features_nf, fold_n = self._features(batch), self._fold_n[batch.positions]
        result_nk = np.empty((len(fold_n), self._size.classes))
        for fold in range(self._folds):
            unseen = np.flatnonzero(fold_n == fold)
            if len(unseen):
                models = [self._linear[fold], *([self._bayes[fold]] if self._bayes else [])]
                logs = [np.log(np.maximum(m.predict_proba(features_nf[unseen]), _LEAST)) for m in models]
                result_nk[unseen] = _normalised(np.exp(np.mean(logs, axis=0)))
        return result_nk

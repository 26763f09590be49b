"""Wrong labels: flipped ones are found, more and more precisely than plain cleanlab finds them, and only flagged."""

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data import CleaningConfig, Table, clean, clean_table, datasets
from deepseek.data.cleaning import LabelErrorConfig, find_label_errors
from deepseek.data.cleaning import out_of_sample as sampling
from deepseek.data.cleaning.label_noise import NoiseModel
from deepseek.errors import DataError, UnknownNameError

SUBJECTS = ["film", "plot", "actor", "scene", "score", "cast", "story", "camera"]
GOOD = ["great", "lovely", "superb", "moving", "clever", "warm"]
BAD = ["dull", "awful", "boring", "clumsy", "stale", "weak"]


def sentences(count, seed, rate=0.05):
    """Simple sentences of two or three classes' words, and which of the labels were changed."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 2, count)
    texts = [
        f"the {rng.choice(SUBJECTS)} is {rng.choice(BAD if label else GOOD)} and the {rng.choice(SUBJECTS)} is "
        f"{rng.choice(BAD if label else GOOD)}"
        for label in true
    ]
    flipped = np.zeros(count, bool)
    flipped[rng.choice(count, round(rate * count), replace=False)] = True
    return texts, true ^ flipped, flipped


def scores(rows, flipped):
    hits = flipped[rows].sum()
    return hits / max(1, len(rows)), hits / flipped.sum()


def test_flipped_labels_are_found():
    texts, given, flipped = sentences(600, 0)
    found = find_label_errors(pa.table({"text": texts, "label": given}))
    precision, recall = scores(found.rows, flipped)
    assert precision > 0.95
    assert recall > 0.85
    assert found.suggested == [1 - label for label in found.given]
    assert 0.03 < found.noise_rate < 0.08
    assert found.error.min() > 0.5
    assert found.to_arrow().column_names == ["input_row", "label", "suggested_label", "label_error"]


def test_few_flags_where_nothing_is_wrong():
    texts, given, _ = sentences(600, 1, rate=0)
    assert len(find_label_errors(pa.table({"text": texts, "label": given})).rows) <= 3


def test_the_stream_finds_them_as_well():
    texts, given, flipped = sentences(3000, 2)
    codes = given.astype(int)
    size = sampling.Size(rows=3000, classes=2, characters=10**12, vector_width=0)
    assert not size.fits

    def read():
        for start in range(0, 3000, 700):
            rows = np.arange(start, min(3000, start + 700))
            yield sampling.LabelledBatch(rows, [texts[row] for row in rows], None, codes[rows])

    model = NoiseModel(3000, 2)
    for rows, probabilities in sampling.out_of_sample(read, codes, size):
        assert np.allclose(probabilities.sum(axis=1), 1)
        model.add(rows, probabilities, codes[rows])
    precision, recall = scores(model.find().positions, flipped)
    assert precision > 0.9
    assert recall > 0.9


@pytest.mark.parametrize("stream", [False, True])
def test_vectors(stream, monkeypatch):
    if stream:
        monkeypatch.setattr(sampling, "IN_MEMORY_CELLS", 0)
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 900)
    vectors = np.eye(3)[true] * 4 + rng.normal(size=(900, 3))
    flipped = np.zeros(900, bool)
    flipped[:45] = True
    given = np.where(flipped, (true + 1) % 3, true)
    table = pa.table({"v": list(vectors), "label": np.array(["a", "b", "c"])[given]})
    found = find_label_errors(table, LabelErrorConfig(features="vector"), text=None, vector="v")
    precision, recall = scores(found.rows, flipped)
    assert precision > 0.85
    assert recall > 0.85


def test_given_probabilities_and_confident_learning():
    rng = np.random.default_rng(1)
    true = rng.integers(0, 2, 1000)
    flipped = rng.random(1000) < 0.05
    # of the true label, as a good model would say
    own = np.clip(rng.beta(8, 1, 1000), 0.02, 0.98)
    probabilities = np.where((np.arange(2) == true[:, None]), own[:, None], 1 - own[:, None])
    table = pa.table({"p": list(probabilities), "label": true ^ flipped})
    for method in ("posterior", "confident-learning"):
        found = find_label_errors(table, LabelErrorConfig(probabilities="p", method=method), text=None)
        precision, recall = scores(found.rows, flipped)
        assert precision > 0.75
        assert recall > 0.9
    sure = find_label_errors(table, LabelErrorConfig(probabilities="p", min_probability=0.9), text=None)
    assert sure.error.min() >= 0.9
    with pytest.raises(DataError, match="expected 2 numbers in every row"):
        find_label_errors(
            table.set_column(0, "p", pa.array([[1.0]] * 1000)), LabelErrorConfig(probabilities="p"), text=None
        )
    with pytest.raises(DataError, match="sum to 1"):
        find_label_errors(
            table.set_column(0, "p", pa.array([[1.0, 1.0]] * 1000)), LabelErrorConfig(probabilities="p"), text=None
        )


def test_rare_classes_are_left_out_and_said():
    texts, given, flipped = sentences(400, 3)
    labels = [["good", "bad"][label] for label in given] + ["rare"] * 3
    found = find_label_errors(pa.table({"text": [*texts, "a", "b", "c"], "label": labels}))
    assert (found.judged, found.unjudged) == (400, 3)
    assert scores(found.rows, flipped)[1] > 0.8
    with pytest.raises(DataError, match="at least two labels with 10 rows"):
        find_label_errors(pa.table({"text": ["a"] * 9, "label": list("aaabbbccc")}))
    with pytest.raises(DataError, match="at most 1,000 different labels"):
        find_label_errors(pa.table({"text": ["a"] * 5000, "label": np.arange(5000) / 7}))
    with pytest.raises(UnknownNameError):
        find_label_errors(pa.table({"text": ["a"]}))


def test_better_than_cleanlab_on_real_sentences():
    from cleanlab.filter import find_label_issues
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    rows = [row for row in datasets.load_dataset_rows("hutto-tweets") if row["label"]]
    texts, true = [row["text"] for row in rows], np.array([row["label"] == "positive" for row in rows]).astype(int)
    flipped = np.zeros(len(true), bool)
    flipped[np.random.default_rng(7).choice(len(true), len(true) // 20, replace=False)] = True
    given = np.where(flipped, 1 - true, true)
    logistic = LogisticRegression(max_iter=400)
    predicted = cross_val_predict(logistic, TfidfVectorizer().fit_transform(texts), given, cv=5, method="predict_proba")
    plain = find_label_issues(given, predicted, return_indices_ranked_by="self_confidence", n_jobs=1)
    ours = find_label_errors(pa.table({"text": texts, "label": given})).rows

    def f1(found):
        precision, recall = scores(found, flipped)
        return 2 * precision * recall / (precision + recall)

    assert f1(ours) > 1.1 * f1(plain)


def test_rows_are_flagged_by_default_and_rejected_on_demand(tmp_path):
    texts, given, flipped = sentences(500, 4)
    table = pa.table({"text": texts, "label": [["good", "bad"][label] for label in given]})
    config = CleaningConfig(
        exact_duplicates=False, conflicting_labels=None, near_duplicates=None, label_errors=LabelErrorConfig()
    )
    flagged = clean(table, config)
    assert flagged.rejected.num_rows == 0
    marked = np.array([error is not None for error in flagged.kept["label_error"].to_pylist()])
    expected = np.sort(find_label_errors(table).rows)
    assert np.flatnonzero(marked).tolist() == expected.tolist()
    assert scores(expected, flipped)[1] > 0.8
    assert all(
        (row["suggested_label"] is None) or (row["suggested_label"] != row["label"]) for row in flagged.kept.to_pylist()
    )
    step = flagged.report.steps[-1]
    assert step.details["found"] == {"probably a wrong label": len(expected)}
    assert len(step.details["flagged"]) == 10
    # once more: the marks are replaced, not doubled
    assert clean(flagged.kept, config).kept.column_names == flagged.kept.column_names
    rejecting = config.model_copy(update={"label_errors": LabelErrorConfig(action="reject")})
    rejected = clean(table, rejecting)
    assert rejected.rejected["input_row"].to_pylist() == expected.tolist()
    assert "is probably 'bad'" in " ".join(rejected.rejected["detail"].to_pylist())
    stored, _ = clean_table(Table.create(tmp_path / "raw.lance", table), tmp_path / "clean.lance", config)
    assert stored.to_arrow().equals(flagged.kept)

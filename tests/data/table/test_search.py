"""Search finds what it should, with and without indices, in English and Chinese."""

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data import Table
from deepseek.data.table import indexing, vector_field
from deepseek.errors import ConfigError, TableError, UnknownNameError

TEXTS = [
    "这部电影非常好看，我很喜欢",
    "剧情太差，浪费时间",
    "The movies were wonderful and moving",
    "I love this movie",
    "电影院的服务态度很好",
    "酒店位置不错，早餐很丰富",
    "我喜欢猫",
]
SCHEMA = pa.schema([("k", pa.int64()), ("text", pa.string()), ("group", pa.string()), vector_field("v", 32)])


@pytest.fixture
def texts(tmp_path):
    return Table.create(tmp_path / "t.lance", [{"k": k, "text": text} for k, text in enumerate(TEXTS)])


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize(
    ("query", "expected"),
    [("movie", {2, 3}), ("loving", {3}), ("电影", {0, 4}), ("喜欢", {0, 6}), ("早餐", {5}), ("nothing", set())],
)
def test_full_text_in_two_languages(texts, indexed, query, expected):
    if indexed:
        texts.create_index("text", "text", tokenizer="characters" if query > "一" else "words")
    found = texts.search(text=query, limit=len(expected) or 5)
    assert set(found["k"].to_pylist()) == expected
    scores = found["score"].to_pylist()
    assert scores == sorted(scores, reverse=True)


def test_the_tokenizer_suits_the_script(tmp_path):
    assert indexing.script_tokenizer(TEXTS[:2]) == "characters"
    assert indexing.script_tokenizer(TEXTS[2:4]) == "words"
    assert indexing.script_tokenizer([]) == "words"


def test_rows_written_after_an_index_are_found_too(texts):
    texts.create_index("text", "text", tokenizer="words")
    texts.append([{"k": 100, "text": "another movie"}])
    assert set(texts.search(text="movie")["k"].to_pylist()) == {2, 3, 100}
    (info,) = texts.indices()
    assert (info.kind, info.column, info.indexed_rows, info.unindexed_rows) == ("text", "text", 7, 1)
    texts.optimize_indices()
    assert texts.indices()[0].unindexed_rows == 0
    assert set(texts.search(text="movie", where="k < 50")["k"].to_pylist()) == {2, 3}
    texts.drop_index(info.name)
    assert texts.indices() == []
    with pytest.raises(UnknownNameError):
        texts.drop_index("text_text")


def test_phrases_need_their_words_in_order(texts):
    texts.create_index("text", "text", tokenizer="words", positions=True)
    assert texts.search(text='"this movie"')["k"].to_pylist() == [3]
    assert texts.search(text='"movie this"').num_rows == 0


def _clusters(rows, seed=0):
    """Vectors as encoders make them: many loose clusters, of differing size, not uniform noise."""
    generator = np.random.default_rng(seed)
    centers = generator.normal(size=(200, 32))
    chosen = np.minimum(generator.geometric(0.02, rows) - 1, 199)
    return (centers[chosen] + 0.6 * generator.normal(size=(rows, 32))).astype(np.float32)


def _table(path, vectors):
    def batches():
        for start in range(0, len(vectors), 4000):
            part = vectors[start : start + 4000]
            keys = np.arange(start, start + len(part))
            yield pa.record_batch(
                [
                    pa.array(keys),
                    pa.array([f"text {key}" for key in keys]),
                    pa.array([f"g{key % 3}" for key in keys]),
                    pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), 32),
                ],
                schema=SCHEMA,
            )

    return Table.create(path, batches(), schema=SCHEMA)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    data = _clusters(20_000)
    return _table(tmp_path_factory.mktemp("vectors") / "t.lance", data), data


def _exact(data, query, keys, limit):
    similar = (data[keys] @ query) / (np.linalg.norm(data[keys], axis=1) * np.linalg.norm(query))
    return [int(key) for key in keys[np.argsort(-similar, kind="stable")][:limit]]


def test_vectors_without_an_index_are_searched_exactly(vectors):
    table, data = vectors
    query = _clusters(5, seed=9)[3]
    found = table.search(vector=query, limit=20, columns=["k"])
    assert found["k"].to_pylist() == _exact(data, query, np.arange(len(data)), 20)
    assert found["distance"].to_pylist() == sorted(found["distance"].to_pylist())
    filtered = table.search(vector=query, limit=20, columns=["k"], where="`group` = 'g1'")
    assert filtered["k"].to_pylist() == _exact(data, query, np.arange(1, len(data), 3), 20)


@pytest.mark.parametrize("kind", ["graph", "quantised"])
def test_recall_of_the_vector_indices(vectors, monkeypatch, tmp_path, kind):
    table, data = vectors
    if kind == "quantised":
        monkeypatch.setattr(indexing, "GRAPH_ROWS", 5000)
    info = table.refresh().create_index("v")
    assert (info.kind, info.indexed_rows) == ("vector", len(data))
    queries = _clusters(30, seed=7)
    hits = 0
    for query in queries:
        found = table.search(vector=query, limit=10, columns=["k"])["k"].to_pylist()
        hits += len(set(found) & set(_exact(data, query, np.arange(len(data)), 10)))
        exact = table.search(vector=query, limit=10, columns=["k"], exact=True)["k"].to_pylist()
        assert exact == _exact(data, query, np.arange(len(data)), 10)
    table.drop_index(info.name)
    assert hits / 300 >= 0.95


def test_small_tables_get_an_exact_index(tmp_path):
    data = _clusters(500)
    table = _table(tmp_path / "t.lance", data)
    table.create_index("v", metric="l2")
    query = data[17] + 0.01
    found = table.search(vector=query, limit=5)
    nearest = np.argsort(((data - query) ** 2).sum(axis=1))[:5]
    assert found["k"].to_pylist() == nearest.tolist()
    with pytest.raises(ConfigError, match="the index measures l2"):
        table.search(vector=query, metric="cosine")


def test_text_and_vector_together(vectors):
    table, data = vectors
    found = table.search(text="4321", vector=data[77], text_column="text", limit=3, columns=["k"])
    assert {4321, 77} <= set(found["k"].to_pylist())


def test_scalar_indices_answer_conditions(vectors):
    table, _ = vectors
    table.refresh()
    assert table.create_index("k").kind == "btree"
    assert table.create_index("group", "bitmap").kind == "bitmap"
    assert table.to_arrow(["k"], where="k = 777")["k"].to_pylist() == [777]
    assert table.count("`group` = 'g2' AND k < 30") == 10


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ConfigError, "neither"),
        ({"text": "x", "limit": 0}, ConfigError, "limit"),
        ({"text": "x"}, ConfigError, "candidates: text, group"),
        ({"text": "x", "text_column": "k"}, TableError, "expected texts, received int64"),
        ({"vector": [1.0]}, ConfigError, "expected 32 numbers"),
        ({"vector": [0.0] * 32, "metric": "cosin"}, UnknownNameError, "Did you mean 'cosine'"),
        ({"vector": [0.0] * 32, "columns": ["kk"]}, UnknownNameError, "'kk'"),
        ({"vector": [0.0] * 32, "where": "nope = 1"}, UnknownNameError, "'nope'"),
    ],
)
def test_what_cannot_be_searched_is_explained(vectors, arguments, error, message):
    with pytest.raises(error, match=message):
        vectors[0].search(**arguments)


def test_what_cannot_be_indexed_is_explained(texts):
    with pytest.raises(TableError, match="expected a column of vectors"):
        texts.create_index("k", "vector")
    with pytest.raises(TableError, match="expected a column of texts"):
        texts.create_index("k", "text")
    with pytest.raises(UnknownNameError, match="Did you mean 'btree'"):
        texts.create_index("k", "b-tree")
    with pytest.raises(UnknownNameError, match="tokenizer"):
        texts.create_index("text", "text", tokenizer="word")

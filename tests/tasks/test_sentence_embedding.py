"""Pairs that lie close after training, losses against plain formulas, retrieval scores, sentence-transformers' files."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from deepseek.bundles import write_bundle
from deepseek.errors import ConfigError, DataError
from deepseek.inference import Predictor
from deepseek.inference.torch_runtime import TorchModel
from deepseek.models import from_config, tokenizer_for
from deepseek.tasks.embedding.losses import cosent_loss, ranking_loss
from deepseek.tasks.embedding.pooling import pool
from deepseek.tasks.embedding.retrieval import ranks
from deepseek.tasks.sentence_embedding import SentenceEmbedding
from deepseek.training import TrainingRecipe, fit

THINGS = {"cat": "feline", "dog": "canine", "car": "vehicle", "oak": "tree", "salmon": "fish", "gold": "metal"}
PAIRS = [{"text": f"a {a}", "positive": f"some kind of {b}"} for a, b in THINGS.items()]
SCORED = [
    {"text": "a cat", "text_pair": "a kitten", "score": 4.5},
    {"text": "a cat", "text_pair": "the stock market", "score": 0},
    {"text": "he runs", "text_pair": "he is running", "score": 5},
    {"text": "he runs", "text_pair": "green paint", "score": 0.5},
    {"text": "a red car", "text_pair": "a blue car", "score": 3},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tokenizer_for("all-minilm-l6-v2")


def small_model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return from_config(config)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 4), st.booleans(), st.integers(0, 1000))
def test_the_ranking_loss_is_the_plain_formula(rows: int, extra: int, symmetric: bool, seed: int) -> None:
    torch.manual_seed(seed)
    anchors, candidates = torch.randn(rows, 8), torch.randn(rows + extra, 8)
    excluded = torch.rand(rows, rows + extra) < 0.3
    excluded[torch.arange(rows), torch.arange(rows)] = False
    loss = ranking_loss(anchors, candidates, excluded, temperature=0.5, symmetric=symmetric).item()

    def part(scores: list[float], skip: list[bool], own: int) -> float:
        return -math.log(math.exp(scores[own]) / sum(math.exp(s) for s, x in zip(scores, skip, strict=True) if not x))

    scores = (anchors @ candidates.T / 0.5).double()
    expected = sum(part(scores[i].tolist(), excluded[i].tolist(), i) for i in range(rows)) / rows
    if symmetric:
        back = sum(part(scores[:, i].tolist(), excluded[:, i].tolist(), i) for i in range(rows)) / rows
        expected = (expected + back) / 2
    assert loss == pytest.approx(expected, rel=1e-4, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 3)), min_size=1, max_size=6))
def test_cosent_is_the_plain_formula(pairs: list[tuple[float, int]]) -> None:
    cosines, scores = (torch.tensor(x, dtype=torch.float64) for x in zip(*pairs, strict=True))
    terms = sum(math.exp((cj - ci) / 0.1) for ci, si in pairs for cj, sj in pairs if si > sj)
    assert cosent_loss(cosines, scores, temperature=0.1).item() == pytest.approx(math.log1p(terms), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 9))
def test_ranks_are_those_of_sorting(seed: int, rows: int, count: int) -> None:
    random = np.random.default_rng(seed)
    queries, candidates = random.integers(-2, 3, (rows, 3)), random.integers(-2, 3, (count, 3))
    own = random.integers(0, count, rows).tolist()
    ignored = [random.integers(0, count, 2).tolist() for _ in range(rows)]
    for i, found in enumerate(ranks(queries, candidates, own, ignored)):
        scores = [float(queries[i] @ c) for c in candidates]
        others = [s for j, s in enumerate(scores) if j != own[i] and j not in ignored[i]]
        better, same = sum(s > scores[own[i]] for s in others), sum(s == scores[own[i]] for s in others)
        assert found == 1 + better + same / 2


@pytest.mark.parametrize("side", ["right", "left"])
def test_pooling_sees_no_padding(side: str) -> None:
    states = torch.randn(1, 3, 4)
    padding = torch.full((1, 2, 4), 9.0)
    padded = torch.cat([states, padding] if side == "right" else [padding, states], 1)
    mask = torch.tensor([[1, 1, 1, 0, 0] if side == "right" else [0, 0, 1, 1, 1]])
    for kind, expected in (("mean", states.mean(1)), ("cls", states[:, 0]), ("last", states[:, -1])):
        torch.testing.assert_close(pool(padded, mask, kind, normalise=False), expected)  # type: ignore[arg-type]
    assert pool(padded, mask, "mean", normalise=True).norm().item() == pytest.approx(1)


def test_a_text_that_repeats_in_the_batch_is_no_negative(tokenizer: Any) -> None:
    task, model = SentenceEmbedding(), small_model(tokenizer).eval()
    rows = [PAIRS[0], PAIRS[1], {**PAIRS[0]}, {"text": PAIRS[0]["text"], "positive": "a pet"}]
    batch = task.collate_training(task.encode(rows, tokenizer), tokenizer)
    loss = task.loss(model, batch)[0].item()
    assert batch["input_ids"].shape[0] == 8
    answers = task.run(TorchModel(model), task.prepare([{"text": r["text"]} for r in rows], tokenizer), tokenizer, {})
    others = task.run(
        TorchModel(model), task.prepare([{"text": r["positive"]} for r in rows], tokenizer), tokenizer, {}
    )
    a, p = (torch.tensor([x["embedding"] for x in part]) for part in (answers, others))
    scores = a @ p.T / task.temperature
    negatives = [[0, 1], [0, 1, 2, 3], [1, 2], [1, 3]]  # of each row, its own positive among them
    own = [0, 1, 2, 3]
    expected = [-(scores[i, own[i]] - torch.logsumexp(scores[i, negatives[i]], 0)) for i in range(4)]
    assert loss == pytest.approx(torch.stack(expected).mean().item(), rel=1e-3)


def test_training_brings_pairs_together_and_the_bundle_embeds(tokenizer: Any, tmp_path: Any) -> None:
    recipe = TrainingRecipe(
        task={"name": "sentence-embedding", "symmetric": True, "max_length": 32},
        training={"epochs": 30, "batch_size": 6, "learning_rate": 3e-3, "precision": "float32"},
    )
    rows = [{**row, "negative": "a house" if i % 2 else None} for i, row in enumerate(PAIRS)]
    model = small_model(tokenizer)
    before = SentenceEmbedding().score(TorchModel(model.eval()), rows, tokenizer)
    result = fit(model.train(), rows, recipe, tokenizer=tokenizer)
    assert result.task.objective == "ranking"  # type: ignore[attr-defined]
    assert result.task.main_metric == "mrr"
    after = result.task.score(TorchModel(model.eval()), rows, tokenizer)
    assert before["mrr"] < 0.8 < after["mrr"]
    assert after["recall_at_1"] <= after["recall_at_10"] == 1
    bundle = write_bundle(
        tmp_path / "b", model=model, tokenizer=tokenizer, task=result.task, name="b", base_model="x", license="MIT"
    )
    predictor = Predictor.load(bundle.path)
    vectors = np.array(
        [a["embedding"] for a in predictor.predict([{"text": "a cat"}, {"text": "some kind of feline"}])]
    )
    assert vectors.shape == (2, 32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert predictor.score(rows) == pytest.approx(after, rel=1e-3)
    modules = [m["type"].rpartition(".")[2] for m in json.loads((bundle.path / "modules.json").read_text())]
    assert modules == ["Transformer", "Pooling", "Normalize"]
    pooling = json.loads((bundle.path / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] is True
    assert pooling["word_embedding_dimension"] == 32


@pytest.mark.parametrize("objective", ["auto", "cosine-mse"])
def test_scored_pairs_are_ordered(tokenizer: Any, objective: str) -> None:
    rows = [{**row, "score": row["score"] / 5} for row in SCORED]  # type: ignore[operator]
    recipe = TrainingRecipe(
        task={"name": "sentence-embedding", "objective": objective},
        training={"epochs": 30, "batch_size": 5, "learning_rate": 3e-3, "precision": "float32"},
    )
    model = small_model(tokenizer)
    result = fit(model, rows, recipe, tokenizer=tokenizer)
    assert result.task.main_metric == "spearman"
    scores = result.task.score(TorchModel(model.eval()), rows, tokenizer)
    assert scores["spearman"] > 0.9
    predictor = Predictor(name="m", task=result.task, tokenizer=tokenizer, model=TorchModel(model))
    a, b = (
        np.array([x["embedding"] for x in predictor.predict([{"text": r[key]} for r in rows])])
        for key in ("text", "text_pair")
    )
    assert scores["spearman"] == pytest.approx(spearmanr((a * b).sum(1), [r["score"] for r in rows]).statistic)


def test_the_real_encoder_finds_its_pairs_and_keeps_its_own_pooling(minilm: Any) -> None:
    predictor = Predictor.load(minilm, task="sentence-embedding")
    assert predictor.definition.pooling == "mean"  # type: ignore[attr-defined]
    assert predictor.definition.normalise  # type: ignore[attr-defined]
    scores = predictor.score(PAIRS)
    assert scores["mrr"] > 0.85
    assert set(predictor.score(SCORED)) == {"spearman", "spearman_low", "spearman_high"}
    assert predictor.score(SCORED)["spearman"] > 0.8


def test_a_pooling_that_is_not_known_is_refused(minilm: Any, tmp_path: Any) -> None:
    import shutil

    folder = shutil.copytree(minilm, tmp_path / "m")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(ConfigError, match="Transformer, Pooling, Normalize"):
        Predictor.load(folder, task="sentence-embedding")


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([{"text": "a"}], {}, "row 0.*'positive'.*received 'text'"),
        ([{"text": "a", "positive": "b"}, {"text": "a", "positive": 3}], {}, "row 1.*'positive'"),
        ([{"text": "a", "positive": "b", "negative": " "}], {}, "row 0.*'negative' is empty"),
        ([{"text": "a", "text_pair": "b", "score": "high"}], {}, "row 0.*number.*'high'"),
        ([{"text": "a", "text_pair": "b", "score": True}], {}, "row 0.*number.*True"),
        ([{"text": "a", "text_pair": "b", "score": float("nan")}], {}, "row 0.*number.*nan"),
        ([{"text": "a", "text_pair": "b", "score": 5}], {"objective": "cosine-mse"}, "row 0.*-1 to 1.*5"),
        ([{"text": 1, "positive": "b"}], {}, "row 0.*'text'"),
    ],
)
def test_wrong_rows_are_named(tokenizer: Any, rows: Any, options: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        SentenceEmbedding(**options).encode(rows, tokenizer)
    with pytest.raises(DataError, match=said):
        SentenceEmbedding(**options).score(TorchModel(None), rows, tokenizer)  # type: ignore[arg-type]


def test_one_row_cannot_be_ranked() -> None:
    with pytest.raises(DataError, match="two rows"):
        SentenceEmbedding().fitted(PAIRS[:1])
    with pytest.raises(DataError, match="no rows"):
        SentenceEmbedding().fitted([])

"""Masks, whole words, scores and filling in."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.bundles import write_bundle
from deepseek.errors import ConfigError, DataError
from deepseek.inference import Predictor
from deepseek.inference.torch_runtime import TorchModel
from deepseek.models import from_config, from_pretrained, tokenizer_for, train_tokenizer
from deepseek.tasks.language_modelling.masking import mask_tokens
from deepseek.tasks.masked_language_modelling import MaskedLanguageModelling
from deepseek.training import TrainingRecipe, fit

SENTENCES = [f"the {a} sees the {b} and the {a} runs" for a in ("fox", "dog", "cat") for b in ("hen", "cow", "owl")]
MASK = 4


@pytest.fixture(scope="module")
def own() -> Any:
    return train_tokenizer(SENTENCES, kind="wordpiece", vocab_size=200)


def small_model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return from_config(config, head="masked-lm")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 5), min_size=6, max_size=6), min_size=1, max_size=4), st.floats(0.05, 0.95))
def test_masks_take_whole_units_and_leave_special_tokens(numbers: list[list[int]], probability: float) -> None:
    units = torch.tensor(numbers)
    ids = torch.arange(units.numel()).view_as(units) + 100
    corrupted, labels = mask_tokens(ids, units, MASK, vocabulary=50, probability=probability)
    chosen = labels != -100
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(corrupted[~chosen], ids[~chosen])
    assert not chosen[units < 0].any()
    for row, picked in zip(units, chosen, strict=True):
        assert picked.any() == (row >= 0).any()
        for unit in set(row.tolist()) - {-1}:
            assert len(set(picked[row == unit].tolist())) == 1


def test_the_shares_are_those_of_bert() -> None:
    ids = torch.randint(100, 200, (64, 512), generator=torch.Generator().manual_seed(0))
    units = torch.arange(512).repeat(64, 1)
    corrupted, labels = mask_tokens(
        ids, units, MASK, vocabulary=90, probability=0.15, generator=torch.Generator().manual_seed(1)
    )
    chosen = labels != -100
    assert chosen.float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (corrupted[chosen] == MASK).float().mean().item() == pytest.approx(0.8 + 0.1 / 90, abs=0.02)
    assert (corrupted[chosen] == ids[chosen]).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert ((corrupted[chosen] < 90) & (corrupted[chosen] != MASK)).float().mean().item() == pytest.approx(
        0.1, abs=0.02
    )


def test_masks_repeat_with_the_random_state_and_change_without(own: Any) -> None:
    task = MaskedLanguageModelling()
    features = task.encode([{"text": s} for s in SENTENCES], own)
    torch.manual_seed(1)
    first, second = (task.collate_training(features, own) for _ in range(2))
    torch.manual_seed(1)
    again = task.collate_training(features, own)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["labels"], second["labels"])


def test_words_are_masked_whole_even_across_packed_texts() -> None:
    tokenizer = tokenizer_for("all-minilm-l6-v2")
    task = MaskedLanguageModelling(whole_words=True, mask_probability=0.5, max_length=64)
    texts = ["unbelievably tokenised, embeddings everywhere", "quantised transformers misbehave"]
    (feature,) = task.encode([{"text": t} for t in texts], tokenizer)
    pieces = tokenizer.convert_ids_to_tokens(feature["input_ids"])
    words = [i for i, piece in enumerate(pieces) if piece.startswith("##")]
    assert words
    assert all(feature["units"][i] == feature["units"][i - 1] for i in words)
    starts = [u for u, piece in zip(feature["units"], pieces, strict=True) if u >= 0 and not piece.startswith("##")]
    assert len(set(starts)) == len(starts)  # each word has a number of its own
    batch = task.collate_training([feature], tokenizer)
    chosen = (batch["labels"][0] != -100).tolist()
    assert all(chosen[i] == chosen[i - 1] for i in words)
    tokens = MaskedLanguageModelling(max_length=64).encode([{"text": texts[0]}], tokenizer)[0]["units"]
    assert [u for u in tokens if u >= 0] == list(range(len(tokens) - 2))


def test_long_texts_are_split_and_short_ones_packed(own: Any) -> None:
    text = " ".join(SENTENCES)
    task = MaskedLanguageModelling(max_length=16)
    features = task.encode([{"text": text}, {"text": "the fox"}, {"text": "the dog"}], own)
    tokens = [t for f in features for t, u in zip(f["input_ids"], f["units"], strict=True) if u >= 0]
    expected = [t for s in (text, "the fox", "the dog") for t in own(s, add_special_tokens=False)["input_ids"]]
    assert sorted(tokens) == sorted(expected)
    assert max(len(f["input_ids"]) for f in features) == 16
    assert sum(f["position_ids"].count(0) for f in features) > len(features)


def test_scores_are_those_of_a_fixed_mask(own: Any) -> None:
    model, task = small_model(own).eval(), MaskedLanguageModelling()
    rows = [{"text": s} for s in SENTENCES]
    found = task.score(TorchModel(model), rows, own, batch_size=4)
    torch.manual_seed(5)
    assert task.score(TorchModel(model), rows, own, batch_size=3) == pytest.approx(found, rel=1e-4)
    assert found["perplexity"] == pytest.approx(len(own), rel=0.3)  # a model that knows nothing
    assert 0 <= found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"] <= 1
    assert all(math.isfinite(v) for v in found.values())
    with pytest.raises(DataError, match="no rows"):
        task.score(TorchModel(model), [], own)


@pytest.mark.parametrize("packing", [True, False])
def test_pretraining_from_scratch_learns_the_language(own: Any, packing: bool, tmp_path: Any) -> None:
    rows = [{"text": s} for s in SENTENCES]
    recipe = TrainingRecipe(
        task={"name": "masked-language-modelling", "packing": packing, "max_length": 32, "whole_words": True},
        training={"epochs": 60, "batch_size": 3 if packing else 9, "learning_rate": 5e-3, "precision": "float32"},
    )
    model = small_model(own)
    before = recipe.build_task().score(TorchModel(model.eval()), rows, own)
    result = fit(model.train(), rows, recipe, tokenizer=own)
    after = result.task.score(TorchModel(model.eval()), rows, own)
    assert after["perplexity"] < before["perplexity"] / 5
    assert after["accuracy"] > before["accuracy"] + 0.3
    bundle = write_bundle(
        tmp_path / "b", model=model, tokenizer=own, task=result.task, name="b", base_model="none", license="MIT"
    )
    predictor = Predictor.load(bundle.path)
    answers = predictor.predict(
        [{"text": "the dog sees the hen and [MASK] dog runs"}, {"text": "[MASK] [MASK]"}], {"top_k": 2}
    )
    assert answers[0]["tokens"][0][0] == "the"
    assert answers[0]["filled"] == "the dog sees the hen and the dog runs"
    assert [len(mask) for mask in answers[1]["scores"]] == [2, 2]
    assert all(0 <= p <= 1 for mask in answers[1]["scores"] for p in mask)
    assert Predictor.load(bundle.path).score(rows) == pytest.approx(after, rel=1e-3)
    with pytest.raises(DataError, match=r"row 1.*no \[MASK\]"):
        predictor.predict([{"text": "[MASK]"}, {"text": "the dog"}])
    with pytest.raises(DataError, match="row 0: only 0 of 1"):
        predictor.predict([{"text": "the dog " * 40 + "[MASK]"}])
    with pytest.raises(DataError, match="top_k"):
        predictor.predict([{"text": "[MASK]"}], {"top_k": 0})


def test_a_head_is_made_anew_and_tied_where_the_checkpoint_has_none() -> None:
    model = from_pretrained("all-minilm-l6-v2", head="masked-lm")
    assert model.fresh_modules == ("cls",)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_wrong_rows_and_tokenizers(own: Any) -> None:
    task = MaskedLanguageModelling()
    with pytest.raises(DataError, match=r"row 1.*'text'"):
        task.encode([{"text": "a"}, {"text": 3}], own)
    with pytest.raises(DataError, match="no classes"):
        task.loss(None, {}, label_smoothing=0.1)
    with pytest.raises(ConfigError, match="mask token"):
        task.encode([{"text": "a"}], tokenizer_for("smollm2-135m-instruct"))

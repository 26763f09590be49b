"""BERT and RoBERTa checkpoints in DeepSeek-Base: weights exactly, positions fitted, folders that open anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from deepseek.errors import ConfigError, DataError, UnknownNameError
from deepseek.models import convert, convert_model, from_pretrained, tokenizer_for
from deepseek.models.conversion.fitting import FittingConfig
from deepseek.models.conversion.texts import TextPool, default_texts

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = [f"w{n}" for n in range(90)]
SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.2,
    "hidden_dropout_prob": 0.1,
}
NO_FITTING = FittingConfig(layer_steps=0, joint_steps=0, read_tokens=4_000)
SHORT_FITTING = FittingConfig(layer_steps=60, joint_steps=60, step_tokens=256, read_tokens=12_000, learning_rate=1e-2)
ROBERTAS = ("roberta", "xlm-roberta", "camembert")


def texts() -> Iterator[str]:
    """Sentences of made-up words; some words follow others more often."""
    random = torch.Generator().manual_seed(0)
    for _ in range(2_000):
        start, step = torch.randint(0, 90, (2,), generator=random).tolist()
        yield " ".join(WORDS[(start + step % 7 * n) % 90] for n in range(20 + step % 30))


@pytest.fixture
def old(tmp_path: Path) -> Callable[..., tuple[Path, Any]]:
    """A function that writes a tiny checkpoint: (folder, model)."""

    def write(family: str = "bert", head: str = "AutoModelForMaskedLM", zero: bool = False, **options: Any) -> Any:
        import transformers

        # RoBERTa counts positions from behind the padding token: let it be another one than the first
        special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"] if family in ROBERTAS else None
        special = special or ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        folder = tmp_path / f"old-{family}"
        folder.mkdir()
        (folder / "vocab.txt").write_text("\n".join([*special, *WORDS, *(f"##{n}" for n in range(5))]))
        transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
        pad = special.index("[PAD]")
        longest = 64 + (pad + 1 if family in ROBERTAS else 0)
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(
            family, **{"max_position_embeddings": longest, "pad_token_id": pad, **SIZES, **options}
        )
        model = getattr(transformers, head).from_config(config).eval()
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.1)
        if zero:
            torch.nn.init.zeros_(model.base_model.embeddings.position_embeddings.weight)
        else:
            make_local(model.base_model)
        model.save_pretrained(folder)
        return folder, model

    return write


@torch.no_grad()
def make_local(model: Any) -> None:
    """Give eight features to positions, by which every head attends to what is near, as trained models' heads do."""
    embeddings = model.embeddings
    positions = embeddings.position_embeddings.weight
    angle = torch.arange(len(positions))[:, None] * torch.tensor([0.07, 0.2, 0.5, 1.2])
    positions.zero_()
    positions[:, :8] = 0.3 * torch.cat([angle.sin(), angle.cos()], -1)
    positions[:, 8:] = 0.1
    embeddings.word_embeddings.weight[:, :8] = 0
    for layer in model.encoder.layer:
        for part in (layer.attention.self.query, layer.attention.self.key):
            for head in (0, 16):
                part.weight[head : head + 8, :8] = 2 * torch.eye(8)
        layer.attention.self.value.weight[:, :8] = 0


def batch(tokenizer: Any, longest: int = 64) -> dict[str, torch.Tensor]:
    some = [" ".join(WORDS[:n]) for n in (3, 40, 61)]
    encoded = tokenizer(some, padding=True, truncation=True, max_length=longest, return_tensors="pt")
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


@pytest.mark.parametrize("family", ["bert", *ROBERTAS])
def test_without_positions_old_and_new_compute_the_same(old: Any, family: str) -> None:
    folder, model = old(family, zero=True)
    done = convert_model(folder, texts=texts(), fitting=NO_FITTING, block_width=8, attention_mode="dense")
    assert done.report.head == "masked-lm"
    assert done.report.family == family
    inputs = batch(done.tokenizer)
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        expected, found = model(**inputs).logits, done.model(**inputs).logits
        assert (expected[real] - found[real]).abs().max() < 1e-4
        hidden = model.base_model(**inputs).last_hidden_state - done.model.model(**inputs).last_hidden_state
    assert hidden[real].abs().max() < 1e-5
    assert all(c.text_cosine > 0.99999 and c.same_prediction == 1.0 for c in done.report.fitted)


def test_pairs_of_texts_and_untied_outputs_are_the_same(old: Any) -> None:
    folder, model = old(zero=True, tie_word_embeddings=False, hidden_act="relu", layer_norm_eps=1e-3)
    done = convert_model(folder, texts=texts(), fitting=NO_FITTING)
    pair = done.tokenizer("w1 w2 w3", "w4 w5", return_tensors="pt")
    assert pair["token_type_ids"].sum() > 0
    with torch.no_grad():
        assert (model(**pair).logits - done.model(**pair).logits).abs().max() < 1e-4
    weights = done.model.decoder.weight, done.model.model.embeddings.tokens.weight
    assert weights[0].data_ptr() != weights[1].data_ptr()


def test_a_head_for_tokens_is_carried_over(old: Any) -> None:
    folder, model = old(head="AutoModelForTokenClassification", zero=True, id2label={0: "O", 1: "A", 2: "B"})
    done = convert_model(folder, texts=texts(), fitting=NO_FITTING)
    inputs = batch(done.tokenizer)
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        assert (model(**inputs).logits - done.model(**inputs).logits)[real].abs().max() < 1e-5
    assert done.model.config.id2label == {0: "O", 1: "A", 2: "B"}
    assert done.model.config.hidden_dropout == 0.1


def test_a_head_for_texts_is_made_anew_and_said_so(old: Any, tmp_path: Path) -> None:
    folder, _ = old(head="AutoModelForSequenceClassification", id2label={0: "bad", 1: "good", 2: "so"})
    report = convert(folder, tmp_path / "new", texts=texts(), fitting=NO_FITTING)
    assert report.head == "sequence-classification"
    assert report.fresh_modules == ("head", "classifier")
    assert {"classifier", "pooler"} <= set(report.left_out)
    model = from_pretrained(tmp_path / "new", head="sequence-classification")
    assert set(model.fresh_modules) == set(report.fresh_modules)  # type: ignore[arg-type]
    assert model.config.id2label == {0: "bad", 1: "good", 2: "so"}


def test_fitting_brings_outputs_nearer_and_leaves_matrices_alone(old: Any) -> None:
    folder, model = old()
    done = convert_model(folder, texts=texts(), fitting=SHORT_FITTING, block_width=8, rotary_dim=16)
    for before, after in zip(done.report.dropped[1:], done.report.fitted[1:], strict=True):
        assert after.tokens >= 16
        assert 1 - after.text_cosine < 0.6 * (1 - before.text_cosine), after
        assert 1 - after.token_cosine < 0.8 * (1 - before.token_cosine), after
        assert after.divergence < 0.9 * before.divergence  # type: ignore[operator]
    new, base = done.model.model, model.base_model
    for layer, was in zip(new.layers, base.encoder.layer, strict=True):
        rows = layer.attention.query_key_value.weight.view(2, -1, 32)
        for start, part in ((0, "query"), (32, "key"), (64, "value")):
            carried = getattr(was.attention.self, part).weight.view(2, 16, 32)
            assert torch.equal(rows[:, start : start + 16], carried)
        assert torch.equal(layer.attention.output.weight, was.attention.output.dense.weight)
        assert torch.equal(layer.mlp.up_proj.weight, was.intermediate.dense.weight)
        assert torch.equal(layer.mlp.down_proj.weight, was.output.dense.weight)
        assert layer.attention.relative_steps.abs().sum() > 0
    words = slice(5, None)
    assert torch.equal(new.embeddings.tokens.weight[words], base.embeddings.word_embeddings.weight[words])
    assert all(weight.requires_grad and weight.grad is None for weight in done.model.parameters())


def test_biases_stay_where_they_are_if_asked(old: Any) -> None:
    folder, model = old(head="AutoModel")
    plan = FittingConfig(layer_steps=2, joint_steps=2, step_tokens=128, read_tokens=4_000, biases=False)
    done = convert_model(folder, texts=texts(), fitting=plan)
    assert not done.report.moved_biases
    for layer, was in zip(done.model.layers, model.encoder.layer, strict=True):
        assert torch.equal(layer.mlp_norm.bias, was.output.LayerNorm.bias)
        assert torch.equal(layer.attention.output.bias, was.attention.output.dense.bias)


def test_equal_seeds_give_equal_models(old: Any) -> None:
    folder, _ = old()
    plan = FittingConfig(layer_steps=4, joint_steps=4, step_tokens=128, read_tokens=4_000)
    first, again, other = (convert_model(folder, texts=texts(), fitting=plan, seed=s).model for s in (3, 3, 4))
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in first.state_dict().items())
    rows = [m.model.layers[0].attention.query_key_value.weight for m in (first, other)]
    assert not torch.equal(*rows)


def test_the_folder_opens_here_and_in_transformers(old: Any, tmp_path: Path) -> None:
    import transformers

    from deepseek.models import LoRAConfig

    folder, _ = old()
    target = tmp_path / "new"
    plan = FittingConfig(layer_steps=2, joint_steps=2, step_tokens=128, read_tokens=8_000)
    done = convert_model(folder, texts=texts(), fitting=plan, max_position_embeddings=4_096)
    done.save(target)
    kept = json.loads((target / "conversion.json").read_text("utf-8"))
    assert kept == json.loads(done.report.json())
    assert kept["fitted"][-1]["tokens"] == 64
    tokenizer = tokenizer_for(target)
    assert tokenizer.model_max_length == 4_096
    inputs = tokenizer(" ".join(WORDS * 20), return_tensors="pt")
    assert inputs["input_ids"].shape[1] > 1_024  # sparse, far beyond what the old model could read
    with torch.no_grad():
        expected = done.model(**inputs).logits
        for opened in (
            transformers.AutoModelForMaskedLM.from_pretrained(target),
            from_pretrained(target, head="masked-lm"),
        ):
            assert torch.equal(opened.eval()(**inputs).logits, expected)
        hidden = transformers.AutoModel.from_pretrained(target).eval()(**inputs).last_hidden_state
        assert torch.equal(hidden, done.model.model(**inputs).last_hidden_state)
    assert expected.isfinite().all()
    model = from_pretrained(target, head="sequence-classification", num_labels=2)
    assert set(model.fresh_modules) == {"classifier"}  # type: ignore[arg-type]  # the masked-LM head's layer serves
    model.add_adapter("text_class", LoRAConfig(r=2, alpha=4, target_modules=["query_key_value"]))  # type: ignore[call-arg,arg-type]
    model(**inputs, labels=torch.tensor([1])).loss.backward()
    with pytest.raises(ConfigError, match="exists already"):
        done.save(target)
    done.save(target, overwrite=True)


def test_long_texts_are_reported(old: Any) -> None:
    folder, _ = old()
    report = convert_model(folder, texts=texts(), fitting=NO_FITTING, dense_until=64, block_width=8).report
    assert [entry.tokens for entry in report.long] == [128, 512]
    assert all(-1 <= entry.parts_cosine <= 1 for entry in report.long)
    assert report.long[0].dense_cosine > report.long[1].dense_cosine > 0  # the longer, the more is left out


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"is_decoder": True}, "is_decoder"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"model_type": "modernbert"}, "modernbert"),
        ({"model_type": "deepseek-base"}, "from_pretrained"),
        ({"max_position_embeddings": 32}, "64 tokens or more"),
    ],
)
def test_other_architectures_are_refused(old: Any, fields: dict[str, Any], said: str) -> None:
    folder, _ = old()
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | fields))
    with pytest.raises(ConfigError, match=said):
        convert_model(folder, texts=texts(), fitting=NO_FITTING)


def test_what_cannot_be_asked_for_is_said(old: Any, tmp_path: Path) -> None:
    folder, _ = old(head="AutoModel")
    with pytest.raises(ConfigError, match="lacks cls"):
        convert_model(folder, head="masked-lm", texts=texts())
    with pytest.raises(UnknownNameError, match="masked-lm"):
        convert_model(folder, head="masked", texts=texts())
    with pytest.raises(ConfigError, match="hidden_size"):
        convert_model(folder, texts=texts(), hidden_size=64)
    with pytest.raises(ConfigError, match="layer_steps"):
        FittingConfig(layer_steps=-1)
    with pytest.raises(ConfigError, match="learning_rate"):
        FittingConfig(learning_rate=2.0)
    with pytest.raises(DataError, match="64 tokens or more"):
        convert_model(folder, texts=["w1 w2"] * 4)
    with pytest.raises(DataError, match="expected strings, received int at number 1"):
        convert_model(folder, texts=["w1", 3])  # type: ignore[list-item]
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        convert(folder, tmp_path / "there", texts=texts())


def test_robertas_other_activation_is_refused_with_its_head_alone(old: Any) -> None:
    folder, _ = old("roberta", hidden_act="relu")
    with pytest.raises(ConfigError, match="gelu"):
        convert_model(folder, texts=texts(), fitting=NO_FITTING)
    assert convert_model(folder, head="none", texts=texts(), fitting=NO_FITTING).report.head == "none"


def test_windows_are_whole_and_kept_apart(minilm: Path) -> None:
    tokenizer = tokenizer_for(minilm)
    taken = []
    many = (taken.append(n) or f"text number {n} " * 9 for n in range(10_000))  # type: ignore[func-returns-value]
    pool = TextPool(many, tokenizer, tokens=6_000, longest=128)
    assert len(taken) < 400  # no more is read than needed
    windows = pool.windows(pool.fitted, 64, 20, seed=1)
    assert windows.shape == (20, 64)
    assert (windows[:, 0] == tokenizer.cls_token_id).all()
    assert (windows[:, -1] == tokenizer.sep_token_id).all()
    assert (windows[:, 1:-1] > 103).all()  # no special tokens, no padding within
    assert not set(map(tuple, pool.fitted)) & set(map(tuple, pool.held_out))
    long = pool.windows(pool.held_out, 512, 1, seed=0)
    parts = pool.parts(long, 64)
    assert parts.shape == (1, 8, 64)
    assert (parts[..., 0] == tokenizer.cls_token_id).all()
    assert torch.equal(parts[0, 1, 1:-1], long[0, 63 : 63 + 62])


def test_default_texts_are_long_and_many() -> None:
    some = list(islice(default_texts(), 400))
    assert len(set(some)) > 390
    assert sum(len(text.split()) for text in some) / len(some) > 100


def test_the_command_converts_and_prints_how_near(old: Any, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from deepseek.cli.app import app

    folder, _ = old()
    lines = tmp_path / "texts.txt"
    lines.write_text("\n".join(texts()))
    steps = ["--layer-steps", "30", "--joint-steps", "10"]
    arguments = ["hub", "convert", str(folder), str(tmp_path / "new"), "--texts", str(lines), "--json", *steps]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["fitted"][-1]["text_cosine"] > report["dropped"][-1]["text_cosine"]
    assert (tmp_path / "new" / "model.safetensors").is_file()


def test_the_real_minilm_comes_near_in_a_few_steps() -> None:
    plan = FittingConfig(layer_steps=12, joint_steps=8, step_tokens=512, read_tokens=9_000)
    report = convert_model("all-minilm-l6-v2", fitting=plan).report
    assert report.left_out == ("embeddings.position_embeddings", "pooler")
    for before, after in zip(report.dropped, report.fitted, strict=True):
        assert after.text_cosine > before.text_cosine + 0.1, after
        assert after.token_cosine > before.token_cosine + 0.05, after


@pytest.mark.slow
def test_the_real_minilm_stays_close() -> None:
    report = convert_model("all-minilm-l6-v2").report
    assert [c.tokens for c in report.fitted] == [32, 128, 256, 512]
    assert min(c.text_cosine for c in report.fitted) > 0.92
    assert [entry.tokens for entry in report.long] == [1_024, 4_096]

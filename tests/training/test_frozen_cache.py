"""Stored states of frozen layers: training from them is training, on every architecture, and misuse is refused."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepseek.errors import ConfigError, DataError
from deepseek.models import LoRAConfig
from deepseek.models.adapters.mixin import make_adaptable
from deepseek.training.frozen import FrozenCache, cache_bytes, prepare_trunk

TEXT: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
WIDE: dict[str, Any] = {**TEXT, "intermediate_size": 64}
CONFIGS: dict[str, Any] = {
    "bert": lambda: transformers.BertConfig(**WIDE),
    "roberta": lambda: transformers.RobertaConfig(**WIDE, pad_token_id=0),
    "distilbert": lambda: transformers.DistilBertConfig(vocab_size=64, dim=32, n_layers=3, n_heads=4, hidden_dim=64),
    "electra": lambda: transformers.ElectraConfig(**WIDE, embedding_size=16),
    "mpnet": lambda: transformers.MPNetConfig(**WIDE, pad_token_id=0),
    "deberta": lambda: transformers.DebertaV2Config(
        **WIDE, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8, conv_kernel_size=3
    ),
    "modernbert": lambda: transformers.ModernBertConfig(**WIDE, pad_token_id=0, local_attention=4),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=3, n_head=4, pad_token_id=0),
    "llama": lambda: transformers.LlamaConfig(**WIDE, num_key_value_heads=2, pad_token_id=0),
    "qwen2": lambda: transformers.Qwen2Config(**WIDE, num_key_value_heads=2, pad_token_id=0),
    "mistral": lambda: transformers.MistralConfig(**WIDE, num_key_value_heads=2, pad_token_id=0, sliding_window=4),
    "vit": lambda: transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=16, patch_size=8
    ),
}
CAUSAL = ("gpt2", "llama", "qwen2", "mistral")
RIGHT = ("bert", "roberta", "gpt2", "modernbert")  # positions that count padding, or a head that reads the first token


def model_of(kind: str, layers: list[int] | None = None, *, causal: bool = False, seed: int = 0, **lora: Any) -> Any:
    torch.manual_seed(seed)
    auto: Any = transformers.AutoModelForSequenceClassification
    if causal:
        auto = transformers.AutoModelForCausalLM
    elif kind == "vit":
        auto = transformers.AutoModelForImageClassification
    model: Any = make_adaptable(auto.from_config(CONFIGS[kind]()))
    model.fresh_modules = tuple(n for n in ("classifier", "score") if hasattr(model, n))
    for weight in model.parameters():  # a random model's layers barely mix; this one's do
        if weight.ndim == 2:
            weight.data.mul_(4)
    if layers is not None:
        model.add_adapter("a", LoRAConfig(layers=layers, **{"r": 2, **lora}))
        for name, weight in model.named_parameters():
            if ".lora_B" in name:
                weight.data.normal_(std=0.1)
    return model


def text_rows(lengths: Sequence[int], causal: bool = False) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    rows = []
    for row, length in enumerate(lengths):
        ids = random.integers(3, 64, length).tolist()
        rows.append({"input_ids": ids, "labels": list(ids) if causal else int(random.integers(2)), "row": row})
    return rows


def collate_to(side: str) -> Any:
    def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        if "pixel_values" in items[0]:
            batch = {"pixel_values": torch.stack([torch.tensor(i["pixel_values"]) for i in items])}
            return {**batch, "labels": torch.tensor([i["labels"] for i in items])}
        longest = max(len(i["input_ids"]) for i in items)

        def padded(values: Sequence[int], fill: int) -> list[int]:
            fills = [fill] * (longest - len(values))
            return [*fills, *values] if side == "left" else [*values, *fills]

        batch = {
            "input_ids": torch.tensor([padded(i["input_ids"], 0) for i in items]),
            "attention_mask": torch.tensor([padded([1] * len(i["input_ids"]), 0) for i in items]),
        }
        first = items[0]["labels"]
        labels = [padded(i["labels"], -100) if isinstance(first, list) else i["labels"] for i in items]
        return {**batch, "labels": torch.tensor(labels)}

    return collate


def step(model: Any, batch: Mapping[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same_step(model: Any, rows: Sequence[Any], picks: Sequence[int], collate: Any, cache: FrozenCache) -> None:
    items = [rows[i] for i in picks]
    batch = collate(items)
    model.train()
    loss, gradients = step(model, batch)
    with cache.attached(model):
        fed_loss, fed_gradients = step(model, cache.feed({**batch, "row": torch.tensor(list(picks))}))
    assert fed_loss == pytest.approx(loss, rel=1e-4)
    assert gradients.keys() == fed_gradients.keys()
    assert gradients.keys() == {name for name, weight in model.named_parameters() if weight.requires_grad}
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            fed_gradients[name], gradient, rtol=2e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def count_runs(layers: Any) -> list[int]:
    """How often each layer's attention or first child really ran: pass-through calls do not reach it."""
    runs = [0] * len(layers)
    for index, layer in enumerate(layers):
        child = next(iter(layer.children()))

        def ran(*_: Any, index: int = index) -> None:
            runs[index] += 1

        child.register_forward_hook(ran)
    return runs


@pytest.mark.parametrize("kind", [k for k in CONFIGS if k != "vit"])
def test_a_step_from_stored_states_equals_a_whole_step(kind: str, tmp_path: Path) -> None:
    model = model_of(kind, [1, 2])
    prepare_trunk(model, dropout=0.0, precision="float32")
    model.dropout = torch.nn.Identity()  # a head's own dropout is random
    if hasattr(model, "drop"):
        model.drop = torch.nn.Identity()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    rows = text_rows([3, 9, 5, 12, 4, 7])
    collate = collate_to("right")
    cache = FrozenCache.build(model, rows, collate, tmp_path, batch_size=2)
    assert cache.depth == 1
    assert cache.bytes == cache_bytes(40, 32, torch.float32)
    assert_same_step(model, rows, [3, 0, 4], collate, cache)
    assert_same_step(model, rows, [5, 1], collate, cache)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_rows_in_any_batch_on_either_side(data: st.DataObject, tmp_path: Path) -> None:
    kind = data.draw(st.sampled_from(["bert", "modernbert", "llama", "gpt2", "qwen2", "roberta"]))
    causal = kind in CAUSAL and data.draw(st.booleans())
    side = "right" if kind in RIGHT else data.draw(st.sampled_from(["right", "left"]))
    first = data.draw(st.sampled_from([1, 2]))
    lengths = data.draw(st.lists(st.integers(2, 24), min_size=2, max_size=8))
    picks = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=5))
    checkpointing = data.draw(st.sampled_from([None, False, True]))
    model = model_of(kind, list(range(first, 3)), causal=causal)
    prepare_trunk(model, dropout=0.0, precision="float32")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if checkpointing is not None:
        model.gradient_checkpointing_enable({"use_reentrant": checkpointing})
    rows, collate = text_rows(lengths, causal), collate_to(side)
    cache = FrozenCache.build(model, rows, collate, tmp_path, batch_size=3)
    assert cache.depth == first
    assert_same_step(model, rows, picks, collate, cache)


def test_images_have_no_padding(tmp_path: Path) -> None:
    model = model_of("vit", [2])
    prepare_trunk(model, dropout=0.0, precision="float32")
    random = np.random.default_rng(0)
    rows = [
        {"pixel_values": random.normal(size=(3, 16, 16)).astype(np.float32), "labels": i % 2, "row": i}
        for i in range(5)
    ]
    cache = FrozenCache.build(model, rows, collate_to("right"), tmp_path, batch_size=2)
    assert cache.bytes == cache_bytes(5 * 5, 32, torch.float32)  # four patches and the class token
    assert_same_step(model, rows, [4, 1, 2], collate_to("right"), cache)


@pytest.mark.parametrize("kind", ["bert", "deberta", "modernbert", "llama", "gpt2"])
def test_a_head_alone_trains_on_the_last_states(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    head = model.score if hasattr(model, "score") else model.classifier
    model.requires_grad_(False)
    head.requires_grad_(True)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    rows, collate = text_rows([3, 9, 5]), collate_to("right")
    cache = FrozenCache.build(model, rows, collate, tmp_path)
    assert cache.depth == 3
    batch = collate([rows[1], rows[0]])
    loss, gradients = step(model.train(), batch)
    with cache.attached(model):
        fed_loss, fed_gradients = step(model, cache.feed({**batch, "row": torch.tensor([1, 0])}))
    assert fed_loss == pytest.approx(loss, rel=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(fed_gradients[name], gradient, rtol=1e-3, atol=1e-5)


def test_lower_layers_rest_while_fed_and_work_otherwise(tmp_path: Path) -> None:
    model = model_of("bert", [2])
    prepare_trunk(model, dropout=0.0, precision="float32")
    rows, collate = text_rows([3, 9, 5]), collate_to("right")
    cache = FrozenCache.build(model, rows, collate, tmp_path)
    batch = collate(rows)
    expected = model.eval()(**batch).logits
    runs = count_runs(model.bert.encoder.layer)
    words = model.bert.embeddings.word_embeddings
    with cache.attached(model):
        fed = cache.feed({**batch, "row": torch.arange(3)})
        table = words.weight.data.clone()
        words.weight.data.fill_(float("nan"))  # so that looking a word up would show
        assert torch.allclose(model(**fed).logits, expected, atol=1e-5)
        words.weight.data.copy_(table)
        assert runs == [0, 0, 1]
        assert torch.equal(model(**batch).logits, expected)  # scoring inside the block: not fed, so in full
        assert runs == [1, 1, 2]
        twin = copy.deepcopy(model)
    assert torch.equal(model(**batch).logits, expected)
    assert torch.equal(twin(**batch).logits, expected)
    assert not any("forward" in vars(layer) for layer in (*model.bert.encoder.layer, words))


def test_a_narrow_trunk_stores_bfloat16(tmp_path: Path) -> None:
    model = model_of("bert", [2])
    with prepare_trunk(model, dropout=0.0, precision="bfloat16", folder=tmp_path / "exact") as trunk, trunk.autocast():
        rows, collate = text_rows([3, 9, 5]), collate_to("right")
        cache = FrozenCache.build(model, rows, collate, tmp_path / "states")
        assert cache.bytes == cache_bytes(17, 32, torch.bfloat16)
        batch = collate(rows)
        model.eval()
        expected = model(**batch).logits
        with cache.attached(model):
            received = model(**cache.feed({**batch, "row": torch.arange(3)}))
        assert (received.logits - expected).norm() <= 0.03 * expected.norm()


def test_the_same_rows_and_weights_share_a_file_and_others_do_not(tmp_path: Path) -> None:
    def build(model: Any, rows: Any, **options: Any) -> FrozenCache:
        prepare_trunk(model, dropout=0.0, precision="float32")
        return FrozenCache.build(model, rows, collate_to("right"), tmp_path, **options)

    rows = text_rows([3, 9, 5])
    first = build(model_of("bert", [2]), rows)
    assert not first.reused
    other_head = model_of("bert", [2], r=4)
    other_head.classifier.modules_to_save["a"].weight.data.add_(1)
    other_head.bert.pooler.dense.weight.data.add_(1)
    other_head.bert.encoder.layer[2].output.dense.weight.data.add_(1)
    again = build(other_head, [{**r, "labels": 1} for r in rows])
    assert again.reused
    assert again.folder == first.folder
    assert not build(model_of("bert", [1, 2]), rows).reused
    assert not build(model_of("bert", [2]), text_rows([3, 9, 6])).reused
    assert not build(model_of("bert", [2]), rows, dtype=torch.bfloat16).reused
    changed = model_of("bert", [2])
    changed.bert.encoder.layer[0].output.dense.weight.data[0, 0] += 1
    assert not build(changed, rows).reused
    embeddings = model_of("bert", [2])
    embeddings.bert.embeddings.position_embeddings.weight.data[0, 0] += 1
    assert not build(embeddings, rows).reused
    assert len(list(tmp_path.iterdir())) == 6


def test_an_interrupted_build_leaves_nothing_and_runs_again(tmp_path: Path) -> None:
    model = model_of("bert", [2])
    prepare_trunk(model, dropout=0.0, precision="float32")
    collate = collate_to("right")
    rows = text_rows([3, 9, 5, 6, 7, 8, 10, 4])
    calls = 0

    def failing(items: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 8:
            raise KeyboardInterrupt
        return collate(items)

    with pytest.raises(KeyboardInterrupt):
        FrozenCache.build(model, rows, failing, tmp_path, batch_size=1)
    assert list(tmp_path.iterdir()) == []
    assert not FrozenCache.build(model, rows, collate, tmp_path, batch_size=1).reused


def test_dropout_below_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Dropout.p = 0.1.*trunk_dropout: 0"):
        FrozenCache.build(model_of("bert", [2]), text_rows([3, 9]), collate_to("right"), tmp_path)


def test_weights_that_train_below_are_refused(tmp_path: Path) -> None:
    rows, collate = text_rows([3, 9]), collate_to("right")
    with pytest.raises(ConfigError, match="first layer trains already"):
        FrozenCache.build(model_of("bert", [0, 2]), rows, collate, tmp_path)
    model = model_of("bert", [2])
    prepare_trunk(model, dropout=0.0, precision="float32")
    model.bert.embeddings.LayerNorm.weight.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"below them train: bert.embeddings.LayerNorm.weight"):
        FrozenCache.build(model, rows, collate, tmp_path)


def test_positions_that_count_padding_are_refused(tmp_path: Path) -> None:
    model = model_of("gpt2", [2])
    prepare_trunk(model, dropout=0.0, precision="float32")
    with pytest.raises(ConfigError, match="pad on the right"):
        FrozenCache.build(model, text_rows([3, 9]), collate_to("left"), tmp_path)


def test_a_head_that_reads_padding_is_refused(tmp_path: Path) -> None:
    model = model_of("modernbert", [2])  # its classifier reads the first position
    prepare_trunk(model, dropout=0.0, precision="float32")
    with pytest.raises(ConfigError, match="reads the state of padding"):
        FrozenCache.build(model, text_rows([3, 9]), collate_to("left"), tmp_path)


def test_random_masking_is_refused(tmp_path: Path) -> None:
    model = model_of("bert", [2])
    prepare_trunk(model, dropout=0.0, precision="float32")

    def masking(items: Any) -> Any:
        batch = collate_to("right")(items)
        batch["input_ids"][torch.rand(batch["input_ids"].shape) < 0.5] = 1
        return batch

    with pytest.raises(ConfigError, match="random masking"):
        FrozenCache.build(model, text_rows([30, 20]), masking, tmp_path)


def test_layers_that_share_more_than_states_are_refused(tmp_path: Path) -> None:
    config = transformers.T5Config(
        vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    model: Any = make_adaptable(transformers.T5EncoderModel(config))
    model.add_adapter("a", LoRAConfig(r=2, layers=[1]))
    with pytest.raises(ConfigError, match="more than its hidden states"):
        FrozenCache.build(model, text_rows([3, 9]), collate_to("right"), tmp_path)


def test_a_full_disk_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("bert", [2])
    prepare_trunk(model, dropout=0.0, precision="float32")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(ConfigError, match="GB free"):
        FrozenCache.build(model, text_rows([3, 9]), collate_to("right"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_rows_than_the_stored_ones_are_refused(tmp_path: Path) -> None:
    model = model_of("bert", [2])
    prepare_trunk(model, dropout=0.0, precision="float32")
    rows, collate = text_rows([3, 9]), collate_to("right")
    cache = FrozenCache.build(model, rows, collate, tmp_path)
    batch = collate(rows)
    with cache.attached(model):
        with pytest.raises(DataError, match="row 1 has other tokens"):
            cache.feed({**batch, "row": torch.tensor([1, 0])} | {"input_ids": batch["input_ids"].flip(1)})
        with pytest.raises(DataError, match="row 7 has no stored state"):
            cache.feed({**batch, "row": torch.tensor([7, 0])})
        with pytest.raises(DataError, match="'row'"):
            cache.feed(batch)
    deeper = model_of("bert", [1, 2])
    with pytest.raises(ConfigError, match="layer 2"), cache.attached(deeper):
        pass


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    model = model_of("bert", [2])
    prepare_trunk(model, dropout=0.0, precision="float32")
    rows, collate = text_rows([3, 9]), collate_to("right")
    cache = FrozenCache.build(model, rows, collate, tmp_path)
    file = cache.folder / "states.bin"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DataError, match="damaged"):
        FrozenCache.build(model, rows, collate, tmp_path)

"""DeepSeek-Base is a transformers model: it loads, saves, trains, generates, adapts and exports as others do."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from deepseek.errors import ConfigError
from deepseek.models import LoRAConfig, from_pretrained
from deepseek.models.attention.diagnostics import inspect_gate
from deepseek.models.deepseek_base import (
    DeepSeekBaseConfig,
    DeepSeekBaseForCausalLM,
    DeepSeekBaseForMaskedLM,
    DeepSeekBaseForSequenceClassification,
    DeepSeekBaseForTextEncoding,
    DeepSeekBaseForTokenClassification,
)

SMALL = {
    "vocab_size": 200, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "rotary_dim": 8, "block_width": 16, "dense_until": 64, "gate_roots": 4, "gate_branching": 2, "gate_beam": 2,
    "gate_least": 1, "eos_token_id": 199, "num_labels": 3,
}  # fmt: skip
HEADS = {
    "AutoModelForMaskedLM": DeepSeekBaseForMaskedLM,
    "AutoModelForCausalLM": DeepSeekBaseForCausalLM,
    "AutoModelForSequenceClassification": DeepSeekBaseForSequenceClassification,
    "AutoModelForTokenClassification": DeepSeekBaseForTokenClassification,
    "AutoModelForTextEncoding": DeepSeekBaseForTextEncoding,
}


def made(kind=DeepSeekBaseForMaskedLM, **changes):
    """A model whose every weight matters, the gate's too."""
    torch.manual_seed(0)
    model = kind(DeepSeekBaseConfig(**{**SMALL, **changes})).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.normal_(std=0.15)
    return model


def texts(batch=2, tokens=150, padding=40):
    torch.manual_seed(1)
    ids = torch.randint(1, 199, (batch, tokens))
    mask = torch.ones_like(ids)
    if padding:
        mask[-1, -padding:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("auto", HEADS)
def test_round_trip_through_the_auto_classes(auto, tmp_path):
    model = made(HEADS[auto])
    model.save_pretrained(tmp_path)
    again = getattr(transformers, auto).from_pretrained(tmp_path).eval()
    assert type(again) is HEADS[auto]
    for a, b in zip(model(**texts())[0].unbind(), again(**texts())[0].unbind(), strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("kind", "heads", "looks"),
    [
        (DeepSeekBaseForMaskedLM, 10, [[1, -1, 2, -2, 1, 0, 0, 0, 0, 0]] * 2),
        (DeepSeekBaseForMaskedLM, 2, [[1, 0], [-1, 0]]),
        (DeepSeekBaseForCausalLM, 10, [[1, 2, 3, 4, 1, 0, 0, 0, 0, 0]] * 2),
        (DeepSeekBaseForCausalLM, 1, [[1], [1]]),
    ],
)
def test_half_of_the_heads_begin_by_looking_at_neighbours(kind, heads, looks, tmp_path):
    torch.manual_seed(0)
    config = DeepSeekBaseConfig(**{**SMALL, "num_attention_heads": heads, "head_dim": 24}, rotary_start=6.0)
    model = kind(config)
    with torch.no_grad():
        shares = model(torch.zeros(1, 150, dtype=torch.long), output_attentions=True).attentions
    hidden = torch.zeros(1, 150, SMALL["hidden_size"])
    tables = model.model.rotary_tables(0, 150, model.model.embeddings.tokens.weight)
    for layer, distances, share in zip(model.model.layers, looks, shares, strict=True):
        q, k, _ = layer.attention.project(hidden, tables)
        logits = layer.attention.scale * (q @ k.transpose(-1, -2))[0].detach()
        for head, distance in enumerate(distances):
            if distance:
                assert logits[head, 20].argmax() == 20 - distance
                assert logits[head, 20].max().item() == pytest.approx(6.0 if head < 4 else 3.0, abs=1e-4)
                assert share[0, head, 140, :96].sum() < (0.02 if head < 4 else 0.3)  # blocks of 16: these are far
            else:
                assert not logits[head].any()
                assert share[0, head, 140, :96].sum() > 0.3
    ends = [x for name, x in model.named_parameters() if name.endswith(("output.weight", "down_proj.weight"))]
    assert len(ends) == 4
    assert all(abs(x.std() - 0.01) < 1e-3 for x in ends)  # 0.02 / sqrt(2 * 2 layers)
    with torch.no_grad():
        model.model.layers[0].attention.query_key_value.bias.fill_(0.25)
        model.model.layers[0].attention.relative_steps.fill_(0.5)
    model.save_pretrained(tmp_path)
    attention = kind.from_pretrained(tmp_path).model.layers[0].attention
    assert (attention.query_key_value.bias == 0.25).all()
    assert (attention.relative_steps == 0.5).all()


@pytest.mark.parametrize("fields", [{"rotary_start": 0.0}, {"rotary_dim": 0}])
def test_heads_may_begin_by_looking_everywhere(fields):
    for kind in (DeepSeekBaseForMaskedLM, DeepSeekBaseForCausalLM):
        for layer in kind(DeepSeekBaseConfig(**{**SMALL, **fields})).model.layers:
            assert not layer.attention.query_key_value.bias.any()
            assert not layer.attention.relative_steps.any()


def test_a_body_takes_any_head(tmp_path):
    made().save_pretrained(tmp_path)
    for head, width in (("sequence-classification", 5), ("token-classification", 5)):
        model = from_pretrained(tmp_path, head=head, num_labels=width)
        assert model(**texts())[0].shape[-1] == width
        assert "classifier" in model.fresh_modules


@pytest.mark.parametrize("auto", HEADS)
@pytest.mark.parametrize("tokens", [40, 150])
def test_all_weights_learn(auto, tokens):
    model = made(HEADS[auto]).train()
    inputs = texts(tokens=tokens, padding=10)
    labels = {
        "AutoModelForSequenceClassification": torch.tensor([0, 2]),
        "AutoModelForTokenClassification": inputs["input_ids"] % 3,
    }.get(auto, inputs["input_ids"])
    if auto == "AutoModelForTextEncoding":
        model(**inputs).pooler_output[:, 0].sum().backward()
    else:
        model(**inputs, labels=labels).loss.backward()
    for name, weight in model.named_parameters():
        if "sharpness" in name and (tokens == 40 or auto == "AutoModelForTextEncoding"):
            continue  # few blocks have no level above them, and without labels there is no loss of the gate's
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("tokens", [20, 60, 150])
@pytest.mark.parametrize("mode", ["auto", "dense", "sparse"])
@pytest.mark.parametrize("kind", [DeepSeekBaseForMaskedLM, DeepSeekBaseForCausalLM])
def test_padding_behind_a_text_changes_nothing(tokens, mode, kind):
    model = made(kind, attention_mode=mode)
    alone = texts(batch=1, tokens=tokens, padding=0)
    ids = torch.cat([alone["input_ids"], torch.randint(1, 199, (1, 9))], 1)
    mask = torch.cat([alone["attention_mask"], torch.zeros(1, 9, dtype=torch.long)], 1)
    with torch.no_grad():
        want = model(**alone).logits
        have = model(input_ids=ids, attention_mask=mask).logits[:, :tokens]
    torch.testing.assert_close(have, want, atol=1e-4, rtol=1e-3)


def test_sparse_is_dense_where_the_gate_leaves_nothing_out():
    for kind in (DeepSeekBaseForMaskedLM, DeepSeekBaseForCausalLM):
        sparse, dense = (made(kind, attention_mode=mode, gate_rate=9.0) for mode in ("sparse", "dense"))
        real = texts()["attention_mask"].bool()
        with torch.no_grad():
            have, want = (model(**texts()).logits[real] for model in (sparse, dense))
        torch.testing.assert_close(have, want, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("mode", ["auto", "dense", "sparse"])
@pytest.mark.parametrize("cut", [1, 33, 64, 149])
def test_a_causal_model_does_not_see_its_future(mode, cut):
    model = made(DeepSeekBaseForCausalLM, attention_mode=mode)
    ids = texts(batch=1, padding=0)["input_ids"]
    other = ids.clone()
    other[:, cut:] = torch.randint(1, 199, (1, 150 - cut))
    with torch.no_grad():
        assert torch.equal(model(ids).logits[:, :cut], model(other).logits[:, :cut])


@pytest.mark.parametrize("mode", ["dense", "sparse"])
def test_a_cache_gives_what_one_pass_gives(mode):
    model = made(DeepSeekBaseForCausalLM, attention_mode=mode)
    ids = texts(batch=2, padding=0)["input_ids"]
    with torch.no_grad():
        want = model(ids).logits
        for steps in ((150,), (1,) * 40 + (110,), (70, 1, 1, 16, 30, 32), (149, 1)):
            cache, at, have = None, 0, []
            for step in steps:
                out = model(ids[:, at : at + step], past_key_values=cache, use_cache=True)
                cache, at = out.past_key_values, at + step
                have.append(out.logits)
            torch.testing.assert_close(torch.cat(have, 1), want, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("mode", ["dense", "sparse", "auto"])
@pytest.mark.parametrize("kind", [DeepSeekBaseForMaskedLM, DeepSeekBaseForCausalLM])
def test_attentions_are_what_values_are_mixed_by(kind, mode):
    model = made(kind, attention_mode=mode, num_hidden_layers=1)
    layer = model.model.layers[0].attention
    inputs = texts()
    seen = {}
    layer.register_forward_pre_hook(lambda module, given: seen.update(hidden=given[0], inputs=given[1]))
    layer.output.register_forward_pre_hook(lambda module, given: seen.update(mixed=given[0]))
    with torch.no_grad():
        (shares,) = model(**inputs, output_attentions=True).attentions
        assert model(**inputs).attentions is None
        *_, v = layer.project(seen["hidden"], seen["inputs"].tables)
    assert shares.shape == (2, 2, 150, 150)
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, 2, 150))
    torch.testing.assert_close((shares @ v).transpose(1, 2).flatten(2)[real], seen["mixed"][real], atol=1e-5, rtol=1e-4)
    assert bool((shares[0, :, -1] == 0).any()) == (mode != "dense")  # the gate leaves some blocks out


@pytest.mark.parametrize("mode", ["dense", "sparse", "auto"])
def test_attentions_with_a_cache_and_padding_are_those_without(mode):
    model = made(DeepSeekBaseForCausalLM, attention_mode=mode)
    alone, ids, mask = padded_in_front((150, 77))
    with torch.no_grad():
        want = [model(text, output_attentions=True).attentions for text in alone]
        cache, at, have = None, 0, []
        for step in (90, 1, 59):
            reach = at + step
            out = model(
                ids[:, at:reach], attention_mask=mask[:, :reach], past_key_values=cache, use_cache=True,
                output_attentions=True,
            )  # fmt: skip
            cache = out.past_key_values
            have.append([torch.nn.functional.pad(shares, (0, 150 - reach)) for shares in out.attentions])
            at = reach
    for layer in range(2):
        whole = torch.cat([part[layer] for part in have], 2)
        for row, text in enumerate(alone):
            start = 150 - text.shape[1]
            torch.testing.assert_close(whole[row, :, start:, start:], want[row][layer][0], atol=1e-5, rtol=1e-4)
            assert not whole[row, :, :start].any()


@pytest.mark.parametrize("mode", ["dense", "sparse", "auto"])
def test_generation_with_a_cache_writes_what_it_writes_without(mode):
    model = made(DeepSeekBaseForCausalLM, attention_mode=mode)
    ids = texts(batch=2, tokens=60, padding=0)["input_ids"]
    options = {"max_new_tokens": 30, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}
    assert torch.equal(model.generate(ids, **options), model.generate(ids, use_cache=False, **options))
    beams = {**options, "num_beams": 3, "max_new_tokens": 20}
    assert torch.equal(model.generate(ids, **beams), model.generate(ids, use_cache=False, **beams))


def padded_in_front(lengths):
    """Texts of these lengths, alone and in one batch with padding before them."""
    alone = [texts(batch=1, tokens=max(lengths), padding=0)["input_ids"][:, :length] for length in lengths]
    ids, mask = torch.zeros(2, len(lengths), max(lengths), dtype=torch.long).unbind()
    for row, text in enumerate(alone):
        if text.shape[1]:
            ids[row, -text.shape[1] :], mask[row, -text.shape[1] :] = text[0], 1
    return alone, ids, mask


@pytest.mark.parametrize("steps", [(150,), (70, 1, 1, 16, 30, 32), (5, 145)])
@pytest.mark.parametrize("mode", ["dense", "sparse", "auto"])
def test_padding_before_a_text_changes_nothing(mode, steps):
    model = made(DeepSeekBaseForCausalLM, attention_mode=mode)
    alone, ids, mask = padded_in_front((150, 141, 77, 3, 0))
    with torch.no_grad():
        whole = model(ids, attention_mask=mask).logits
        cache, at, have = None, 0, []
        for step in steps:
            reach = at + step
            out = model(ids[:, at:reach], attention_mask=mask[:, :reach], past_key_values=cache, use_cache=True)
            cache, at = out.past_key_values, reach
            have.append(out.logits)
        for row, text in enumerate(alone):
            if text.shape[1]:
                want = model(text).logits[0]
                torch.testing.assert_close(whole[row, -text.shape[1] :], want, atol=1e-4, rtol=1e-3)
                torch.testing.assert_close(torch.cat(have, 1)[row, -text.shape[1] :], want, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("mode", ["dense", "sparse"])
def test_prompts_of_a_batch_are_continued_as_they_are_alone(mode):
    model = made(DeepSeekBaseForCausalLM, attention_mode=mode)
    alone, ids, mask = padded_in_front((90, 55, 8))
    options = {"max_new_tokens": 40, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    scored = {**options, "output_scores": True, "return_dict_in_generate": True}
    scores = torch.stack(model.generate(ids, attention_mask=mask, **scored).scores)
    beams = model.generate(ids, attention_mask=mask, num_beams=2, **options)[:, 90:]
    for row, text in enumerate(alone):
        want = torch.stack(model.generate(text, attention_mask=torch.ones_like(text), **scored).scores)
        torch.testing.assert_close(scores[:, row], want[:, 0], atol=1e-4, rtol=1e-3)
        want = model.generate(text, attention_mask=torch.ones_like(text), num_beams=2, **options)[0, text.shape[1] :]
        assert beams[row].tolist() == want.tolist()


def test_padding_before_texts_in_training_has_their_gradients():
    model = made(DeepSeekBaseForCausalLM, attention_mode="sparse", gate_loss_weight=0.0, hidden_dropout=0.0).train()
    alone, ids, mask = padded_in_front((150, 77))
    grads = []
    for batch in ([(ids, mask)], [(text, torch.ones_like(text)) for text in alone]):
        model.zero_grad()
        for some, real in batch:
            logits = model(some, attention_mask=real).logits
            (logits.square() * real[..., None]).sum().backward()
        # the gate's loss, which is off, alone has anything for sharpness
        grads.append([weight.grad.clone() for name, weight in model.named_parameters() if "sharpness" not in name])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_checkpointing_gradients_gives_the_same_ones():
    grads = []
    for checkpointing in (False, True):
        model = made(hidden_dropout=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**texts(), labels=texts()["input_ids"]).loss.backward()
        grads.append([weight.grad for weight in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("mode", ["dense", "sparse"])
@pytest.mark.parametrize("kind", [DeepSeekBaseForMaskedLM, DeepSeekBaseForCausalLM])
def test_training_under_autocast_is_near_training_without(kind, mode):
    model = made(kind, attention_mode=mode).train()
    inputs, losses = texts(), []
    for enabled in (False, True):
        model.zero_grad()
        torch.manual_seed(0)  # the gate's loss draws tokens
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = model(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
        losses.append(loss.item())
        assert all(weight.grad.isfinite().all() for weight in model.parameters())
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


def test_adapters_go_on_and_off(tmp_path):
    made().save_pretrained(tmp_path / "base")
    model = from_pretrained(tmp_path / "base", head="sequence-classification", num_labels=2)
    before = model(**texts()).logits
    config = LoRAConfig(r=4, alpha=8, target_modules=["query_key_value"])
    model.add_adapter("mine", config)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert sum("lora_A" in name for name in trained) == SMALL["num_hidden_layers"]
    torch.testing.assert_close(model(**texts()).logits, before)  # an adapter begins as nothing
    nn.init.normal_(next(w for n, w in model.named_parameters() if "lora_B" in n))
    changed = model(**texts()).logits
    assert not torch.allclose(changed, before)
    model.save_adapter(tmp_path / "adapter", "mine")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


class Logits(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


LENGTHS = [(1, 3), (2, 16), (3, 17), (2, 90), (4, 200)]


def test_torch_export_for_any_length():
    model = made(DeepSeekBaseForSequenceClassification, attention_mode="dense")
    free = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    inputs = texts(tokens=70)
    program = torch.export.export(Logits(model), tuple(inputs.values()), dynamic_shapes=(free, free), strict=False)
    for batch, tokens in LENGTHS:
        given = texts(batch, tokens, tokens // 3)
        torch.testing.assert_close(program.module()(*given.values()), model(**given).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_onnx_for_any_length(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = made(DeepSeekBaseForSequenceClassification, attention_mode="dense")
    free = {0: "batch", 1: "tokens"}
    torch.onnx.export(
        Logits(model), tuple(texts(tokens=70).values()), tmp_path / "model.onnx",
        input_names=["input_ids", "attention_mask"], dynamic_shapes=(free, free), dynamo=True, verbose=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for batch, tokens in LENGTHS:
        given = texts(batch, tokens, tokens // 3)
        have = torch.from_numpy(session.run(None, {name: x.numpy() for name, x in given.items()})[0])
        torch.testing.assert_close(have, model(**given).logits, atol=1e-4, rtol=1e-3)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_int8_linear_layers_leave_the_positions_alone():
    model = made(DeepSeekBaseForSequenceClassification, attention_mode="sparse")
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    with torch.no_grad():
        want, have = model(**texts()).logits, small(**texts()).logits
    assert torch.nn.functional.cosine_similarity(want, have).min() > 0.99
    kept = dict(small.named_parameters())
    for name, weight in model.named_parameters():
        if name.rpartition(".")[2] in ("relative_steps", "saliency", "sharpness"):
            assert torch.equal(kept[name], weight)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden_size": 50, "num_attention_heads": 3}, "no multiple of num_attention_heads"),
        ({"rotary_dim": 7}, "rotary_dim: expected an even number"),
        ({"rotary_dim": 24}, "content_dim: expected at least 1"),
        ({"norm_placement": "middle"}, "norm_placement: expected one of pre, post"),
        ({"attention_mode": "fast"}, "attention_mode: expected one of"),
        ({"rotary_shortest": 600.0}, "expected 0 < shortest <= longest"),
        ({"rotary_start": -1.0}, "rotary_start: expected 0 or more"),
        ({"block_width": 0}, "width of a block layout: expected 1 or more"),
    ],
)
def test_configurations_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        DeepSeekBaseConfig(**{**SMALL, **wrong})


def test_inputs_that_cannot_be_are_refused():
    model = made()
    ids = texts()["input_ids"]
    with pytest.raises(ConfigError, match="expected one of input_ids and inputs_embeds"):
        model(input_ids=ids, inputs_embeds=torch.zeros(2, 150, 48))
    with pytest.raises(ConfigError, match=r"attention_mask: expected shape \(2, 150\), received \(2, 149\)"):
        model(input_ids=ids, attention_mask=torch.ones(2, 149))
    with pytest.raises(ConfigError, match="bidirectional model has no cache"):
        model.model(ids, past_key_values=transformers.DynamicCache())
    with pytest.raises(ConfigError, match="needs a bidirectional model"):
        DeepSeekBaseForMaskedLM(DeepSeekBaseConfig(**SMALL, causal=True))
    with pytest.raises(ConfigError, match="DynamicCache, received StaticCache"):
        made(DeepSeekBaseForCausalLM)(
            ids, past_key_values=transformers.StaticCache(config=model.config, max_cache_len=200), use_cache=True
        )


@pytest.mark.parametrize("kind", [DeepSeekBaseForMaskedLM, DeepSeekBaseForCausalLM])
def test_the_gate_says_what_it_does(kind):
    wide, narrow = (inspect_gate(made(kind, gate_rate=rate), **texts()) for rate in (9.0, 0.2))
    assert [report.layer for report in wide] == [0, 1]
    for all_blocks, few in zip(wide, narrow, strict=True):
        torch.testing.assert_close(all_blocks.coverage, torch.ones(2))  # nothing is left out
        assert (few.coverage < 1).all()
        assert (few.coverage >= 1 - few.far_share - 1e-6).all()
        for report in (all_blocks, few):
            assert ((report.entropy > 0) & (report.entropy <= 1)).all()
        assert (few.visited <= all_blocks.visited).all()
    with pytest.raises(ConfigError, match="expected texts of at least 49 tokens"):
        inspect_gate(made(kind), texts(tokens=30, padding=0)["input_ids"])
    if kind is DeepSeekBaseForCausalLM:
        _, ids, mask = padded_in_front((150, 77))
        with pytest.raises(ConfigError, match="padding behind the texts"):
            inspect_gate(made(kind), ids, mask)
    with pytest.raises(ConfigError, match="has no gates"):
        inspect_gate(transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)), texts()["input_ids"])


def test_the_gate_learns_where_attention_goes():
    model = made(DeepSeekBaseForCausalLM, gate_loss_queries=64)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.rpartition(".")[2] in ("saliency", "sharpness"))
    ids = texts(padding=0)["input_ids"]
    optimizer = torch.optim.Adam([w for w in model.parameters() if w.requires_grad], lr=0.1)
    losses = []
    for _ in range(60):
        torch.manual_seed(3)
        loss = model.train().model(ids).gate_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]  # what saliency alone can reach with random keys
    assert model.eval().model(ids).gate_loss is None
    short = model.train().model(ids[:, :20])
    assert short.gate_loss is None


def test_a_decoders_gate_learns_from_what_is_scored():
    model = made(DeepSeekBaseForCausalLM, gate_loss_weight=1.0).train()
    ids = texts(padding=0)["input_ids"]
    labels = torch.full_like(ids, -100)
    labels[:, 131] = ids[:, 131]
    before = torch.zeros_like(ids)
    before[:, 130] = 1
    learned = model.model(ids, gate_loss_mask=before).gate_loss
    plain = torch.nn.functional.cross_entropy(model(ids).logits[:, 130], ids[:, 131])
    torch.testing.assert_close(model(ids, labels=labels).loss, plain + learned)  # whatever is drawn is that token
    assert model.eval()(ids, labels=labels).loss == plain
    with pytest.raises(ConfigError, match=r"gate_loss_mask: expected shape \(2, 150\), received \(2, 149\)"):
        model.model(ids, gate_loss_mask=before[:, 1:])

"""The fast paths give what the formula gives: outputs and gradients, whatever is asked of them."""

from __future__ import annotations

import math

import attention_cases as cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.errors import ConfigError
from deepseek.models.attention import dense, scattered
from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.dense import dense_attention
from deepseek.models.attention.gate import choose
from deepseek.models.attention.pooling import pool_blocks
from deepseek.models.attention.positions import Turns, rotary_tables, rotate
from deepseek.models.attention.reference import reference_attention
from deepseek.models.attention.sparse import sparse_attention

KINDS = [(False, "block"), (False, "token"), (True, "token")]


def layout(causal: bool, **changes) -> BlockLayout:
    return BlockLayout(**{"width": 16, "causal": causal, "roots": 8, "branching": 4, "beam": 4, "least": 1, **changes})


def both(case, chosen, weights):
    """Reference and fast path: outputs of real tokens, and gradients of all inputs."""
    return cases.with_gradients((reference_attention, case), (sparse_attention, case), chosen=chosen, weights=weights)


@pytest.mark.parametrize(("causal", "choice"), KINDS)
@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 100, 250])
def test_equals_the_reference(causal, choice, tokens):
    case = cases.case(layout(causal), tokens, padding=tokens // 3)
    weights = torch.randn(2, cases.HEADS, tokens, cases.VALUES)
    for chosen in (case.chosen(choice), None):
        (out, grads), (fast, fast_grads) = both(case, chosen, weights)
        torch.testing.assert_close(fast, out, atol=1e-5, rtol=1e-4)
        for name, grad, fast_grad in zip("qkvsr", grads, fast_grads, strict=True):
            torch.testing.assert_close(fast_grad, grad, atol=1e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("causal", "choice"), KINDS)
def test_without_gradients_the_same(causal, choice):
    case = cases.case(layout(causal), 150, padding=20)
    chosen = case.chosen(choice)
    options = {"scale": cases.SCALE, "chosen": chosen, "key_mask_BT": case.mask}
    with_graph = sparse_attention(*case.differentiable(), case.layout, **options)
    with torch.no_grad():
        without = sparse_attention(*case.differentiable(), case.layout, **options)
        wide = case.v.repeat(1, 1, 1, 2)  # as wide as keys: the fused path
        fused = sparse_attention(case.q, case.k, wide, case.s, case.r, case.layout, **options)
    real = case.mask[:, None, :, None]
    torch.testing.assert_close(without * real, with_graph * real, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fused[..., : cases.VALUES] * real, without * real, atol=1e-5, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    tokens=st.integers(1, 130),
    width=st.sampled_from([4, 8, 16]),
    local=st.integers(0, 2),
    sinks=st.integers(0, 2),
    rate=st.sampled_from([0.3, 1.0, 2.0]),
    padding=st.integers(0, 40),
    seed=st.integers(0, 9),
)
def test_equals_the_reference_whatever_the_layout(kind, tokens, width, local, sinks, rate, padding, seed):
    causal, choice = kind
    made = layout(causal, width=width, local=local, sinks=sinks, rate=rate)
    case = cases.case(made, tokens, padding=min(padding, tokens - 1), seed=seed)
    (out, grads), (fast, fast_grads) = both(case, case.chosen(choice), torch.randn(cases.HEADS, tokens, cases.VALUES))
    torch.testing.assert_close(fast, out, atol=1e-5, rtol=1e-4)
    for grad, fast_grad in zip(grads, fast_grads, strict=True):
        torch.testing.assert_close(fast_grad, grad, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(("causal", "choice"), KINDS)
def test_bfloat16_is_as_near_as_its_digits(causal, choice):
    case = cases.case(layout(causal), 300, padding=40, dtype=torch.bfloat16)
    exact = [x.detach().float().requires_grad_() for x in case.differentiable()]
    chosen, weights = case.chosen(choice), torch.randn(2, cases.HEADS, 300, cases.VALUES)
    options = {"scale": cases.SCALE, "chosen": chosen, "key_mask_BT": case.mask}
    real = case.mask[:, None, :, None]
    want = reference_attention(*exact, case.layout, **options) * real
    have = sparse_attention(*case.differentiable(), case.layout, **options) * real
    assert have.dtype == torch.bfloat16
    assert (have.float() - want).norm() < 0.02 * want.norm()
    grads = torch.autograd.grad((want * weights).sum(), exact)
    fast_grads = torch.autograd.grad((have * weights).sum(), case.differentiable())
    for grad, fast_grad in zip(grads, fast_grads, strict=True):
        assert (fast_grad.float() - grad).norm() < 0.03 * grad.norm()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tokens", [10, 30, 200])
def test_dense_is_all_blocks(causal, tokens, padded):
    case = cases.case(layout(causal), tokens, padding=tokens // 4 if padded else 0)
    mask = case.mask if padded else None
    real = case.mask[:, None, :, None]
    weights = torch.randn_like(case.v) * real
    inputs = case.differentiable()
    want = reference_attention(*inputs, case.layout, scale=cases.SCALE, key_mask_BT=mask)
    term = None if case.layout.neighbourly(case.layout.blocks(tokens)) else case.s
    have = dense_attention(case.q, case.k, case.v, term, case.r, case.layout, scale=cases.SCALE, key_mask_BL=mask)
    torch.testing.assert_close(have * real, want * real, atol=1e-5, rtol=1e-4)
    used = inputs if term is not None else inputs[:3]
    grads = [torch.autograd.grad((out * weights).sum(), used, retain_graph=True) for out in (have, want)]
    for grad, expected in zip(*grads, strict=True):
        torch.testing.assert_close(grad, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("queries", [1, 20])
def test_dense_of_the_last_queries_is_the_end_of_dense(causal, queries):
    case = cases.case(layout(causal), 200)
    q, k, v, s, r = (x.detach() for x in (case.q, case.k, case.v, case.s, case.r))
    whole = dense_attention(q, k, v, s, r, case.layout, scale=cases.SCALE)
    last = dense_attention(q[:, :, -queries:], k, v, s, r, case.layout, scale=cases.SCALE)
    torch.testing.assert_close(last, whole[:, :, -queries:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("at_once", [1, 500, 2**20])
@pytest.mark.parametrize("tokens", [10, 47, 48, 200])
def test_dense_bfloat16_without_gradients_is_as_near_as_its_digits(tokens, at_once, monkeypatch):
    monkeypatch.setattr(dense, "LOGITS", at_once)
    case = cases.case(layout(False), tokens, padding=tokens // 4, dtype=torch.bfloat16)
    exact = [x.detach().float() for x in case.differentiable()]
    want = reference_attention(*exact, case.layout, scale=cases.SCALE, key_mask_BT=case.mask)
    term = None if case.layout.neighbourly(case.layout.blocks(tokens)) else case.s
    for mask in (case.mask, None):
        with torch.no_grad():
            have = dense_attention(
                case.q, case.k, case.v, term, case.r, case.layout, scale=cases.SCALE, key_mask_BL=mask
            )
        assert have.dtype == torch.bfloat16
        real = case.mask[:, None, :, None] if mask is not None else torch.tensor([1, 0]).view(2, 1, 1, 1)
        assert ((have.float() - want) * real).norm() < 0.02 * (want * real).norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("features", "shape"), [(8, (2, 37, 3, 2, 12)), (16, (2, 1200, 12, 2, 64)), (40, (1, 9, 1, 2, 41))]
)
def test_vectors_turned_in_place_are_those_turned_in_a_copy(features, shape, dtype):
    fused = torch.randn(*shape[:3], shape[3] * shape[4] + 7).to(dtype)
    own = slice(0, shape[3] * shape[4])
    tables = rotary_tables(torch.arange(5, 5 + shape[1]), features, shortest=4.0, longest=100.0, dtype=dtype)
    exact = [table.float() for table in tables]
    want = rotate(fused[..., own].float().unflatten(-1, shape[3:]).flatten(2, 3), exact).view(shape)
    turns = Turns(tables)
    with torch.no_grad():
        for turn_ in (turns.turn_, turns.multiply_):
            have = fused.clone()
            turn_(have[..., own].unflatten(-1, shape[3:]))
            assert torch.equal(have[..., own.stop :], fused[..., own.stop :])
            found = have[..., own].unflatten(-1, shape[3:])
            torch.testing.assert_close(found.float(), want, atol=1e-6, rtol=2e-6 if dtype == torch.float32 else 2**-8)
            assert torch.equal(found[..., :-features], fused[..., own].unflatten(-1, shape[3:])[..., :-features])


def test_a_choice_of_blocks_would_show_a_causal_model_its_future():
    case = cases.case(layout(True), 100)
    with pytest.raises(ConfigError, match="a choice for each of 100 tokens, received one for 7 blocks"):
        sparse_attention(
            *case.differentiable(), case.layout, scale=1.0, chosen=torch.zeros(2, cases.HEADS, 7, 2, dtype=torch.long)
        )


@pytest.mark.parametrize(("causal", "choice"), KINDS)
def test_huge_logits_stay_finite(causal, choice):
    case = cases.case(layout(causal), 200)
    loud = cases.Case(**{**vars(case), "q": (1000 * case.q).detach().requires_grad_()})
    out = sparse_attention(*loud.differentiable(), loud.layout, scale=cases.SCALE, chosen=loud.chosen(choice))
    grads = torch.autograd.grad(out.sum(), loud.differentiable())
    assert out.isfinite().all()
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("at_once", [16, 1 << 15])
def test_a_far_block_may_outweigh_all_that_is_near(dtype, at_once, monkeypatch):
    asked = []
    greatest = scattered._greatest
    monkeypatch.setattr(scattered, "_greatest", lambda *given: (asked.append(1), greatest(*given))[1])
    monkeypatch.setattr(scattered, "QUERIES", at_once)
    case = cases.case(layout(True), 200, dtype=dtype)
    with torch.no_grad():
        case.q.copy_(0.2 * case.q)
        case.q[:, :, 150:, :8], case.k[:, :, 20, :8] = 12.0, 12.0  # a logit of some 200 for a token of the second block
    inputs = [x.detach() for x in case.differentiable()]
    chosen = torch.where(torch.arange(200)[:, None] >= 150, 1, -1).expand(2, cases.HEADS, -1, -1)
    options = {"scale": cases.SCALE, "chosen": chosen}
    have = sparse_attention(*inputs, case.layout, **options)
    assert asked
    want = reference_attention(*(x.float() for x in inputs), case.layout, **options)
    assert (have.float() - want).norm() < (1e-4 if dtype == torch.float32 else 0.02) * want.norm()


@pytest.mark.parametrize(("causal", "choice"), KINDS)
def test_views_are_read_as_they_are(causal, choice):
    case = cases.case(layout(causal), 96)
    turned = [x.detach().transpose(1, 2).contiguous().transpose(1, 2) for x in (case.q, case.k, case.v)]
    options = {"scale": cases.SCALE, "chosen": case.chosen(choice)}
    with torch.no_grad():
        want = sparse_attention(*case.differentiable(), case.layout, **options)
        have = sparse_attention(*turned, case.s, case.r, case.layout, **options)
    assert torch.equal(have, want)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tokens", [3, 17, 60, 203])
def test_memory_that_nobody_wrote_is_not_read(causal, tokens, monkeypatch):
    case = cases.case(BlockLayout(causal=causal, width=8, least=1), tokens)
    chosen, plain = case.chosen("token"), torch.empty

    def full_of_nothing(*shape, **options):
        made = plain(*shape, **options)
        return made.fill_(math.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", full_of_nothing)
    out = sparse_attention(
        case.q, case.k, case.v, case.s, case.r, case.layout, scale=cases.SCALE, chosen=chosen, key_mask_BT=case.mask
    )
    out.sum().backward()
    assert out.isfinite().all()
    assert all(each.grad.isfinite().all() for each in case.differentiable())


@pytest.mark.parametrize("kind", KINDS)
def test_queries_that_are_padding_spoil_nothing(kind):
    """All keys of the first tokens of a text that is padded on the left are hidden."""
    causal, choice = kind
    case = cases.case(BlockLayout(causal=causal, width=8, least=1), 203)
    mask = case.mask.clone()
    mask[-1, :70] = False
    leaves = pool_blocks(case.k.detach()[..., : cases.CONTENT], torch.zeros(cases.HEADS, cases.CONTENT), 8, mask)
    content = cases.SCALE * case.q[..., : cases.CONTENT]
    chosen = choose(content, leaves, case.r, case.layout, choice=choice, query_mask_BT=mask)
    options = {"scale": cases.SCALE, "chosen": chosen, "key_mask_BT": mask}
    out = sparse_attention(case.q, case.k, case.v, case.s, case.r, case.layout, **options)
    expected = reference_attention(case.q, case.k, case.v, case.s, case.r, case.layout, **options)
    assert out.isfinite().all()
    real = mask[:, None, :, None].expand_as(out)
    torch.testing.assert_close(out[real], expected[real], atol=1e-5, rtol=1e-5)
    (out * real).sum().backward()
    assert all(each.grad.isfinite().all() for each in case.differentiable())

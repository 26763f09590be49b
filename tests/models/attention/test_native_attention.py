"""Attention and the gate's search in C: what the formula and the search in PyTorch give, by tiles and by lanes."""

from __future__ import annotations

from dataclasses import replace

import attention_cases as cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from deepseek.models.attention import gate, sparse
from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.dense import dense_attention
from deepseek.models.attention.native.attention import SOURCES, has_tiles, native_attention, native_takes
from deepseek.models.attention.native.backward import native_differentiates, native_gradients
from deepseek.models.attention.native.pooling import native_pools
from deepseek.models.attention.native.rotation import native_rotates
from deepseek.models.attention.native.search import native_search, native_searches
from deepseek.models.attention.pooling import Level, occupied, pool_blocks, tree
from deepseek.models.attention.reference import reference_attention
from deepseek.models.attention.sparse import sparse_attention
from deepseek.native.library import Source

MISSING = SOURCES[torch.float32].missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING or "runs here")
TILES = not MISSING and has_tiles()
WAYS = [(torch.float32, False), (torch.bfloat16, False), *([(torch.bfloat16, True)] if TILES else [])]
NEAR = {torch.float32: 1e-5, torch.bfloat16: 0.01}
KINDS = [(False, "block"), (False, "token"), (True, "token")]

DRAWN = {
    "kind": st.sampled_from(KINDS),
    "width": st.sampled_from([32, 64]),
    "local": st.integers(0, 2),
    "sinks": st.integers(0, 2),
    "rate": st.sampled_from([0.3, 1.0, 2.0]),
    "padding": st.integers(0, 100),
    "masked": st.booleans(),
    "way": st.sampled_from(WAYS),
}


def made(tokens, causal, dtype=torch.bfloat16, *, padding=0, seed=0, **changes):
    layout = BlockLayout(**{"width": 32, "causal": causal, "roots": 8, "beam": 4, "least": 1, **changes})
    case = cases.case(layout, tokens, padding=min(padding, tokens - 1), seed=seed, dtype=dtype)
    leaves = Level(case.leaves.keys.to(dtype), case.leaves.mass, 1)
    return replace(case, leaves=leaves, v=torch.cat([case.v, case.v.flip(2)], -1).detach().requires_grad_())


def off(found, wanted):
    return float((found.float() - wanted).norm() / wanted.norm())


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(1, 400), **DRAWN)
def test_attention_is_the_formula(kind, tokens, width, local, sinks, rate, padding, masked, way):
    (causal, choice), (dtype, tiles) = kind, way
    case = made(tokens, causal, dtype, padding=padding, width=width, local=local, sinks=sinks, rate=rate)
    chosen, mask = case.chosen(choice), case.mask if masked else None
    q, k, v, s, r = (x.detach() for x in case.differentiable())
    with torch.no_grad():
        options = {"scale": cases.SCALE}
        out, mass = native_attention(q, k, v, s, r, chosen, mask, case.layout, **options, tiles=tiles)
        wide = [x.float() for x in (q, k, v, s, r)]
        wanted = reference_attention(*wide, case.layout, **options, chosen=chosen, key_mask_BT=mask)
    assert out.dtype == dtype
    assert out.isfinite().all()
    assert mass.isfinite().all()
    real = case.mask[:, None, :, None] if masked else torch.ones(1, dtype=torch.bool)
    torch.testing.assert_close(out.float() * real, wanted * real, atol=3 * NEAR[dtype], rtol=3 * NEAR[dtype])
    assert off(out * real, wanted * real) < NEAR[dtype]


@pytest.mark.parametrize(("dtype", "tiles"), WAYS)
@pytest.mark.parametrize(("causal", "choice"), KINDS)
def test_sums_of_exponentials_are_what_the_backward_pass_divides_by(causal, choice, dtype, tiles):
    case = made(500, causal, dtype, padding=70)
    chosen = case.chosen(choice)
    q, k, v, s, r = (x.detach() for x in case.differentiable())
    out, mass = native_attention(q, k, v, s, r, chosen, case.mask, case.layout, scale=1.0, tiles=tiles)
    wide = tuple(x.float() for x in (q, k, v, s, r))
    theirs, expected = sparse._composed((*wide, chosen, case.mask, case.layout), choice == "token", needs_mass=True)
    real = torch.nn.functional.pad(case.mask, (0, mass.numel() // 6 - 500)).view(2, 1, -1, 32).expand(2, 3, -1, -1)
    torch.testing.assert_close(
        mass.view(real.shape)[real], expected.view(real.shape)[real], atol=2 * NEAR[dtype], rtol=NEAR[dtype]
    )
    assert off(out * case.mask[:, None, :, None], theirs * case.mask[:, None, :, None]) < NEAR[dtype]


def gradients(case, chosen, *, tiles, mask, weights):
    """In C, and by the formula with the same numbers in float32."""
    inputs = tuple(x.detach() for x in case.differentiable())
    given = (*inputs, chosen, mask)
    options = {"scale": 1.3 * cases.SCALE}
    out, mass = native_attention(*given, case.layout, **options, tiles=tiles)
    found = native_gradients(given, out, mass, weights.to(out.dtype), case.layout, **options, tiles=tiles)
    exact = [x.float().requires_grad_() for x in inputs]
    wanted = reference_attention(*exact, case.layout, **options, chosen=chosen, key_mask_BT=mask)
    return found, torch.autograd.grad((wanted * weights).sum(), exact)


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(2, 400), **DRAWN)
def test_gradients_are_those_of_the_formula(kind, tokens, width, local, sinks, rate, padding, masked, way):
    (causal, choice), (dtype, tiles) = kind, way
    case = made(tokens, causal, dtype, padding=padding, width=width, local=local, sinks=sinks, rate=rate)
    weights = torch.randn(case.v.shape, generator=torch.Generator().manual_seed(tokens))
    mask = case.mask if masked else None
    if mask is not None:
        weights *= mask[:, None, :, None]
    found, grads = gradients(case, case.chosen(choice), tiles=tiles, mask=mask, weights=weights)
    of_keys = float(grads[1].norm())
    for name, x, one, other in zip("qkvsr", case.differentiable(), found, grads, strict=True):
        assert one.dtype == x.dtype
        assert one.isfinite().all()
        # s and r get sums of what keys get, in which much may cancel
        size = max(3 * float(other.norm()), of_keys if name in "sr" else 0)
        assert float((one.float() - other).norm()) <= NEAR[dtype] * size + 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, *([torch.bfloat16] if TILES else [])])
@pytest.mark.parametrize(("causal", "choice"), KINDS)
def test_attention_of_a_model_is_differentiated_in_c(causal, choice, dtype):
    case = made(300, causal, dtype, padding=40)
    assert native_differentiates(case.q, case.v, case.layout)
    exact = replace(case, **{name: getattr(case, name).detach().float().requires_grad_() for name in "qkvsr"})
    weights, chosen = torch.randn(case.v.shape), case.chosen(choice)
    (_, grads), (_, found) = cases.with_gradients(
        (reference_attention, exact), (sparse_attention, case), chosen=chosen, weights=weights
    )
    for grad, other in zip(grads, found, strict=True):
        assert off(other, grad) < 3 * NEAR[dtype]


@pytest.mark.parametrize(("dtype", "tiles"), WAYS)
def test_a_chosen_key_may_outweigh_all_near_ones(dtype, tiles):
    case = made(320, True, dtype)
    with torch.no_grad():
        case.k[:, :, 40] = 60 * case.q[:, :, 200]  # far from tokens after 128, and e^300 times as heavy for one
    chosen = case.chosen("token")
    chosen[:, :, 200, 0] = 1
    chosen[:, :, 200, 1:] = -1
    inputs = [x.detach() for x in case.differentiable()]
    out, mass = native_attention(*inputs, chosen, None, case.layout, scale=1.0, tiles=tiles)
    wide = [x.float() for x in inputs]
    wanted = reference_attention(*wide, case.layout, scale=1.0, chosen=chosen)
    assert out.isfinite().all()
    assert off(out, wanted) < NEAR[dtype]
    assert float(mass.max()) > 300
    found, grads = gradients(case, chosen, tiles=tiles, mask=None, weights=torch.randn(case.v.shape))
    assert all(x.isfinite().all() for x in found)
    assert off(found[2], grads[2]) < 3 * NEAR[dtype]


@pytest.mark.parametrize(("dtype", "tiles"), WAYS)
def test_rows_that_lie_apart_are_read_where_they_are(dtype, tiles):
    case = made(200, True, dtype)
    q, k, v, s, r = (x.detach() for x in case.differentiable())
    chosen = case.chosen("token")
    plain = native_attention(q, k, v, s, r, chosen, None, case.layout, scale=1.0, tiles=tiles)[0]
    together = torch.cat([q, k, v], -1).transpose(1, 2).contiguous().transpose(1, 2)  # as one projection gives them
    apart = together.split([cases.KEYS, cases.KEYS, v.shape[-1]], -1)
    out, mass = native_attention(*apart, s, r, chosen, None, case.layout, scale=1.0, tiles=tiles)
    assert torch.equal(out, plain)
    grad = torch.randn(2, 200, cases.HEADS, v.shape[-1]).to(dtype).transpose(1, 2)
    for one, other in zip(
        native_gradients((*apart, s, r, chosen, None), out, mass, grad, case.layout, scale=1.0, tiles=tiles),
        native_gradients(
            (q, k, v, s, r, chosen, None), out, mass, grad.contiguous(), case.layout, scale=1.0, tiles=tiles
        ),
        strict=True,
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("dtype", "tiles"), WAYS)
@pytest.mark.parametrize(("threads", "same"), [(1, True), (3, True), (14, False)])
def test_threads_change_nothing(dtype, tiles, threads, same):
    """Where there are more of them than heads, sums of gradients are added up in another order."""
    case = made(700, True, dtype)
    inputs = tuple(x.detach() for x in case.differentiable())
    given, before = (*inputs, case.chosen("token"), None), torch.get_num_threads()
    found, grad = [], torch.randn(case.v.shape).to(dtype)
    try:
        for number in (2, threads):
            torch.set_num_threads(number)
            out, mass = native_attention(*given, case.layout, scale=1.0, tiles=tiles)
            found.append((out, *native_gradients(given, out, mass, grad, case.layout, scale=1.0, tiles=tiles)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other) if same else off(one, other.float()) < NEAR[dtype]


def searched(case, tiles, mask=None):
    """Choices in C, and those of the search in PyTorch with the same numbers in float32."""
    levels = tree(case.leaves, case.layout)
    levels = [Level(level.keys.to(case.q.dtype), level.mass, level.span) for level in levels]
    content = case.q.detach()[..., : cases.CONTENT]
    options = {"query_mask_BT": mask, "first_block": 0, "scale": cases.SCALE}
    ours = native_search(content, levels, case.r.detach(), case.layout, **options, tiles=tiles)
    wide = [Level(level.keys.float(), level.mass, level.span) for level in levels]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "tree", lambda *_: wide)
        choice = "token" if case.layout.causal else "block"
        theirs = gate.choose(content.float(), wide[0], case.r.detach().float(), case.layout, choice=choice, **options)
    return ours, theirs


@settings(max_examples=40, deadline=None)
@given(
    causal=st.booleans(),
    blocks=st.integers(1, 60),
    local=st.integers(0, 2),
    sinks=st.integers(0, 2),
    rate=st.sampled_from([0.3, 1.0, 2.0]),
    branching=st.integers(2, 5),
    roots=st.sampled_from([2, 8, 30]),
    way=st.sampled_from(WAYS),
)
def test_the_search_finds_what_it_finds_in_pytorch(causal, blocks, local, sinks, rate, branching, roots, way):
    dtype, tiles = way
    fields = {"local": local, "sinks": sinks, "rate": rate, "branching": branching, "roots": roots}
    ours, theirs = searched(made(32 * blocks, causal, dtype, **fields), tiles)
    assert ours.shape == theirs.shape
    assert (ours == theirs).float().mean() > 0.99  # sums in another order, and hardly any two as near as that


@pytest.mark.parametrize(("dtype", "tiles"), WAYS)
@pytest.mark.parametrize("causal", [False, True])
def test_the_search_leaves_padding_out(causal, dtype, tiles):
    case = made(900, causal, dtype, padding=300)
    ours, theirs = searched(case, tiles, case.mask)
    real = case.mask if causal else case.mask[:, ::32]
    same = (ours == theirs)[real[:, None].expand(ours.shape[:3])]
    assert same.float().mean() > 0.99


def test_where_a_compiler_is_at_work_or_numbers_are_others_pytorch_computes(monkeypatch):
    case = made(100, True, torch.float32)
    assert native_takes(case.q, case.v, case.layout)
    assert native_searches(case.q, case.layout, by_token=True)
    assert not native_searches(case.q, case.layout, by_token=False)
    assert native_takes(case.q.bfloat16(), case.v.bfloat16(), case.layout) == TILES
    assert not native_takes(case.q.double(), case.v.double(), case.layout)
    assert not native_takes(case.q, case.v, replace(case.layout, width=16))
    assert not native_rotates(case.q)  # gradients are on
    with torch.no_grad():
        assert native_rotates(case.q)
        assert not native_rotates(case.q.double())
    with FakeTensorMode() as fakes, torch.no_grad():
        fake = fakes.from_tensor(case.q)
        assert not native_takes(fake, fake, case.layout)
        assert not native_rotates(fake)
    assert not native_takes(fake, fake, case.layout)
    with FlopCounterMode(display=False):
        assert not native_takes(case.q, case.v, case.layout)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not native_takes(case.q, case.v, case.layout)
    assert not native_searches(case.q, case.layout, by_token=True)


def test_without_a_compiled_source_pytorch_computes(monkeypatch):
    case = made(200, True, torch.float32)
    options = {"scale": cases.SCALE, "chosen": case.chosen("token"), "key_mask_BT": None}
    inputs = [x.detach() for x in case.differentiable()]
    with_source = sparse_attention(*inputs, case.layout, **options)
    monkeypatch.setattr(Source, "function", lambda *_: None)
    assert not native_takes(case.q, case.v, case.layout)
    assert off(sparse_attention(*inputs, case.layout, **options), with_source) < NEAR[torch.float32]


@pytest.mark.parametrize("dtype", [torch.float32, *([torch.bfloat16] if TILES else [])])
@pytest.mark.parametrize("causal", [False, True])
def test_dense_attention_is_differentiated_in_c(causal, dtype, monkeypatch):
    case = made(300, causal, dtype, padding=40)
    options = {"scale": cases.SCALE, "key_mask_BL": case.mask}
    weights = torch.randn(case.v.shape) * case.mask[:, None, :, None]
    found = []
    for in_c in (True, False):
        if not in_c:
            monkeypatch.setattr(Source, "function", lambda *_: None)
        inputs = [x.detach().to(dtype if in_c else torch.float32).requires_grad_() for x in case.differentiable()]
        out = dense_attention(*inputs, case.layout, **options)
        assert (type(out.grad_fn).__name__ == "_SparseAttentionBackward") == in_c
        found.append((out.detach() * case.mask[:, None, :, None], *torch.autograd.grad((out * weights).sum(), inputs)))
    for one, other in zip(*found, strict=True):
        assert off(one, other) < 3 * NEAR[dtype]


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(1, 300),
    width=st.sampled_from([16, 64]),
    features=st.sampled_from([8, 16, 40]),
    spare=st.integers(0, 2),
    masked=st.booleans(),
    sharp=st.booleans(),
    dtype=st.sampled_from([torch.float32, *([torch.bfloat16] if TILES else [])]),
)
def test_summaries_are_what_pytorch_makes(tokens, width, features, spare, masked, sharp, dtype):
    torch.manual_seed(tokens)
    projected = torch.randn(2, tokens, 3, features + 8).to(dtype)
    keys = projected.transpose(1, 2)[..., :features]
    saliency, sharpness = torch.randn(3, features), 0.3 * torch.randn(3) if sharp else None
    mask = None
    if masked:
        mask = torch.rand(2, tokens) > 0.4
        mask[1, : tokens // 2] = False
    options = {"sharpness_H": sharpness, "spare": spare}
    assert native_pools(keys, saliency, sharpness)
    found = pool_blocks(keys, saliency, width, mask, **options)
    saliency.requires_grad_()
    assert not native_pools(keys, saliency, sharpness)
    wanted = pool_blocks(keys.float(), saliency, width, mask, **options)
    assert found.keys.dtype == dtype
    torch.testing.assert_close(found.keys.float(), wanted.keys, atol=NEAR[dtype], rtol=NEAR[dtype])
    assert torch.equal(occupied(found), occupied(wanted))
    torch.testing.assert_close(found.mass, wanted.mass, atol=1e-4, rtol=1e-5)

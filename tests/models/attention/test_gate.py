"""The gate: what it looks at, what it finds, and that it cannot see the future."""

from __future__ import annotations

import math

import attention_cases as cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.errors import ConfigError
from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.gate import choose
from deepseek.models.attention.pooling import occupied, pool_blocks, tree

WIDE = {"roots": 10_000, "width": 8, "least": 1}


def scores(case):
    """(B, H, T, N) of all tokens and blocks, as the docstring says."""
    layout, tokens = case.layout, case.q.shape[2]
    own = torch.arange(tokens) // layout.width
    node = torch.arange(layout.blocks(tokens))
    content = cases.SCALE * case.q[..., : cases.CONTENT]
    distance = content @ case.r.transpose(-1, -2)
    bucket = layout.bucket(own[:, None] - node).expand(*content.shape[:3], -1)
    return content @ case.leaves.keys.transpose(-1, -2) + distance.gather(-1, bucket)


def eligible(layout, tokens):
    own, node = torch.arange(tokens)[:, None] // layout.width, torch.arange(layout.blocks(tokens))
    return layout.is_far(own - node) & (node >= layout.sinks)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("least", [1, 7])
@pytest.mark.parametrize("tokens", [8, 60, 203])
def test_each_token_gets_its_best_blocks(causal, least, tokens):
    case = cases.case(BlockLayout(causal=causal, **WIDE | {"least": least}), tokens)
    chosen, good = case.chosen("token"), eligible(case.layout, tokens)
    best = scores(case).masked_fill(~good, -math.inf)
    for token in range(tokens):
        known = token // case.layout.width + 1 if causal else case.layout.blocks(tokens)
        number = min(int(good[token].sum()), max(least, math.ceil(math.log2(known)), 1))
        want = best[:, :, token].topk(number, -1).indices.sort(-1).values
        have = chosen[:, :, token].sort(-1).values[..., -number:] if number else chosen[:, :, token, :0]
        assert torch.equal(have, want)
        assert (chosen[:, :, token] >= 0).sum(-1).eq(number).all()


def test_a_query_block_gets_what_one_of_its_tokens_wants_most():
    case = cases.case(BlockLayout(**WIDE), 203, padding=50)
    chosen = case.chosen("block")
    good = eligible(case.layout, 203) & (case.leaves.mass > -1e29)[:, :, None]
    share = scores(case).masked_fill(~good, -1e30).softmax(-1) * case.mask[:, None, :, None] * good
    for block in range(case.layout.blocks(203)):
        wanted = share[:, :, 8 * block : 8 * block + 8].amax(2)
        for text in range(2):
            for head in range(cases.HEADS):
                row = chosen[text, head, block]
                row = row[row >= 0]
                want = wanted[text, head].topk(len(row)).values
                torch.testing.assert_close(wanted[text, head, row].sort().values, want.sort().values)


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from([(False, "block"), (False, "token"), (True, "token")]),
    tokens=st.integers(2, 300),
    roots=st.integers(2, 12),
    branching=st.integers(2, 5),
    beam=st.integers(1, 4),
)
def test_what_is_chosen_is_far_real_and_chosen_once(kind, tokens, roots, branching, beam):
    causal, choice = kind
    layout = BlockLayout(width=4, least=1, causal=causal, roots=roots, branching=branching, beam=beam)
    case = cases.case(layout, tokens, padding=tokens // 3)
    chosen = case.chosen(choice)
    units = tokens if choice == "token" else layout.blocks(tokens)
    assert chosen.shape[2] == units
    own = torch.arange(units) // (layout.width if choice == "token" else 1)
    some = chosen >= 0
    assert (layout.is_far(own[:, None] - chosen) | ~some).all()
    assert ((chosen >= layout.sinks) | ~some).all()
    filled = case.leaves.mass > -1e29
    assert (filled.gather(2, chosen.clamp(min=0).flatten(2)).view_as(some) | ~some).all()
    for unit in range(units):
        for row in chosen[:, :, unit].flatten(0, 1).tolist():
            real = [block for block in row if block >= 0]
            assert len(set(real)) == len(real)


def test_a_wide_beam_finds_what_looking_at_all_finds():
    all_at_once, by_levels = (
        BlockLayout(width=4, least=1, causal=True, beam=500, roots=roots) for roots in (10_000, 4)
    )
    for choice in ("token",):
        found = [cases.case(layout, 600).chosen(choice) for layout in (all_at_once, by_levels)]
        assert torch.equal(found[0].sort(-1).values, found[1].sort(-1).values)
    found = [
        cases.case(BlockLayout(width=4, least=1, beam=500, roots=roots), 600).chosen("block").sort(-1).values
        for roots in (10_000, 4)
    ]
    # a token's probabilities are over the nodes at hand, which differ by level: nearly always the same
    assert (found[0] == found[1]).float().mean() > 0.95


def test_a_salient_token_is_found_through_all_levels():
    layout = BlockLayout(width=4, least=1, roots=4, branching=4, beam=2, causal=True)
    torch.manual_seed(0)
    k = 0.1 * torch.randn(1, 1, 4000, cases.CONTENT)
    needle = torch.zeros(cases.CONTENT)
    needle[0] = 8.0
    k[0, 0, 1234] += needle
    saliency = torch.zeros(1, cases.CONTENT)
    saliency[0, 0] = 3.0
    leaves = pool_blocks(k, saliency, layout.width)
    assert len(tree(leaves, layout)) > 3
    q = torch.randn(1, 1, 4000, cases.CONTENT) * 0.1
    q[0, 0, 3990] = needle
    chosen = choose(q, leaves, torch.zeros(1, layout.buckets, cases.CONTENT), layout, choice="token")
    assert 1234 // 4 in chosen[0, 0, 3990].tolist()


def test_a_token_does_not_choose_by_what_comes_after_it():
    layout = BlockLayout(width=4, least=1, roots=6, branching=3, beam=2, causal=True)
    whole = cases.case(layout, 300)
    for cut in (50, 131, 299):
        k = whole.k.detach().clone()
        k[:, :, cut:] = 9.0
        q = whole.q.detach().clone()
        q[:, :, cut:] = 9.0
        leaves = pool_blocks(k[..., : cases.CONTENT], torch.ones(cases.HEADS, cases.CONTENT), layout.width)
        plain = pool_blocks(
            whole.k.detach()[..., : cases.CONTENT], torch.ones(cases.HEADS, cases.CONTENT), layout.width
        )
        a, b = (
            choose(x[..., : cases.CONTENT], level, whole.r, layout, choice="token")[:, :, :cut]
            for x, level in ((q, leaves), (whole.q, plain))
        )
        assert torch.equal(a, b)


def test_pooling_is_one_softmax_over_all_tokens_below_a_node():
    layout = BlockLayout(width=4, least=1, roots=1, branching=3)
    keys, saliency = torch.randn(1, 2, 70, 5), torch.randn(2, 5)
    mask = torch.rand(1, 70) > 0.2
    top = tree(pool_blocks(keys, saliency, 4, mask), layout)[-1]
    weight = torch.einsum("bhtc,hc->bht", keys, saliency).masked_fill(~mask[:, None], -math.inf).softmax(-1)
    torch.testing.assert_close(top.keys[:, :, 0], torch.einsum("bht,bhtc->bhc", weight, keys))


@pytest.mark.parametrize("sharpness", [-2.0, 0.0, 1.5])
def test_sharpness_weighs_blocks_and_not_the_tokens_of_one(sharpness):
    layout = BlockLayout(width=4, least=1, roots=1, branching=3)
    keys, saliency, sharp = torch.randn(1, 2, 70, 5), torch.randn(2, 5), torch.full((2,), sharpness)
    mask = torch.rand(1, 70) > 0.2
    mask[:, 8:16] = False  # two blocks of padding, which have to weigh nothing at any sharpness
    leaves = pool_blocks(keys, saliency, 4, mask, sharpness_H=sharp)
    plain = pool_blocks(keys, saliency, 4, mask)
    torch.testing.assert_close(leaves.keys, plain.keys)
    assert torch.equal(occupied(leaves), occupied(plain))
    weight = (plain.mass * math.exp(sharpness)).masked_fill(~occupied(plain), -math.inf).softmax(-1)
    top = tree(leaves, layout)[-1]
    torch.testing.assert_close(top.keys[:, :, 0], torch.einsum("bhn,bhnc->bhc", weight, plain.keys))


def test_chunks_change_nothing(monkeypatch):
    layout = BlockLayout(width=8, least=1, roots=16, branching=2)
    case = cases.case(layout, 700)
    whole = case.chosen("block"), case.chosen("token")
    monkeypatch.setattr("deepseek.models.attention.gate.CHUNK", 1)
    assert torch.equal(case.chosen("block"), whole[0])
    assert torch.equal(case.chosen("token"), whole[1])


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"local": -1}, {"rate": 0.0}, {"least": 0}, {"branching": 1}, {"beam": 0}, {"roots": 0}]
)
def test_layouts_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        BlockLayout(**wrong)


def test_where_all_before_is_padding_nothing_is_chosen():
    layout = BlockLayout(width=4, least=1, roots=2, branching=2, beam=2, causal=True)
    q = torch.randn(1, 1, 100, cases.CONTENT)
    mask = torch.zeros(1, 100, dtype=torch.bool)
    mask[:, -4:] = True
    leaves = pool_blocks(q, torch.zeros(1, cases.CONTENT), layout.width, mask)
    chosen = choose(q, leaves, torch.zeros(1, layout.buckets, cases.CONTENT), layout, choice="token")
    assert chosen.eq(-1).all()


@pytest.mark.parametrize("causal", [False, True])
def test_tokens_choose_alike_some_at_a_time(causal, monkeypatch):
    from deepseek.models.attention import gate

    case = cases.case(BlockLayout(causal=causal, width=8, least=1, roots=4, beam=4), 500)
    whole = case.chosen("token")
    monkeypatch.setattr(gate, "TOKENS", 48)
    parts = case.chosen("token")
    assert torch.equal(parts.sort(-1).values, whole.sort(-1).values)

"""What the gate's loss compares, and that a gate which learned on short texts finds its way in long ones."""

from __future__ import annotations

import math
from dataclasses import replace

import attention_cases as cases
import pytest
import torch

from deepseek.models.attention.alignment import gate_alignment_loss
from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.gate import choose
from deepseek.models.attention.pooling import Level, above, pool_blocks

pytestmark = pytest.mark.usefixtures("one_thread")


def expected(case, positions, causal):
    """The loss, query by query and node by node; positions of each text."""
    layout, tokens = case.layout, case.q.shape[2]
    blocks = layout.blocks(tokens)
    levels = [case.leaves]
    while levels[-1].mass.shape[-1] > 2:
        levels.append(above(levels[-1], layout.branching))
    total = 0.0
    for text, head in [(b, h) for b in range(case.q.shape[0]) for h in range(cases.HEADS)]:
        weights, losses = [], []
        for i in positions[text]:
            own, q = i // layout.width, cases.SCALE * case.q[text, head, i]
            c = q[: cases.CONTENT]

            def distance(delta, head=head):
                return case.r[head, int(layout.bucket(torch.tensor(delta)))]

            logits = []
            for j in range(tokens):
                block = j // layout.width
                logit = q @ case.k[text, head, j]
                if bool(layout.is_far(torch.tensor(own - block))):
                    logit = logit + c @ (case.s[text, head, block] + distance(own - block))
                hidden = not case.mask[text, j] or (causal and j > i)
                logits.append(-math.inf if hidden else float(logit))
            share = torch.tensor(logits).softmax(0)
            mass = [float(share[layout.width * n : layout.width * (n + 1)].sum()) for n in range(blocks)]
            alive = case.leaves.mass[text, head] > -1e29
            node = torch.arange(blocks)
            good = (layout.is_choosable(torch.tensor(own), node) & alive).tolist()
            far = [m if g else 0.0 for m, g in zip(mass, good, strict=True)]
            whole = sum(far)
            target = [m / max(whole, 1e-9) for m in far]
            even = 1 / max(sum(good), 1)
            index = (sum(share**2 for share in target) - even) / max(1 - even, 1e-3)
            weights.append(whole * max(0.0, index) * bool(case.mask[text, i]))
            loss = []
            for level in levels:
                nodes, span = range(level.mass.shape[-1]), level.span
                fine = [
                    any(good[span * n : span * (n + 1)]) and (not causal or (n + 1) * span <= own - layout.local)
                    for n in nodes
                ]
                want = torch.tensor([sum(target[span * n : span * (n + 1)]) * fine[n] for n in nodes])
                score = torch.tensor(
                    [
                        float(c @ (level.keys[text, head, n] + distance(own - (n * span + (span - 1) // 2))))
                        for n in nodes
                    ]
                )
                guess = score.masked_fill(~torch.tensor(fine), -1e30).log_softmax(0)
                if want.sum() > 0:
                    part = want / want.sum()
                    known = part > 0
                    loss.append(float((part * (part.clamp(min=1e-9).log() - guess))[known].sum() * want.sum()))
                else:
                    loss.append(0.0)
            losses.append(sum(loss) / len(levels))
        total += sum(w * x for w, x in zip(weights, losses, strict=True)) / max(sum(weights), 1e-6)
    return total / (case.q.shape[0] * cases.HEADS)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padding", [0, 30])
def test_every_level_is_compared_with_dense_attention(causal, padding):
    layout = BlockLayout(causal=causal, width=8, branching=3)
    case = cases.case(layout, 150, padding=padding)
    options = {"scale": cases.SCALE, "queries": 5, "key_mask_BT": case.mask}
    torch.manual_seed(1)
    loss = gate_alignment_loss(case.q, case.k, case.s, case.leaves, case.r, layout, **options)
    torch.manual_seed(1)
    first = (layout.local + layout.sinks + 1) * layout.width if causal else 0
    positions = torch.randint(first, 150, (5,)).tolist()
    assert loss is not None
    with torch.no_grad():
        assert loss.item() == pytest.approx(expected(case, 2 * [positions], causal), rel=1e-4)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_only_scored_tokens_are_drawn_of_each_text_its_own(causal, masked):
    layout = BlockLayout(causal=causal, width=8, branching=3)
    case = cases.case(layout, 150, padding=30)
    scored = torch.zeros(2, 150, dtype=torch.bool)
    scored[0, 140] = scored[1, 100] = scored[1, 3] = True
    if not causal:
        scored[1, 3] = False  # of a decoder it has no block to choose, and is never drawn
    options = {"scale": cases.SCALE, "queries": 4, "key_mask_BT": case.mask if masked else None}
    given = replace(case, mask=case.mask if masked else torch.ones_like(case.mask))
    with torch.no_grad():
        loss = gate_alignment_loss(case.q, case.k, case.s, case.leaves, case.r, layout, **options, scored_BT=scored)
        assert loss.item() == pytest.approx(expected(given, [4 * [140], 4 * [100]], causal), rel=1e-4)
        scored[0] = False  # a text of which nothing is scored teaches nothing
        loss = gate_alignment_loss(case.q, case.k, case.s, case.leaves, case.r, layout, **options, scored_BT=scored)
        assert loss.item() == pytest.approx(expected(given, [[], 4 * [100]], causal), rel=1e-4)


WIDTH, CONTENT = 8, 16
LAYOUT = BlockLayout(width=WIDTH, least=1, roots=4, beam=4, causal=True)


def text_with_a_needle(tokens, draw):
    """Keys of noise; one has what the last query wants, and a mark by which it can be told to be worth finding."""
    k = torch.randn(1, 1, tokens, CONTENT, generator=draw)
    k[..., 0] = 0
    q = 0.1 * torch.randn(1, 1, tokens, CONTENT, generator=draw)  # most want nothing in particular
    place = int(torch.randint(2 * WIDTH, tokens - 3 * WIDTH, (1,), generator=draw))
    wanted = torch.randn(CONTENT, generator=draw)
    k[0, 0, place] = wanted
    k[0, 0, place, 0] = 4
    q[0, 0, -WIDTH:] = 2 * wanted
    q[..., 0] = 0
    return q, k, place // WIDTH


def found(saliency, sharpness, tokens, texts=60):
    """The share of texts in which the search of the last query finds the needle's block."""
    draw = torch.Generator().manual_seed(1)
    rows = torch.zeros(1, LAYOUT.buckets, CONTENT)
    hits = 0
    for _ in range(texts):
        q, k, block = text_with_a_needle(tokens, draw)
        leaves = pool_blocks(k, saliency, WIDTH, sharpness_H=sharpness)
        chosen = choose(q, leaves, rows, LAYOUT, choice="token")
        hits += block in chosen[0, 0, -1].tolist()
    return hits / texts


def learned(texts=300):
    """Saliency and sharpness after so many short texts."""
    weights = torch.zeros(1, CONTENT, requires_grad=True), torch.zeros(1, requires_grad=True)
    rows = torch.zeros(1, LAYOUT.buckets, CONTENT)
    optimizer = torch.optim.Adam([{"params": weights[:1], "lr": 0.1}, {"params": weights[1:], "lr": 0.02}])
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for _ in range(texts):
        q, k, _ = text_with_a_needle(256, draw)
        leaves = pool_blocks(k, weights[0], WIDTH, sharpness_H=weights[1])
        nothing = torch.zeros_like(leaves.keys)
        scored = Level(leaves.keys, leaves.mass, 1)
        loss = gate_alignment_loss(q, k, nothing, scored, rows, LAYOUT, scale=1.0, queries=64)
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weights[0].detach(), weights[1].detach()


def test_what_was_learned_on_short_texts_holds_in_long_ones():
    nothing = torch.zeros(1, CONTENT), torch.zeros(1)
    assert found(*nothing, 4_096) < 0.7
    assert found(*learned(), 4_096) > 0.95


def test_queries_that_look_everywhere_do_not_drown_those_that_look_at_one_block():
    layout = BlockLayout(width=WIDTH)
    q, k, _ = text_with_a_needle(256, torch.Generator().manual_seed(2))
    rows = torch.zeros(1, 2 * layout.buckets, CONTENT)
    leaves = pool_blocks(k, torch.zeros(1, CONTENT), WIDTH)
    few = q.clone()
    few[0, 0, :-WIDTH] = 0  # look at all alike
    losses = []
    for asked in (few, q[..., -WIDTH:, :].repeat(1, 1, 256 // WIDTH, 1)):
        torch.manual_seed(0)
        loss = gate_alignment_loss(
            asked, k, torch.zeros_like(leaves.keys), leaves, rows, layout, scale=1.0, queries=4_096
        )
        assert loss is not None
        losses.append(float(loss))
    assert losses[0] == pytest.approx(losses[1], rel=0.2)  # of queries that weigh alike it would be a thirtieth

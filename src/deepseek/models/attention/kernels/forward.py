"""The forward kernels of gated block attention; importing this imports Triton.

:func:`forward_kernel` is for query blocks: one program takes some queries of a block of one head through the key blocks
of its slots, with the running softmax of FlashAttention (arXiv:2205.14135). The terms of 16 slots are one small matrix
product before their keys are looked at, so that a far block costs as much as a near one.

:func:`picks_kernel` is for tokens that choose by themselves: tiles of queries that picked one key block (the order of
MoBA's kernels, arXiv:2502.13189), each pair's output and mass into a buffer, which :func:`forward_kernel` then puts
together with the neighbourhood in its running softmax.
"""

# ruff: noqa: ANN001 - Triton's kernels are compiled: parameters have no types, constants are large
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from deepseek.models.attention.kernels.tiles import (
    COUNTS,
    LOW,
    LOWEST,
    SLOTS,
    features_of,
    hidden_keys,
    keep_rows,
    products,
    rows_of,
    terms_of,
)


@triton.jit(do_not_specialize=COUNTS)
def forward_kernel(
    q, k, v, pooled, distances, mask, slots, counts, bucket_of, picks, pick_out, pick_mass, out, mass, slope,
    q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    first_group, heads, tokens, blocks, slots_each, distances_each, picks_each,
    WIDTH: tl.constexpr, FEATURES: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr, CONTENT: tl.constexpr,
    VALUES: tl.constexpr, PADDED: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
    CAUSAL: tl.constexpr, BOUND: tl.constexpr, MASKED: tl.constexpr, PICKS: tl.constexpr,
) -> None:  # fmt: skip
    """Queries of one block to ``out`` [B, T, H, D], and log2 of their sums to ``mass`` [G, T].

    ``picks`` [G', T, k], ``pick_out`` [G', T, k, D] and ``pick_mass`` [G', T, k] begin at ``first_group``.
    """
    parts = blocks * (WIDTH // QUERIES)
    local = tl.program_id(0) // parts
    part = tl.program_id(0) % parts
    own = part // (WIDTH // QUERIES)
    group = (first_group + local).to(tl.int64)
    batch = group // heads
    head = group % heads
    within = tl.arange(0, QUERIES)
    inside = tl.arange(0, KEYS)
    each = tl.arange(0, SLOTS)
    row = part * QUERIES + within
    there = row < tokens
    q_base = q + batch * q_batch + head * q_head + (part * QUERIES).to(tl.int64) * q_token
    k_base = k + batch * k_batch + head * k_head
    v_base = v + batch * v_batch + head * v_head
    pooled_base = pooled + group * blocks * CONTENT
    distances_base = distances + head * distances_each * CONTENT
    line = group * blocks + own
    slots_base = slots + line * slots_each
    count = tl.load(counts + line)
    q0, q1 = features_of(q_base, within, q_token, there, FIRST, REST, FEATURES, BOUND)

    most = tl.full([QUERIES], LOWEST, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    summed = tl.zeros([QUERIES, PADDED], tl.float32)
    for base in range(0, count, SLOTS):
        slot = tl.load(slots_base + base + each, mask=base + each < count, other=own)
        bucket = tl.load(bucket_of + (own - slot + blocks - 1))
        terms = tl.dot(
            q0, tl.trans(terms_of(pooled_base, distances_base, slot, bucket, 0, FIRST, CONTENT).to(q0.dtype)),
            input_precision="ieee",
        )  # fmt: skip
        if CONTENT > FIRST:
            rest = terms_of(pooled_base, distances_base, slot, bucket, FIRST, REST, CONTENT)
            terms = tl.dot(q1, tl.trans(rest.to(q1.dtype)), terms, input_precision="ieee")
        for i in range(base * (WIDTH // KEYS), tl.minimum(base + SLOTS, count) * (WIDTH // KEYS)):
            at = i // (WIDTH // KEYS)
            start = tl.load(slots_base + at) * WIDTH + i % (WIDTH // KEYS) * KEYS
            key = start + inside
            k_at = k_base + start.to(tl.int64) * k_token
            v_at = v_base + start.to(tl.int64) * v_token
            k0, k1 = features_of(k_at, inside, k_token, key < tokens, FIRST, REST, FEATURES, BOUND)
            values = rows_of(v_at, inside, v_token, key < tokens, 0, PADDED, VALUES, BOUND)
            logits = products(q0, q1, k0, k1, REST)
            if MASKED:
                logits = tl.where(hidden_keys(mask + batch * tokens, key, tokens)[None, :], LOW, logits)
            if CAUSAL:
                logits = tl.where(key[None, :] > row[:, None], float("-inf"), logits)
            elif BOUND:
                logits = tl.where((key < tokens)[None, :], logits, float("-inf"))
            term = tl.sum(tl.where(each[None, :] == at - base, terms, 0.0), 1) * slope
            higher = tl.maximum(most, tl.max(logits, 1) * slope + term)
            shares = tl.exp2(logits * slope + (term - higher)[:, None])
            kept = tl.exp2(most - higher)
            total = total * kept + tl.sum(shares, 1)
            summed = tl.dot(shares.to(values.dtype), values, summed * kept[:, None], input_precision="ieee")
            most = higher

    if PICKS:
        pair = (local.to(tl.int64) * tokens + row) * picks_each
        for pick in range(picks_each):
            block = tl.load(picks + pair + pick, mask=there, other=-1)
            chosen = block >= 0
            weight = tl.load(pick_mass + pair + pick, mask=chosen, other=float("-inf"))
            part_out = rows_of(pick_out, pair + pick, VALUES, chosen, 0, PADDED, VALUES, True)
            higher = tl.maximum(most, weight)
            shares = tl.exp2(weight - higher)
            kept = tl.exp2(most - higher)
            total = total * kept + shares
            summed = summed * kept[:, None] + part_out.to(tl.float32) * shares[:, None]
            most = higher

    out_base = out + (batch * tokens * heads + head) * VALUES + (part * QUERIES).to(tl.int64) * heads * VALUES
    keep_rows(out_base, within, heads * VALUES, there, summed / total[:, None], 0, PADDED, VALUES)
    tl.store(mass + group * tokens + row, most + tl.log2(total), mask=there)


@triton.jit(do_not_specialize=COUNTS)
def picks_kernel(
    q, k, v, pooled, distances, mask, bucket_of, order, starts, owner, first, pick_out, pick_mass, slope,
    q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    first_group, lines, heads, tokens, blocks, distances_each, picks_each,
    WIDTH: tl.constexpr, FEATURES: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr, CONTENT: tl.constexpr,
    VALUES: tl.constexpr, PADDED: tl.constexpr, QUERIES: tl.constexpr, LONGEST: tl.constexpr,
    BOUND: tl.constexpr, MASKED: tl.constexpr,
) -> None:  # fmt: skip
    """Up to ``LONGEST`` tiles of queries that picked one block, to their pairs' places in the buffers.

    ``order`` [G', T k] are pairs by block, of which block J's begin at ``starts`` [G', N + 1]; a program's block is
    ``owner``, and the first program of a block is ``first`` [G', N].
    """
    line = tl.load(owner + tl.program_id(0))
    if line >= lines:
        return
    local = line // blocks
    block = line % blocks
    group = (first_group + local).to(tl.int64)
    batch = group // heads
    head = group % heads
    begin = tl.load(starts + local * (blocks + 1) + block)
    end = tl.load(starts + local * (blocks + 1) + block + 1)
    begin += (tl.program_id(0) - tl.load(first + line)) * (LONGEST * QUERIES)
    end = tl.minimum(end, begin + LONGEST * QUERIES)

    inside = tl.arange(0, WIDTH)
    key = block * WIDTH + inside
    k_at = k + batch * k_batch + head * k_head + (block * WIDTH).to(tl.int64) * k_token
    v_at = v + batch * v_batch + head * v_head + (block * WIDTH).to(tl.int64) * v_token
    k0, k1 = features_of(k_at, inside, k_token, key < tokens, FIRST, REST, FEATURES, BOUND)
    values = rows_of(v_at, inside, v_token, key < tokens, 0, PADDED, VALUES, BOUND)
    q_base = q + batch * q_batch + head * q_head
    pooled_base = pooled + (group * blocks + block) * CONTENT
    distances_base = distances + head * distances_each * CONTENT
    buffered = local.to(tl.int64) * tokens * picks_each
    within = tl.arange(0, QUERIES)
    for at in range(begin, end, QUERIES):
        there = at + within < end
        pair = tl.load(order + buffered + at + within, mask=there, other=0)
        row = pair // picks_each
        bucket = tl.load(bucket_of + (row // WIDTH - block + blocks - 1))
        q0, q1 = features_of(q_base, row.to(tl.int64), q_token, there, FIRST, REST, FEATURES, True)
        logits = products(q0, q1, k0, k1, REST)
        if MASKED:
            logits = tl.where(hidden_keys(mask + batch * tokens, key, tokens)[None, :], LOW, logits)
        if BOUND:
            logits = tl.where((key < tokens)[None, :], logits, float("-inf"))
        first_terms = terms_of(pooled_base, distances_base, within * 0, bucket, 0, FIRST, CONTENT).to(q0.dtype)
        term = tl.sum(q0.to(tl.float32) * first_terms.to(tl.float32), 1)
        if CONTENT > FIRST:
            rest_terms = terms_of(pooled_base, distances_base, within * 0, bucket, FIRST, REST, CONTENT).to(q0.dtype)
            term += tl.sum(q1.to(tl.float32) * rest_terms.to(tl.float32), 1)
        term *= slope
        most = tl.max(logits, 1) * slope + term
        shares = tl.exp2(logits * slope + (term - most)[:, None])
        total = tl.sum(shares, 1)
        answer = tl.dot(shares.to(values.dtype), values, input_precision="ieee") / total[:, None]
        place = buffered + pair
        keep_rows(pick_out, place, VALUES, there, answer, 0, PADDED, VALUES)
        tl.store(pick_mass + place, most + tl.log2(total), mask=there)

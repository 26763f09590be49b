"""The kernels of the queries' gradients; importing this imports Triton.

:func:`query_gradients_kernel` takes some queries of a block through its slots once more, as the forward kernel does, so
that no two programs add to one gradient. The sum of a query's logits' gradients over a block's keys is the gradient of
the block's term; these sums are collected by slot, and by distance, for the relative-position matrix.
"""

# ruff: noqa: ANN001 - Triton's kernels are compiled: parameters have no types, constants are large
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from deepseek.models.attention.kernels.tiles import (
    COUNTS,
    SLOTS,
    features_of,
    hidden_keys,
    keep_rows,
    products,
    rows_of,
    terms_of,
)


@triton.jit(do_not_specialize=COUNTS)
def delta_kernel(
    out, grad, delta, grad_batch, grad_head, grad_token, heads, tokens,
    VALUES: tl.constexpr, PADDED: tl.constexpr, QUERIES: tl.constexpr,
) -> None:  # fmt: skip
    """The sum over features of output [B, T, H, D] and its gradient, to ``delta`` [G, T]."""
    parts = tl.cdiv(tokens, QUERIES)
    group = (tl.program_id(0) // parts).to(tl.int64)
    start = tl.program_id(0) % parts * QUERIES
    batch = group // heads
    head = group % heads
    within = tl.arange(0, QUERIES)
    there = start + within < tokens
    out_base = out + (batch * tokens * heads + head) * VALUES + start.to(tl.int64) * heads * VALUES
    grad_base = grad + batch * grad_batch + head * grad_head + start.to(tl.int64) * grad_token
    answers = rows_of(out_base, within, heads * VALUES, there, 0, PADDED, VALUES, True).to(tl.float32)
    gradients = rows_of(grad_base, within, grad_token, there, 0, PADDED, VALUES, True).to(tl.float32)
    tl.store(delta + group * tokens + start + within, tl.sum(answers * gradients, 1), mask=there)


@triton.jit(do_not_specialize=COUNTS)
def query_gradients_kernel(
    q, k, v, pooled, distances, mask, slots, counts, bucket_of, picks, pick_grad, pick_sum,
    grad, mass, delta, grad_q, by_distance, slope, scale,
    q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token, grad_batch, grad_head, grad_token,
    first_group, heads, tokens, blocks, slots_each, distances_each, picks_each,
    WIDTH: tl.constexpr, FEATURES: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr, CONTENT: tl.constexpr,
    VALUES: tl.constexpr, PADDED: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, DISTANCES: tl.constexpr,
    CAUSAL: tl.constexpr, BOUND: tl.constexpr, MASKED: tl.constexpr, PICKS: tl.constexpr,
) -> None:  # fmt: skip
    """Gradients of one block's queries to ``grad_q`` [B, T, H, E], and of their terms to ``by_distance`` [G, T, R].

    ``picks`` [G', T, k], ``pick_grad`` [G', T, k, E] and ``pick_sum`` [G', T, k] begin at ``first_group``.
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
    distance = tl.arange(0, DISTANCES)
    row = part * QUERIES + within
    there = row < tokens
    begin = (part * QUERIES).to(tl.int64)
    k_base = k + batch * k_batch + head * k_head
    v_base = v + batch * v_batch + head * v_head
    pooled_base = pooled + group * blocks * CONTENT
    distances_base = distances + head * distances_each * CONTENT
    line = group * blocks + own
    slots_base = slots + line * slots_each
    count = tl.load(counts + line)
    q_base = q + batch * q_batch + head * q_head + begin * q_token
    q0, q1 = features_of(q_base, within, q_token, there, FIRST, REST, FEATURES, BOUND)
    grad_base = grad + batch * grad_batch + head * grad_head + begin * grad_token
    gradients = rows_of(grad_base, within, grad_token, there, 0, PADDED, VALUES, BOUND)
    # a query past the end has no share in anything
    queries_mass = tl.load(mass + group * tokens + row, mask=there, other=float("inf"))
    queries_delta = tl.load(delta + group * tokens + row, mask=there, other=0.0)

    grad_q0 = tl.zeros([QUERIES, FIRST], tl.float32)
    grad_q1 = tl.zeros([QUERIES, REST if REST > 0 else 1], tl.float32)
    distance_sums = tl.zeros([QUERIES, DISTANCES], tl.float32)
    if PICKS:
        pair = (local.to(tl.int64) * tokens + row) * picks_each
        for pick in tl.range(picks_each, num_stages=1):
            block = tl.load(picks + pair + pick, mask=there, other=-1).to(tl.int32)
            chosen = block >= 0
            more0, more1 = features_of(pick_grad, pair + pick, FEATURES, chosen, FIRST, REST, FEATURES, True)
            grad_q0 += more0.to(tl.float32)
            if REST > 0:
                grad_q1 += more1.to(tl.float32)
            pair_sums = tl.load(pick_sum + pair + pick, mask=chosen, other=0.0)
            bucket = tl.load(bucket_of + (own - block + blocks - 1), mask=chosen, other=-1)
            distance_sums += tl.where(bucket[:, None] == distance[None, :], pair_sums[:, None], 0.0)
        # the distances' rows of all picks at once
        far = distance < distances_each
        pick_sums = distance_sums.to(q0.dtype)
        rows0 = rows_of(distances_base, distance, CONTENT, far, 0, FIRST, CONTENT, True).to(q0.dtype)
        grad_q0 = tl.dot(pick_sums, rows0, grad_q0, input_precision="ieee")
        if CONTENT > FIRST:
            rows1 = rows_of(distances_base, distance, CONTENT, far, FIRST, REST, CONTENT, True).to(q0.dtype)
            grad_q1 = tl.dot(pick_sums, rows1, grad_q1, input_precision="ieee")

    for base in range(0, count, SLOTS):
        slot = tl.load(slots_base + base + each, mask=base + each < count, other=own)
        bucket = tl.load(bucket_of + (own - slot + blocks - 1))
        terms0 = terms_of(pooled_base, distances_base, slot, bucket, 0, FIRST, CONTENT).to(q0.dtype)
        terms = tl.dot(q0, tl.trans(terms0), input_precision="ieee")
        if CONTENT > FIRST:
            terms1 = terms_of(pooled_base, distances_base, slot, bucket, FIRST, REST, CONTENT).to(q1.dtype)
            terms = tl.dot(q1, tl.trans(terms1), terms, input_precision="ieee")
        slot_sums = tl.zeros([QUERIES, SLOTS], tl.float32)
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
                logits = tl.where(hidden_keys(mask + batch * tokens, key, tokens)[None, :], float("-inf"), logits)
            if CAUSAL:
                logits = tl.where(key[None, :] > row[:, None], float("-inf"), logits)
            elif BOUND:
                logits = tl.where((key < tokens)[None, :], logits, float("-inf"))
            is_slot = each[None, :] == at - base
            term = tl.sum(tl.where(is_slot, terms, 0.0), 1) * slope
            shares = tl.exp2(logits * slope + (term - queries_mass)[:, None])
            inner = tl.dot(gradients, tl.trans(values), input_precision="ieee")
            grad_logits = shares * (inner - queries_delta[:, None])
            slot_sums += tl.where(is_slot, tl.sum(grad_logits, 1)[:, None], 0.0)
            rounded = grad_logits.to(k0.dtype)
            grad_q0 = tl.dot(rounded, k0, grad_q0, input_precision="ieee")
            if REST > 0:
                grad_q1 = tl.dot(rounded, k1, grad_q1, input_precision="ieee")
        sums = slot_sums.to(q0.dtype)
        grad_q0 = tl.dot(sums, terms0, grad_q0, input_precision="ieee")
        if CONTENT > FIRST:
            grad_q1 = tl.dot(sums, terms1, grad_q1, input_precision="ieee")
        is_bucket = tl.where(bucket[:, None] == distance[None, :], 1.0, 0.0).to(q0.dtype)
        distance_sums = tl.dot(sums, is_bucket, distance_sums, input_precision="ieee")

    grad_q_base = grad_q + (batch * tokens * heads + head) * FEATURES + begin * heads * FEATURES
    keep_rows(grad_q_base, within, heads * FEATURES, there, grad_q0 * scale, 0, FIRST, FEATURES)
    if REST > 0:
        keep_rows(grad_q_base, within, heads * FEATURES, there, grad_q1 * scale, FIRST, REST, FEATURES)
    by_distance_base = by_distance + (group * tokens + begin) * distances_each
    column = distance[None, :]
    tl.store(
        by_distance_base + within[:, None] * distances_each + column,
        (distance_sums * scale).to(by_distance.dtype.element_ty),
        mask=there[:, None] & (column < distances_each),
    )

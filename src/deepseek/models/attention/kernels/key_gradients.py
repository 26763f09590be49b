"""The kernels of the keys' and values' gradients; importing this imports Triton.

A program of :func:`key_gradients_kernel` takes one key block through tiles of queries that attend to it: those that
picked the block one by one, then those of far query blocks, then those of near ones. The gradient of the block's term
is that of its keys, summed over them, from far tiles only: what the sums are before the near ones.

Some blocks are attended to by all (sinks do, and a gate may choose one everywhere). A list of tiles is therefore cut
into segments; where there are several, their sums go to a buffer, which :func:`segments_kernel` adds up, in order.
Nothing is added by two programs at once, so that gradients are the same bits in every run.
"""

# ruff: noqa: ANN001, ANN202 - Triton's kernels are compiled: parameters have no types, constants are large
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from deepseek.models.attention.kernels.tiles import (
    COUNTS,
    features_of,
    hidden_keys,
    keep_rows,
    products,
    rows_of,
    terms_of,
)


@triton.jit
def _tile(
    q0, q1, gradients, queries_mass, queries_delta, term, k0, k1, values, gone, future, sums_k0, sums_k1, sums_v, slope,
    REST: tl.constexpr, GONE: tl.constexpr, FUTURE: tl.constexpr,
):  # fmt: skip
    """One tile of queries added to the sums; also the logits' gradients, [keys, queries]."""
    logits = products(k0, k1, q0, q1, REST)
    if GONE:
        logits = tl.where(gone[:, None], float("-inf"), logits)
    if FUTURE:
        logits = tl.where(future, float("-inf"), logits)
    shares = tl.exp2(logits * slope + (term * slope - queries_mass)[None, :])
    sums_v = tl.dot(shares.to(gradients.dtype), gradients, sums_v, input_precision="ieee")
    inner = tl.dot(values, tl.trans(gradients), input_precision="ieee")
    grad_logits = shares * (inner - queries_delta[None, :])
    rounded = grad_logits.to(q0.dtype)
    sums_k0 = tl.dot(rounded, q0, sums_k0, input_precision="ieee")
    if REST > 0:
        sums_k1 = tl.dot(rounded, q1, sums_k1, input_precision="ieee")
    return sums_k0, sums_k1, sums_v, grad_logits


@triton.jit(do_not_specialize=COUNTS)
def key_gradients_kernel(
    q, k, v, pooled, distances, mask, entries, entry_starts, bucket_of, order, starts, owner, first, spill,
    grad, mass, delta, grad_k, grad_v, grad_pooled, spilled, pick_grad, pick_sum, slope, scale,
    q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token, grad_batch, grad_head, grad_token,
    first_group, lines, longest, heads, tokens, blocks, distances_each, picks_each,
    WIDTH: tl.constexpr, FEATURES: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr, CONTENT: tl.constexpr,
    VALUES: tl.constexpr, PADDED: tl.constexpr, QUERIES: tl.constexpr,
    CAUSAL: tl.constexpr, BOUND: tl.constexpr, MASKED: tl.constexpr, PICKS: tl.constexpr,
) -> None:  # fmt: skip
    """``longest`` tiles of a key block's list, to ``grad_k`` [B, T, H, E], ``grad_v`` [B, T, H, D] and ``grad_pooled``
    [G, N, C], or to the rows of ``spilled`` that begin at ``spill``.

    ``entries`` are query blocks by key block, a block's far ones from ``entry_starts`` [2 G' N + 1] on, then its near
    ones. ``order``, ``starts``, ``owner`` and ``first`` as in :func:`.forward.picks_kernel`, and ``pick_grad``
    [G', T, k, E] take what a picking query's gradient gets from the block without the distance's part, which is to be
    made from ``pick_sum`` [G', T, k].
    """
    line = tl.load(owner + tl.program_id(0))
    if line >= lines:
        return
    local = line // blocks
    block = line % blocks
    group = (first_group + local).to(tl.int64)
    batch = group // heads
    head = group % heads
    inside = tl.arange(0, WIDTH)
    within = tl.arange(0, QUERIES)
    key = block * WIDTH + inside
    begin = (block * WIDTH).to(tl.int64)
    k_at = k + batch * k_batch + head * k_head + begin * k_token
    v_at = v + batch * v_batch + head * v_head + begin * v_token
    k0, k1 = features_of(k_at, inside, k_token, key < tokens, FIRST, REST, FEATURES, BOUND)
    values = rows_of(v_at, inside, v_token, key < tokens, 0, PADDED, VALUES, BOUND)
    gone = key >= tokens
    if MASKED:
        gone = gone | hidden_keys(mask + batch * tokens, key, tokens)
    q_base = q + batch * q_batch + head * q_head
    grad_base = grad + batch * grad_batch + head * grad_head
    mass_base = mass + group * tokens
    delta_base = delta + group * tokens
    pooled_base = pooled + (group * blocks + block) * CONTENT
    distances_base = distances + head * distances_each * CONTENT
    none = within * 0

    entry = tl.load(entry_starts + 2 * line)
    far_tiles = (tl.load(entry_starts + 2 * line + 1) - entry) * (WIDTH // QUERIES)
    tiles = (tl.load(entry_starts + 2 * line + 2) - entry) * (WIDTH // QUERIES)
    pick_tiles = 0
    if PICKS:
        pick_begin = tl.load(starts + local * (blocks + 1) + block)
        pick_end = tl.load(starts + local * (blocks + 1) + block + 1)
        pick_tiles = tl.cdiv(pick_end - pick_begin, QUERIES)
        far_tiles += pick_tiles
        tiles += pick_tiles
    first_program = tl.load(first + line)
    from_tile = (tl.program_id(0) - first_program) * longest
    to_tile = tl.minimum(from_tile + longest, tiles)

    sums_k0 = tl.zeros([WIDTH, FIRST], tl.float32)
    sums_k1 = tl.zeros([WIDTH, REST if REST > 0 else 1], tl.float32)
    sums_v = tl.zeros([WIDTH, PADDED], tl.float32)
    zero = tl.zeros([QUERIES], tl.float32)
    if PICKS:
        buffered = local.to(tl.int64) * tokens * picks_each
        for i in range(from_tile, tl.minimum(to_tile, pick_tiles)):
            at = pick_begin + i * QUERIES + within
            there = at < pick_end
            pair = tl.load(order + buffered + at, mask=there, other=0)
            row = pair // picks_each
            wide = row.to(tl.int64)
            q0, q1 = features_of(q_base, wide, q_token, there, FIRST, REST, FEATURES, True)
            gradients = rows_of(grad_base, wide, grad_token, there, 0, PADDED, VALUES, True)
            queries_mass = tl.load(mass_base + row, mask=there, other=float("inf"))
            queries_delta = tl.load(delta_base + row, mask=there, other=0.0)
            bucket = tl.load(bucket_of + (row // WIDTH - block + blocks - 1))
            terms0 = terms_of(pooled_base, distances_base, none, bucket, 0, FIRST, CONTENT).to(q0.dtype)
            term = tl.sum(q0.to(tl.float32) * terms0.to(tl.float32), 1)
            if CONTENT > FIRST:
                terms1 = terms_of(pooled_base, distances_base, none, bucket, FIRST, REST, CONTENT).to(q1.dtype)
                term += tl.sum(q1.to(tl.float32) * terms1.to(tl.float32), 1)
            sums_k0, sums_k1, sums_v, grad_logits = _tile(
                q0, q1, gradients, queries_mass, queries_delta, term, k0, k1, values, gone, gone,
                sums_k0, sums_k1, sums_v, slope, REST, BOUND or MASKED, False,
            )  # fmt: skip
            place = buffered + pair
            whole = tl.sum(grad_logits, 0)
            tl.store(pick_sum + place, whole, mask=there)
            rounded = tl.trans(grad_logits.to(k0.dtype))
            # read again for each tile: registers are scarce
            feature = tl.arange(0, FIRST)
            pooled0 = tl.load(pooled_base + feature, mask=feature < CONTENT, other=0.0).to(tl.float32)
            part0 = tl.dot(rounded, k0, input_precision="ieee") + whole[:, None] * pooled0[None, :]
            keep_rows(pick_grad, place, FEATURES, there, part0, 0, FIRST, FEATURES)
            if REST > 0:
                part1 = tl.dot(rounded, k1, input_precision="ieee")
                if CONTENT > FIRST:
                    rest = FIRST + tl.arange(0, REST)
                    pooled1 = tl.load(pooled_base + rest, mask=rest < CONTENT, other=0.0).to(tl.float32)
                    part1 += whole[:, None] * pooled1[None, :]
                keep_rows(pick_grad, place, FEATURES, there, part1, FIRST, REST, FEATURES)

    for i in range(tl.maximum(from_tile, pick_tiles), tl.minimum(to_tile, far_tiles)):
        at = i - pick_tiles
        query_block = tl.load(entries + entry + at // (WIDTH // QUERIES))
        start = query_block * WIDTH + at % (WIDTH // QUERIES) * QUERIES
        row = start + within
        there = row < tokens
        q_at = q_base + start.to(tl.int64) * q_token
        grad_at = grad_base + start.to(tl.int64) * grad_token
        q0, q1 = features_of(q_at, within, q_token, there, FIRST, REST, FEATURES, BOUND)
        gradients = rows_of(grad_at, within, grad_token, there, 0, PADDED, VALUES, BOUND)
        queries_mass = tl.load(mass_base + row, mask=there, other=float("inf"))
        queries_delta = tl.load(delta_base + row, mask=there, other=0.0)
        bucket = none + tl.load(bucket_of + (query_block - block + blocks - 1))
        terms0 = terms_of(pooled_base, distances_base, none, bucket, 0, FIRST, CONTENT).to(q0.dtype)
        term = tl.sum(q0.to(tl.float32) * terms0.to(tl.float32), 1)
        if CONTENT > FIRST:
            terms1 = terms_of(pooled_base, distances_base, none, bucket, FIRST, REST, CONTENT).to(q1.dtype)
            term += tl.sum(q1.to(tl.float32) * terms1.to(tl.float32), 1)
        sums_k0, sums_k1, sums_v, grad_logits = _tile(
            q0, q1, gradients, queries_mass, queries_delta, term, k0, k1, values, gone, gone,
            sums_k0, sums_k1, sums_v, slope, REST, BOUND or MASKED, False,
        )  # fmt: skip

    several = tiles > longest
    number = tl.load(spill + line) + tl.program_id(0) - first_program
    spilled_at = spilled + number.to(tl.int64) * (WIDTH * (FEATURES + VALUES) + CONTENT)
    grad_pooled_at = grad_pooled + (group * blocks + block) * CONTENT
    if several:
        grad_pooled_at = spilled_at + WIDTH * (FEATURES + VALUES)
    feature = tl.arange(0, FIRST)
    tl.store(grad_pooled_at + feature, tl.sum(sums_k0, 0) * scale, mask=feature < CONTENT)
    if CONTENT > FIRST:
        feature1 = FIRST + tl.arange(0, REST)
        tl.store(grad_pooled_at + feature1, tl.sum(sums_k1, 0) * scale, mask=feature1 < CONTENT)

    for i in range(tl.maximum(from_tile, far_tiles), to_tile):
        at = i - pick_tiles
        start = tl.load(entries + entry + at // (WIDTH // QUERIES)) * WIDTH + at % (WIDTH // QUERIES) * QUERIES
        row = start + within
        there = row < tokens
        q_at = q_base + start.to(tl.int64) * q_token
        grad_at = grad_base + start.to(tl.int64) * grad_token
        q0, q1 = features_of(q_at, within, q_token, there, FIRST, REST, FEATURES, BOUND)
        gradients = rows_of(grad_at, within, grad_token, there, 0, PADDED, VALUES, BOUND)
        queries_mass = tl.load(mass_base + row, mask=there, other=float("inf"))
        queries_delta = tl.load(delta_base + row, mask=there, other=0.0)
        sums_k0, sums_k1, sums_v, grad_logits = _tile(
            q0, q1, gradients, queries_mass, queries_delta, zero, k0, k1, values, gone, key[:, None] > row[None, :],
            sums_k0, sums_k1, sums_v, slope, REST, BOUND or MASKED, CAUSAL,
        )  # fmt: skip

    real = key < tokens
    if several:
        at_v = spilled_at + WIDTH * FEATURES
        keep_rows(spilled_at, inside, FEATURES, real, sums_k0 * scale, 0, FIRST, FEATURES)
        keep_rows(at_v, inside, VALUES, real, sums_v, 0, PADDED, VALUES)
        if REST > 0:
            keep_rows(spilled_at, inside, FEATURES, real, sums_k1 * scale, FIRST, REST, FEATURES)
    else:
        grad_k_at = grad_k + (batch * tokens * heads + head) * FEATURES + begin * heads * FEATURES
        grad_v_at = grad_v + (batch * tokens * heads + head) * VALUES + begin * heads * VALUES
        keep_rows(grad_k_at, inside, heads * FEATURES, real, sums_k0 * scale, 0, FIRST, FEATURES)
        keep_rows(grad_v_at, inside, heads * VALUES, real, sums_v, 0, PADDED, VALUES)
        if REST > 0:
            keep_rows(grad_k_at, inside, heads * FEATURES, real, sums_k1 * scale, FIRST, REST, FEATURES)


@triton.jit(do_not_specialize=COUNTS)
def segments_kernel(
    spilled, number, spill, grad_k, grad_v, grad_pooled, first_group, heads, tokens, blocks,
    WIDTH: tl.constexpr, FEATURES: tl.constexpr, CONTENT: tl.constexpr, VALUES: tl.constexpr,
    COLUMNS: tl.constexpr, ROWS: tl.constexpr,
) -> None:  # fmt: skip
    """Add up the segments of a block that has ``number`` [G', N] of them, more than one; ``ROWS`` keys a program."""
    line = tl.program_id(0)
    count = tl.load(number + line)
    if count < 2:
        return
    block = line % blocks
    group = (first_group + line // blocks).to(tl.int64)
    batch = group // heads
    head = group % heads
    step = WIDTH * (FEATURES + VALUES) + CONTENT
    inside = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    real = block * WIDTH + inside < tokens
    column = tl.arange(0, COLUMNS)
    base = spilled + tl.load(spill + line).to(tl.int64) * step
    sums_k = tl.zeros([ROWS, COLUMNS], tl.float32)
    sums_v = tl.zeros([ROWS, COLUMNS], tl.float32)
    sums_pooled = tl.zeros([COLUMNS], tl.float32)
    for _ in range(count):
        sums_k += rows_of(base, inside, FEATURES, real, 0, COLUMNS, FEATURES, True)
        sums_v += rows_of(base + WIDTH * FEATURES, inside, VALUES, real, 0, COLUMNS, VALUES, True)
        sums_pooled += tl.load(base + WIDTH * (FEATURES + VALUES) + column, mask=column < CONTENT, other=0.0)
        base += step
    start = (batch * tokens + block * WIDTH) * heads + head
    keep_rows(grad_k + start * FEATURES, inside, heads * FEATURES, real, sums_k, 0, COLUMNS, FEATURES)
    keep_rows(grad_v + start * VALUES, inside, heads * VALUES, real, sums_v, 0, COLUMNS, VALUES)
    if tl.program_id(1) == 0:
        tl.store(grad_pooled + (group * blocks + block) * CONTENT + column, sums_pooled, mask=column < CONTENT)

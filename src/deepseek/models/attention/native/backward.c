/* Gradients of gated block attention, in bfloat16 (by AMX's tiles, or AVX-512's lanes) or float32 (WIDE, by lanes).
 *
 * Weights are made again from the logarithms of sums that the forward pass left (arXiv:2205.14135). A thread takes a head,
 * or a part of its query blocks where there are more threads than heads, and adds up the gradients of all keys in memory
 * of its own. Rows of queries meet one key block at a time: those of a block each of its slots, and of a decoder's choices
 * the pairs that chose the same key block. Five products of such a meeting are all there is: keys' and values' gradients
 * are kept as columns, so that weights and slopes (gradients of logits) need not be turned.
 */
#include "gated.h"

#define MEET 64 /* pairs at most that meet a key block together */

/* A head as products read it. */
typedef struct {
    Number *near, *far;                 /* (N, W E): keys, without and with the gate's term, along their features */
    Number *near_columns, *far_columns; /* (N, W E): the same along tokens */
    Number *value;                      /* (N, W D): along features */
    Number *distance;                   /* (R rounded up, E) */
    float *row;                         /* (R, E): distances' rows */
    float *bias;                        /* (N W): 0, or LOW for what is hidden */
    uint8_t *some_hidden;               /* (N) */
} Packed;

/* What a part of a head's query blocks adds up. */
typedef struct {
    float *q;          /* (its tokens, E) */
    float *k, *v;      /* (N, E W), (N, D W): columns are tokens */
    float *s, *r;      /* (N, E), (R, E) */
    float *mass, *delta; /* (its tokens): of weights' sums; of an output and its gradient */
    int32_t *pair, *first;
} Sums;

/* What a thread works with; M rows of queries at most. */
typedef struct {
    Number *query, *grad, *query_turned, *grad_turned; /* (M, E), (M, D), (E M), (D M) */
    float *logits, *inner;                             /* (M, W) */
    Number *slope, *slope_packed, *share_packed;       /* (M, W), (M W) as second factors */
    float *part;                                       /* (M, E) */
    float *distance;                                   /* (M, R rounded up) */
    float *whole, *less, *delta;                       /* (M): slopes' sums; what logits are lessened by */
} Room;

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Rows (count, columns) as (columns, count), STEP of a column together: blocks of STEP rows, in each all columns. */
static void turn(const Number *rows, int64_t count, int64_t columns, Number *out) {
    for (int64_t n = 0; n < count; n += STEP)
        for (int64_t c = 0; c < columns; c += 16, out += 16 * STEP) {
            __m512i line[TILE];
            for (int i = 0; i < TILE; i++) {
#ifdef WIDE
                line[i] = _mm512_loadu_si512(rows + (n + i) * columns + c);
#else
                const Number *two = rows + (n + 2 * i) * columns + c;
                const __m512i odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(two + columns)));
                line[i] = _mm512_or_si512(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)two)), _mm512_slli_epi32(odd, 16));
#endif
            }
            turned(line, out);
        }
}

#ifndef WIDE
ALWAYS __m512i halves(__m512 v) { /* sixteen in bfloat16, each with 16 zeros before it */
#ifdef __AVX512BF16__
    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(v));
#else
    uint16_t all[16];
    to_bf16(all, v);
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)all));
#endif
}
#endif

/* Weights and slopes of so many rows against one key block, from their logits (without the distance's term and what is
 * hidden) and the products of gradient and values. Row i sees the block's first `until` + i keys. */
ALWAYS void weigh_rows(const Call *a, int64_t rows, const float *bias, int64_t until, Room *r) {
    const int64_t W = a->width;
    const __m512 unit = _mm512_set1_ps((float)a->scale * UNIT);
    const int step = sizeof(Number) == 2 ? 2 : 1;
    for (int64_t i = 0; i < rows; i += step) {
        __m512 whole[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int64_t w = 0; w < W; w += 16) {
            __m512 share[2], slope[2];
            for (int j = 0; j < step; j++) {
                const int64_t at = (i + j) * W + w, seen = until + i + j - w;
                __m512 y = _mm512_fmadd_ps(_mm512_loadu_ps(r->logits + at), unit, _mm512_set1_ps(r->less[i + j]));
                if (bias) y = _mm512_add_ps(y, _mm512_loadu_ps(bias + w));
                if (seen < 16) y = _mm512_mask_mov_ps(_mm512_set1_ps(LOW), lanes(seen), y);
                share[j] = POWER(y);
                slope[j] = _mm512_mul_ps(share[j], _mm512_sub_ps(_mm512_loadu_ps(r->inner + at), _mm512_set1_ps(r->delta[i + j])));
                whole[j] = _mm512_add_ps(whole[j], slope[j]);
            }
            Number *shares = r->share_packed + w * rows + i * 16, *slopes = r->slope_packed + w * rows + i * 16;
#ifdef WIDE
            _mm512_storeu_ps(shares, share[0]);
            _mm512_storeu_ps(slopes, slope[0]);
            _mm512_storeu_ps(r->slope + i * W + w, slope[0]);
#else
            const __m512i even = halves(slope[0]), odd = halves(slope[1]);
            _mm512_storeu_si512(shares, _mm512_or_si512(halves(share[0]), _mm512_slli_epi32(halves(share[1]), 16)));
            _mm512_storeu_si512(slopes, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
            _mm256_storeu_si256((__m256i *)(r->slope + i * W + w), _mm512_cvtepi32_epi16(even));
            _mm256_storeu_si256((__m256i *)(r->slope + (i + 1) * W + w), _mm512_cvtepi32_epi16(odd));
#endif
        }
        for (int j = 0; j < step; j++) r->whole[i + j] = _mm512_reduce_add_ps(whole[j]);
    }
}

/* Rows of queries, with their gradients, meet key block n: its gradients, and those of the queries into q_out. */
ALWAYS void meet(const int tiles, const Call *a, int64_t rows, int64_t n, int far, int64_t until, const Packed *p, Room *r,
                 const Sums *sums, float *q_out, const int add) {
    const int64_t W = a->width, E = a->features, D = a->values;
    const Number *key = (far ? p->far : p->near) + n * W * E, *value = p->value + n * W * D;
    const Number *columns = (far ? p->far_columns : p->near_columns) + n * W * E, *slope = r->slope_packed, *share = r->share_packed;
    product(tiles, r->query, E, STEP, rows, &key, 1, E, W, r->logits, W, 0);
    product(tiles, r->grad, D, STEP, rows, &value, 1, D, W, r->inner, W, 0);
    weigh_rows(a, rows, p->some_hidden[n] ? p->bias + n * W : 0, until, r);
    product(tiles, r->slope, W, STEP, rows, &columns, 1, W, E, q_out, E, add);
    product(tiles, r->query_turned, STEP, E * STEP, E, &slope, 1, rows, W, sums->k + n * W * E, W, 1);
    product(tiles, r->grad_turned, STEP, D * STEP, D, &share, 1, rows, W, sums->v + n * W * D, W, 1);
}

/* Adds the slopes' part that all keys of a block share, from rows first to last, to its term's gradient and the distance's. */
ALWAYS void add_terms(const Call *a, const Room *r, int64_t first, int64_t last, float *s, float *distance) {
    for (int64_t e = 0; e < a->features; e += 16) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t i = first; i < last; i++)
            sum = _mm512_fmadd_ps(_mm512_set1_ps(r->whole[i]), taken(r->query + i * a->features + e, 0xffff), sum);
        _mm512_storeu_ps(s + e, _mm512_add_ps(_mm512_loadu_ps(s + e), sum));
        _mm512_storeu_ps(distance + e, _mm512_add_ps(_mm512_loadu_ps(distance + e), sum));
    }
}

static const Number *query_at(const Call *a, int64_t g, int64_t token) {
    return a->q + g / a->heads * a->q_text + g % a->heads * a->q_head + token * a->q_row;
}

static const Number *grad_at(const Call *a, int64_t g, int64_t token) {
    return a->grad + g / a->heads * a->grad_text + g % a->heads * a->grad_head + token * a->grad_row;
}

/* One query block, the first token of a part being `start`, and all of its slots. */
ALWAYS void block_backward(const int tiles, const Call *a, int64_t g, int64_t n, int64_t start, const Packed *p, Room *r, const Sums *sums) {
    const int64_t W = a->width, E = a->features, D = a->values, R = up(a->distances, TILE), there = rows_of(a, n), at = n * W - start;
    memset(r->query, 0, W * E * sizeof(Number));
    memset(r->grad, 0, W * D * sizeof(Number));
    for (int64_t i = 0; i < there; i++) {
        copy(r->query + i * E, query_at(a, g, n * W + i), E);
        copy(r->grad + i * D, grad_at(a, g, n * W + i), D);
    }
    memcpy(r->delta, sums->delta + at, W * 4);
    turn(r->query, W, E, r->query_turned);
    turn(r->grad, W, D, r->grad_turned);
    distances_of(tiles, a, r->query, W, p->distance, r->distance);
    const int64_t *slot = a->slot + (a->slots_step ? g * a->slots_step : 0) + n * a->slots;
    const float scale = (float)a->scale;
    float *out = sums->q + at * E;
    memset(out, 0, W * E * 4);
    for (int64_t j = 0; j < a->slots; j++) {
        if (slot[j] < 0) continue;
        const int64_t away = n - slot[j], bucket = a->bucket[away + a->blocks];
        const int far = is_far(a, away);
        for (int64_t i = 0; i < W; i++) r->less[i] = ((far ? scale * r->distance[i * R + bucket] : 0.0f) - sums->mass[at + i]) * UNIT;
        meet(tiles, a, W, slot[j], far, a->causal && !away ? 1 : W, p, r, sums, out, 1);
        if (!far) continue;
        add_terms(a, r, 0, W, sums->s + slot[j] * E, sums->r + bucket * E);
        for (int64_t i = 0; i < W; i++)
            for (int64_t e = 0; e < E; e += 16)
                _mm512_storeu_ps(out + i * E + e, _mm512_fmadd_ps(_mm512_set1_ps(r->whole[i]), _mm512_loadu_ps(p->row + bucket * E + e),
                                                                  _mm512_loadu_ps(out + i * E + e)));
    }
}

/* The tokens of query blocks `from` to `until` and the blocks that each of them chose. */
ALWAYS void choices_backward(const int tiles, const Call *a, int64_t g, int64_t from, int64_t until, const Packed *p, Room *r, const Sums *sums) {
    const int64_t W = a->width, E = a->features, D = a->values, N = a->blocks, R = up(a->distances, TILE), start = from * W;
    const float scale = (float)a->scale;
    int32_t *first = sums->first;
    sort_pairs(a, g, start, least(until * W, a->tokens) - start, first, sums->pair);
    for (int64_t n = 0; n < N; n++)
        for (int64_t at = first[n]; at < first[n + 1]; at += MEET) {
            const int64_t some = least(first[n + 1] - at, MEET), rows = up(some, 32);
            const int32_t *who = sums->pair + at;
            for (int64_t i = 0; i < some; i++) {
                copy(r->query + i * E, query_at(a, g, start + who[i]), E);
                copy(r->grad + i * D, grad_at(a, g, start + who[i]), D);
                r->delta[i] = sums->delta[who[i]];
            }
            memset(r->query + some * E, 0, (rows - some) * E * sizeof(Number));
            memset(r->grad + some * D, 0, (rows - some) * D * sizeof(Number));
            memset(r->delta + some, 0, (rows - some) * 4);
            turn(r->query, rows, E, r->query_turned);
            turn(r->grad, rows, D, r->grad_turned);
            distances_of(tiles, a, r->query, rows, p->distance, r->distance);
            int32_t bucket[MEET];
            for (int64_t i = 0; i < rows; i++) {
                bucket[i] = i < some ? a->bucket[from + who[i] / W - n + N] : 0;
                r->less[i] = i < some ? (scale * r->distance[i * R + bucket[i]] - sums->mass[who[i]]) * UNIT : LOW;
            }
            meet(tiles, a, rows, n, 1, W, p, r, sums, r->part, 0);
            for (int64_t i = 0, begun = 0; i < some; i++) /* pairs are in order, and so are their distances */
                if (i + 1 == some || bucket[i + 1] != bucket[i]) {
                    add_terms(a, r, begun, i + 1, sums->s + n * E, sums->r + bucket[i] * E);
                    begun = i + 1;
                }
            for (int64_t i = 0; i < some; i++) {
                float *out = sums->q + who[i] * E;
                const __m512 whole = _mm512_set1_ps(r->whole[i]);
                for (int64_t e = 0; e < E; e += 16) {
                    const __m512 more = _mm512_fmadd_ps(whole, _mm512_loadu_ps(p->row + bucket[i] * E + e), _mm512_loadu_ps(r->part + i * E + e));
                    _mm512_storeu_ps(out + e, _mm512_add_ps(_mm512_loadu_ps(out + e), more));
                }
            }
        }
}

static void part_backward(const Call *a, int64_t g, int64_t from, int64_t until, const Packed *p, Room *r, const Sums *sums) {
    const int64_t W = a->width, E = a->features, D = a->values, N = a->blocks;
    memset(sums->k, 0, N * W * E * 4);
    memset(sums->v, 0, N * W * D * 4);
    memset(sums->s, 0, N * E * 4);
    memset(sums->r, 0, a->distances * E * 4);
    for (int64_t i = from * W; i < until * W; i++) {
        const int64_t at = i - from * W;
        sums->mass[at] = a->mass[g * N * W + i];
        sums->delta[at] = 0.0f;
        if (i >= a->tokens) continue;
        const Number *out = a->out + g / a->heads * a->out_text + g % a->heads * a->out_head + i * a->out_row, *grad = grad_at(a, g, i);
        __m512 sum = _mm512_setzero_ps();
        for (int64_t d = 0; d < D; d += 16) sum = _mm512_fmadd_ps(taken(out + d, 0xffff), taken(grad + d, 0xffff), sum);
        sums->delta[at] = _mm512_reduce_add_ps(sum);
    }
    for (int64_t n = from; n < until; n++)
        if (a->tiles) block_backward(1, a, g, n, from * W, p, r, sums);
        else block_backward(0, a, g, n, from * W, p, r, sums);
    if (a->choice) {
        if (a->tiles) choices_backward(1, a, g, from, until, p, r, sums);
        else choices_backward(0, a, g, from, until, p, r, sums);
    }
    const __m512 scale = _mm512_set1_ps((float)a->scale);
    for (int64_t i = from * W; i < least(until * W, a->tokens); i++)
        for (int64_t e = 0; e < E; e += 16)
            put(a->q_grad + (g * a->tokens + i) * E + e, _mm512_mul_ps(scale, _mm512_loadu_ps(sums->q + (i - from * W) * E + e)), 0xffff);
}

static void pack_block(const Call *a, int64_t g, int64_t n, Packed *p, Room *r) {
    const int64_t W = a->width, E = a->features, D = a->values, text = g / a->heads, head = g % a->heads, there = rows_of(a, n);
    const Number *k = a->k + text * a->k_text + head * a->k_head + n * W * a->k_row;
    pack_rows(k, a->k_row, there, W, E, p->near + n * W * E);
    pack_columns(k, a->k_row, there, W, E, p->near_columns + n * W * E);
    with_term(a, g, n, k, there, r->query);
    pack_rows(r->query, E, there, W, E, p->far + n * W * E);
    pack_columns(r->query, E, there, W, E, p->far_columns + n * W * E);
    pack_rows(a->v + text * a->v_text + head * a->v_head + n * W * a->v_row, a->v_row, there, W, D, p->value + n * W * D);
    p->some_hidden[n] = (uint8_t)hide(a, text, n, p->bias + n * W);
}

static void pack_terms(const Call *a, int64_t g, Packed *p, Room *r) {
    const int64_t E = a->features, head = g % a->heads;
    pack_distances(a, head, p->distance, r->query);
    for (int64_t i = 0; i < a->distances; i++)
        for (int64_t e = 0; e < E; e += 16) _mm512_storeu_ps(p->row + i * E + e, taken(r->query + i * E + e, 0xffff));
}

/* Adds up the parts' columns (features, W) of a block and writes them, times scale, as rows. Slopes are those of logits;
 * what is scaled in a logit has its gradient scaled when it is written. */
static void write_rows(const Call *a, int64_t g, int64_t n, int64_t features, const float *const *columns, int64_t parts, float scale, Number *out) {
    const int64_t W = a->width, there = rows_of(a, n);
    for (int64_t w = 0; w < there; w += TILE)
        for (int64_t e = 0; e < features; e += TILE) {
            __m512i line[TILE];
            float rows[TILE * TILE];
            for (int i = 0; i < TILE; i++) {
                __m512 sum = _mm512_loadu_ps(columns[0] + (n * features + e + i) * W + w);
                for (int64_t part = 1; part < parts; part++) sum = _mm512_add_ps(sum, _mm512_loadu_ps(columns[part] + (n * features + e + i) * W + w));
                line[i] = _mm512_castps_si512(sum);
            }
            turned(line, rows);
            for (int64_t i = 0; i < least(TILE, there - w); i++)
                put(out + (g * a->tokens + n * W + w + i) * features + e, _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_loadu_ps(rows + i * TILE)), 0xffff);
        }
}

static void write_block(const Call *a, int64_t g, int64_t n, const Sums *sums, int64_t parts) {
    const float *k[parts], *v[parts];
    for (int64_t i = 0; i < parts; i++) k[i] = sums[i].k, v[i] = sums[i].v;
    write_rows(a, g, n, a->features, k, parts, (float)a->scale, a->k_grad);
    write_rows(a, g, n, a->values, v, parts, 1.0f, a->v_grad);
    float *out = a->s_grad + (g * a->blocks + n) * a->content;
    for (int64_t c = 0; c < a->content; c++) {
        float sum = 0.0f;
        for (int64_t i = 0; i < parts; i++) sum += sums[i].s[n * a->features + c];
        out[c] = (float)a->scale * sum;
    }
}

static void write_distances(const Call *a, int64_t g, const Sums *sums, int64_t parts) {
    for (int64_t r = 0; r < a->distances; r++)
        for (int64_t c = 0; c < a->content; c++) {
            float sum = 0.0f;
            for (int64_t i = 0; i < parts; i++) sum += sums[i].r[r * a->features + c];
            a->r_grad[(g * a->distances + r) * a->content + c] = (float)a->scale * sum;
        }
}

static int64_t packed_of(const Call *a, uint8_t *memory, Packed *p) {
    const int64_t keys = a->blocks * a->width, rows = keys * a->features * sizeof(Number);
    uint8_t *at = memory;
    p->near = cut(&at, rows);
    p->far = cut(&at, rows);
    p->near_columns = cut(&at, rows);
    p->far_columns = cut(&at, rows);
    p->value = cut(&at, keys * a->values * sizeof(Number));
    p->distance = cut(&at, up(a->distances, TILE) * a->features * sizeof(Number));
    p->row = cut(&at, a->distances * a->features * 4);
    p->bias = cut(&at, keys * 4);
    p->some_hidden = cut(&at, a->blocks);
    return at - memory;
}

static int64_t sums_for(const Call *a, int64_t blocks, uint8_t *memory, Sums *s) {
    const int64_t keys = a->blocks * a->width, tokens = blocks * a->width;
    uint8_t *at = memory;
    s->q = cut(&at, tokens * a->features * 4);
    s->k = cut(&at, keys * a->features * 4);
    s->v = cut(&at, keys * a->values * 4);
    s->s = cut(&at, a->blocks * a->features * 4);
    s->r = cut(&at, a->distances * a->features * 4);
    s->mass = cut(&at, tokens * 4);
    s->delta = cut(&at, tokens * 4);
    s->pair = cut(&at, a->choice ? tokens * a->choices * 4 : 0);
    s->first = cut(&at, (a->blocks + 2) * 4);
    return at - memory;
}

static int64_t room_of(const Call *a, uint8_t *memory, Room *r) {
    const int64_t W = a->width, E = a->features, D = a->values, M = most(W, MEET), some = sizeof(Number);
    uint8_t *at = memory;
    r->query = cut(&at, most(M, a->distances) * E * some);
    r->grad = cut(&at, M * D * some);
    r->query_turned = cut(&at, M * E * some);
    r->grad_turned = cut(&at, M * D * some);
    r->logits = cut(&at, M * W * 4);
    r->inner = cut(&at, M * W * 4);
    r->slope = cut(&at, M * W * some);
    r->slope_packed = cut(&at, M * W * some);
    r->share_packed = cut(&at, M * W * some);
    r->part = cut(&at, M * E * 4);
    r->distance = cut(&at, M * up(a->distances, TILE) * 4);
    r->whole = cut(&at, M * 4);
    r->less = cut(&at, M * 4);
    r->delta = cut(&at, M * 4);
    return at - memory;
}

/* 0, or 1 if memory is short. */
int deepseek_attention_backward(const Call *a) {
    const int64_t N = a->blocks, lots = least(a->groups, a->threads), parts = least(N, a->threads / lots), longest = (N + parts - 1) / parts;
    Packed packed[lots];
    Sums sums[lots * parts];
    Room none;
    const int64_t one = packed_of(a, 0, packed), other = sums_for(a, longest, 0, sums), own = room_of(a, 0, &none);
    uint8_t *memory = lots_of(lots * one + lots * parts * other + a->threads * own);
    if (!memory) return 1;
    for (int64_t i = 0; i < lots; i++) packed_of(a, memory + i * one, packed + i);
    for (int64_t i = 0; i < lots * parts; i++) sums_for(a, longest, memory + lots * one + i * other, sums + i);
#pragma omp parallel num_threads(a->threads)
    {
        Room r;
        room_of(a, memory + lots * one + lots * parts * other + omp_get_thread_num() * own, &r);
        if (a->tiles) tiles_on();
        for (int64_t g = 0; g < a->groups; g += lots) { /* memory for a few heads at a time */
            const int64_t some = least(lots, a->groups - g);
#pragma omp for schedule(dynamic, 4)
            for (int64_t i = 0; i < some * (N + 1); i++) {
                const int64_t head = i / (N + 1), n = i % (N + 1);
                if (n < N) pack_block(a, g + head, n, packed + head, &r);
                else pack_terms(a, g + head, packed + head, &r);
            }
#pragma omp for schedule(dynamic, 1)
            for (int64_t i = 0; i < some * parts; i++) {
                const int64_t from = N * (i % parts) / parts, until = N * (i % parts + 1) / parts;
                part_backward(a, g + i / parts, from, until, packed + i / parts, &r, sums + i);
            }
#pragma omp for schedule(dynamic, 4)
            for (int64_t i = 0; i < some * (N + 1); i++) {
                const int64_t head = i / (N + 1), n = i % (N + 1);
                if (n < N) write_block(a, g + head, n, sums + head * parts, parts);
                else write_distances(a, g + head, sums + head * parts, parts);
            }
        }
        if (a->tiles) tiles_off();
    }
    free(memory);
    return 0;
}

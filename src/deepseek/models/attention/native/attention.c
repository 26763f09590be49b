/* Gated block attention of one pass over a text, in bfloat16 (by AMX's tiles, or AVX-512's lanes) or float32 (WIDE, by lanes).
 *
 * A head's keys and values are packed once in the order that products read. Then threads take segments of its query
 * blocks. 32 rows of a block at a time meet all slots of the block (the neighbourhood, the sinks, an encoder's
 * choices): all logits are made, then weighted, then multiplied with values, in a core's own cache. A decoder's choices are
 * each token's own: the pairs of a segment are sorted by key block, 32 queries that chose the same one meet it
 * together, and what they find is added up, if need be by a running softmax (arXiv:1805.02867).
 */
#include "gated.h"

#define SEGMENT 128 /* query blocks at most that a thread takes */
#define MOST 1e30f /* of a sum of weights */

/* A head's keys and values as products read them. */
typedef struct {
    Number *near, *far, *value; /* (N, W E), (N, W E) with the gate's term, (N, W D) */
    Number *distance;           /* (R rounded up, E) */
    float *bias;                  /* (N W): 0, or LOW for what is hidden */
    uint8_t *some_hidden;         /* (N) */
} Packed;

/* What a thread works with. */
typedef struct {
    Number *query;   /* (W, E) of a block, or 32 gathered ones */
    float *logits;     /* (32, S W) */
    Number *share;   /* (32, S W) */
    float *sum, *top;  /* of a segment's tokens: weights' sum, greatest logit */
    float *mixed;      /* (segment, D) sums of weighted values */
    float *distance;   /* (32, R rounded up): distances' terms */
    int32_t *pair, *first; /* pairs of a segment by key block, and where a block's begin */
    float *part;       /* (32, D) */
} Room;

static void pack_block(const Call *a, int64_t g, int64_t n, Packed *p, Number *scratch) {
    const int64_t W = a->width, E = a->features, text = g / a->heads, head = g % a->heads, there = rows_of(a, n);
    const Number *k = a->k + text * a->k_text + head * a->k_head + n * W * a->k_row;
    pack_rows(k, a->k_row, there, W, E, p->near + n * W * E);
    with_term(a, g, n, k, there, scratch);
    pack_rows(scratch, E, there, W, E, p->far + n * W * E);
    pack_columns(a->v + text * a->v_text + head * a->v_head + n * W * a->v_row, a->v_row, there, W, a->values, p->value + n * W * a->values);
    p->some_hidden[n] = (uint8_t)hide(a, text, n, p->bias + n * W);
}

/* Weights of so many logits x, whose greatest is top; their sum. */
ALWAYS float weigh(const float *x, int64_t count, float top, Number *share) {
    const __m512 less = _mm512_set1_ps(top);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; i += 32) {
        const __m512 one = POWER(_mm512_sub_ps(_mm512_loadu_ps(x + i), less));
        const __m512 other = POWER(_mm512_sub_ps(_mm512_loadu_ps(x + i + 16), less));
        sum = _mm512_add_ps(sum, _mm512_add_ps(one, other));
        put_two(share + i, one, other);
    }
    return _mm512_reduce_add_ps(sum);
}

/* One query block against all of its slots: sums, greatest logits and weighted values of its tokens. */
ALWAYS void attend_block(const int tiles, const Call *a, int64_t g, int64_t n, const Packed *p, Room *r, int64_t at) {
    const int64_t W = a->width, E = a->features, D = a->values, R = up(a->distances, TILE), text = g / a->heads, head = g % a->heads;
    const int64_t there = rows_of(a, n);
    const Number *q = a->q + text * a->q_text + head * a->q_head + n * W * a->q_row;
    for (int64_t i = 0; i < W; i++) {
        if (i < there) copy(r->query + i * E, q + i * a->q_row, E);
        else memset(r->query + i * E, 0, E * sizeof *q);
    }
    const int64_t *slot = a->slot + (a->slots_step ? g * a->slots_step : 0) + n * a->slots;
    const Number *key[a->slots], *value[a->slots];
    int64_t number[a->slots], count = 0;
    int far[a->slots];
    for (int64_t j = 0; j < a->slots; j++) {
        if (slot[j] < 0) continue;
        const int64_t away = n - slot[j];
        far[count] = is_far(a, away);
        key[count] = (far[count] ? p->far : p->near) + slot[j] * W * E;
        value[count] = p->value + slot[j] * W * D;
        number[count++] = slot[j];
    }
    const int64_t stride = a->slots * W;
    const float unit = (float)a->scale * UNIT;
    for (int64_t t = 0; t < W; t += ROWS) {
        const Number *rows = r->query + t * E;
        distances_of(tiles, a, rows, ROWS, p->distance, r->distance);
        for (int64_t j = 0; j < count; j++) product(tiles, rows, E, STEP, ROWS, key + j, 1, E, W, r->logits + j * W, stride, 0);
        for (int64_t i = 0; i < ROWS; i++) {
            float *x = r->logits + i * stride;
            __m512 top = _mm512_set1_ps(LOW);
            for (int64_t j = 0; j < count; j++) {
                const float term = far[j] ? r->distance[i * R + a->bucket[n - number[j] + a->blocks]] : 0.0f;
                const float *bias = p->some_hidden[number[j]] ? p->bias + number[j] * W : 0;
                top = finish(x + j * W, W, unit, term, bias, a->causal && number[j] == n ? t + i + 1 : W, top);
            }
            r->top[at + t + i] = _mm512_reduce_max_ps(top);
            r->sum[at + t + i] = weigh(x, count * W, r->top[at + t + i], r->share + i * stride);
        }
        product(tiles, r->share, stride, STEP, ROWS, value, count, W, D, r->mixed + (at + t) * D, D, 0);
    }
}

/* Weights of one block's logits x, without the greatest known: of `less` what they are lessened by. Their sum. */
ALWAYS float weigh_at_once(const float *x, int64_t W, float unit, float less, const float *bias, Number *share) {
    const __m512 scale = _mm512_set1_ps(unit), more = _mm512_set1_ps(-less);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < W; i += 32) {
        __m512 one = _mm512_fmadd_ps(_mm512_loadu_ps(x + i), scale, more), other = _mm512_fmadd_ps(_mm512_loadu_ps(x + i + 16), scale, more);
        if (bias) one = _mm512_add_ps(one, _mm512_loadu_ps(bias + i)), other = _mm512_add_ps(other, _mm512_loadu_ps(bias + i + 16));
        one = POWER(one), other = POWER(other);
        sum = _mm512_add_ps(sum, _mm512_add_ps(one, other));
        put_two(share + i, one, other);
    }
    return _mm512_reduce_add_ps(sum);
}

/* Has bytes that are wanted soon brought near. */
ALWAYS void fetch(const void *at, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)at + i, _MM_HINT_T0);
}

/* Has part `at` of so many parts of numbers brought near. */
ALWAYS void fetch_part(const Number *numbers, int64_t count, int64_t at, int64_t parts) {
    const char *from = (const char *)numbers;
    const int64_t lines = count * (int64_t)sizeof *numbers / 64, each = (lines + parts - 1) / parts;
    fetch(from + at * each * 64, least(each, lines - at * each) * 64);
}

/* A segment's tokens against the blocks that each of them chose. A token's weights are lessened by its slots' greatest
 * logit; where a chosen one is so much greater that their sum does not fit, by the greatest so far (`running`). */
ALWAYS void attend_choices(const int tiles, const int running, const Call *a, int64_t g, int64_t from, int64_t until, const Packed *p, Room *r) {
    const int64_t W = a->width, E = a->features, D = a->values, N = a->blocks, R = up(a->distances, TILE);
    const int64_t text = g / a->heads, head = g % a->heads, start = from * W;
    const Number *q = a->q + text * a->q_text + head * a->q_head + start * a->q_row;
    const float unit = (float)a->scale * UNIT;
    sort_pairs(a, g, start, least(until * W, a->tokens) - start, r->first, r->pair);
    memset(r->pair + r->first[N], 0, ROWS * sizeof *r->pair); /* the last ones look ahead too */
    for (int64_t n = 0; n < N; n++) {
        const Number *key = p->far + n * W * E, *value = p->value + n * W * D;
        const float *bias = p->some_hidden[n] ? p->bias + n * W : 0;
        for (int64_t at = r->first[n]; at < r->first[n + 1]; at += ROWS) {
            const int64_t some = least(r->first[n + 1] - at, ROWS);
            const int32_t *who = r->pair + at;
            for (int64_t i = 0; i < ROWS; i++) {
                copy(r->query + i * E, q + who[i < some ? i : 0] * a->q_row, E);
                fetch(q + who[some + i] * a->q_row, E * sizeof *q);
                fetch(r->mixed + who[i < some ? i : 0] * D, D * sizeof(float));
            }
            product(tiles, r->query, E, STEP, ROWS, &key, 1, E, W, r->logits, W, 0);
            distances_of(tiles, a, r->query, ROWS, p->distance, r->distance);
            float factor[ROWS];
            for (int64_t i = 0; i < some; i++) {
                if (at == r->first[n] && n + 1 < N) { /* the next keys and values, some at a time */
                    fetch_part(key + W * E, W * E, i, some);
                    fetch_part(value + W * D, W * D, i, some);
                }
                const int64_t own = from + who[i] / W;
                const float term = r->distance[i * R + a->bucket[own - n + N]], before = r->top[who[i]];
                if (!running) {
                    r->sum[who[i]] += weigh_at_once(r->logits + i * W, W, unit, before - term * unit, bias, r->share + i * W);
                    continue;
                }
                const __m512 most = finish(r->logits + i * W, W, unit, term, bias, W, _mm512_set1_ps(before));
                const float top = _mm512_reduce_max_ps(most);
                factor[i] = top > before ? POWER_OF_ONE(before - top) : 1.0f;
                r->sum[who[i]] = r->sum[who[i]] * factor[i] + weigh(r->logits + i * W, W, top, r->share + i * W);
                r->top[who[i]] = top;
            }
            product(tiles, r->share, W, STEP, ROWS, &value, 1, W, D, r->part, D, 0);
            for (int64_t i = 0; i < some; i++) {
                float *mixed = r->mixed + who[i] * D;
                const __m512 f = _mm512_set1_ps(running ? factor[i] : 1.0f);
                for (int64_t d = 0; d < D; d += 16)
                    _mm512_storeu_ps(mixed + d, _mm512_fmadd_ps(_mm512_loadu_ps(mixed + d), f, _mm512_loadu_ps(r->part + i * D + d)));
            }
        }
    }
}

static void attend_blocks(const Call *a, int64_t g, int64_t from, int64_t until, const Packed *p, Room *r) {
    for (int64_t n = from; n < until; n++)
        if (a->tiles) attend_block(1, a, g, n, p, r, (n - from) * a->width);
        else attend_block(0, a, g, n, p, r, (n - from) * a->width);
}

static int fits(const float *sum, int64_t count) {
    for (int64_t i = 0; i < count; i++) if (!(sum[i] < MOST)) return 0;
    return 1;
}

static void attend_segment(const Call *a, int64_t g, int64_t from, int64_t until, const Packed *p, Room *r) {
    const int64_t W = a->width, D = a->values, text = g / a->heads, head = g % a->heads;
    attend_blocks(a, g, from, until, p, r);
    if (a->choice) {
        if (a->tiles) attend_choices(1, 0, a, g, from, until, p, r);
        else attend_choices(0, 0, a, g, from, until, p, r);
        if (!fits(r->sum, (until - from) * W)) { /* or a token sees nothing in its slots */
            attend_blocks(a, g, from, until, p, r);
            if (a->tiles) attend_choices(1, 1, a, g, from, until, p, r);
            else attend_choices(0, 1, a, g, from, until, p, r);
        }
    }
    for (int64_t i = from * W; i < until * W; i++) {
        const int64_t at = i - from * W;
        if (a->mass) a->mass[g * a->blocks * W + i] = (r->top[at] + LOGARITHM(r->sum[at])) / UNIT;
        if (i >= a->tokens) continue;
        Number *out = a->out + text * a->out_text + head * a->out_head + i * a->out_row;
        const __m512 f = _mm512_set1_ps(1.0f / r->sum[at]);
        for (int64_t d = 0; d < D; d += 16) put(out + d, _mm512_mul_ps(f, _mm512_loadu_ps(r->mixed + at * D + d)), 0xffff);
    }
}

static int64_t room_of(const Call *a, int64_t segment, uint8_t *memory, Room *r) {
    const int64_t W = a->width, D = a->values, R = up(a->distances, TILE), tokens = segment * W;
    uint8_t *at = memory;
    const int64_t rows = W > a->distances ? W : a->distances;
    r->query = cut(&at, rows * a->features * sizeof(Number));
    r->logits = cut(&at, ROWS * a->slots * W * 4);
    r->share = cut(&at, ROWS * a->slots * W * sizeof(Number));
    r->sum = cut(&at, tokens * 4);
    r->top = cut(&at, tokens * 4);
    r->mixed = cut(&at, tokens * D * 4);
    r->distance = cut(&at, ROWS * R * 4);
    r->part = cut(&at, ROWS * D * 4);
    r->pair = cut(&at, a->choice ? (tokens * a->choices + ROWS) * 4 : 0);
    r->first = cut(&at, (a->blocks + 2) * 4);
    return at - memory;
}

static int64_t packed_of(const Call *a, uint8_t *memory, Packed *p) {
    const int64_t keys = a->blocks * a->width;
    uint8_t *at = memory;
    p->near = cut(&at, keys * a->features * sizeof(Number));
    p->far = cut(&at, keys * a->features * sizeof(Number));
    p->value = cut(&at, keys * a->values * sizeof(Number));
    p->distance = cut(&at, up(a->distances, TILE) * a->features * sizeof(Number));
    p->bias = cut(&at, keys * 4);
    p->some_hidden = cut(&at, a->blocks);
    return at - memory;
}

/* Whether AMX's tiles multiply: the processor has them and the system gives them to this process. */
int deepseek_attention_tiles(void) { return tiles_given(); }

/* 0, or 1 if memory is short. */
int deepseek_attention(const Call *a) {
    int64_t segment = a->blocks / (a->threads * 4);
    segment = segment < 4 ? 4 : segment > SEGMENT ? SEGMENT : segment;
    if (segment > a->blocks) segment = a->blocks;
    Packed p;
    Room none;
    const int64_t shared = packed_of(a, 0, &p), own = room_of(a, segment, 0, &none);
    uint8_t *memory = lots_of(shared + own * a->threads);
    if (!memory) return 1;
    large_pages(a->out, a->groups * a->tokens * a->values * (int64_t)sizeof *a->out);
    packed_of(a, memory, &p);
    const int64_t segments = (a->blocks + segment - 1) / segment;
#pragma omp parallel num_threads(a->threads)
    {
        Room r;
        room_of(a, segment, memory + shared + own * omp_get_thread_num(), &r);
        if (a->tiles) tiles_on();
        for (int64_t g = 0; g < a->groups; g++) {
#pragma omp for schedule(dynamic, 4)
            for (int64_t n = 0; n <= a->blocks; n++) {
                if (n < a->blocks) pack_block(a, g, n, &p, r.query);
                else pack_distances(a, g % a->heads, p.distance, r.query);
            }
#pragma omp for schedule(dynamic, 1)
            for (int64_t i = 0; i < segments; i++) {
                const int64_t from = i * segment, until = from + segment < a->blocks ? from + segment : a->blocks;
                attend_segment(a, g, from, until, &p, &r);
            }
        }
        if (a->tiles) tiles_off();
    }
    free(memory);
    return 0;
}

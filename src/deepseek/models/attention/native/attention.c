/* Gated block attention of one pass over a text, in bfloat16 (by AMX's tiles, or AVX-512's lanes) or float32 (WIDE, by lanes).
 *
 * A head's keys and values are packed once in the order that products read. Then threads take segments of its query
 * blocks. A block's sixteen rows at a time meet all slots of the block (the neighbourhood, the sinks, an encoder's
 * choices): all logits are made, then weighted, then multiplied with values, in a core's own cache. A decoder's choices are
 * each token's own: the pairs of a segment are sorted by key block, sixteen queries that chose the same one meet it
 * together, and a running softmax a query (arXiv:1805.02867) adds up what they find.
 *
 * Shapes: G groups (heads of texts), H heads, T tokens, N blocks of W tokens, E features of which C content, D values,
 * S slots, K choices, R distances.
 */
#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"
#include "vectors.h"

#define LOW -1e30f /* of what is hidden */
#define SEGMENT 64 /* query blocks at most that a thread takes */

/* Logits are in units of log 2 where a quick power of 2 has digits enough. */
#ifdef WIDE
#define UNIT 1.0f
#define POWER exponential
#define POWER_OF_ONE expf
#define LOGARITHM logf
#else
#define UNIT 1.44269504f
#define POWER power_of_two
#define POWER_OF_ONE exp2f
#define LOGARITHM log2f
#endif

typedef struct {
    int64_t groups, heads, tokens, blocks, width, features, content, values, slots, choices, distances, local, causal;
    int64_t threads, tiles;
    const Number *q, *k, *v; /* (B, H, T, .), queries scaled; steps as below, the last is 1 */
    int64_t q_text, q_head, q_row, k_text, k_head, k_row, v_text, v_head, v_row;
    const Number *s;         /* (G, N, C) */
    const Number *r;         /* (H, R, C) */
    const int64_t *slot;     /* (N, S), or (G, N, S) if slots_step; -1 for none */
    int64_t slots_step;
    const int64_t *choice;   /* (G, T, K) or null; -1 for none */
    const int32_t *bucket;   /* (2 N + 1), of distances from -N */
    const uint8_t *hidden;   /* (B, T) or null */
    Number *out;             /* (B, H, T, D) */
    int64_t out_text, out_head, out_row;
    float *mass;             /* (G, N W) or null: logarithms of sums of exponentials */
} Call;

/* A head's keys and values as products read them. */
typedef struct {
    Number *near, *far, *value; /* (N, W E), (N, W E) with the gate's term, (N, W D) */
    Number *distance;           /* (R rounded up, E) */
    float *bias;                  /* (N W): 0, or LOW for what is hidden */
    uint8_t *some_hidden;         /* (N) */
} Packed;

/* What a thread works with. */
typedef struct {
    Number *query;   /* (W, E) of a block, and sixteen gathered ones */
    float *logits;     /* (16, S W) */
    Number *share;   /* (16, S W) */
    float *sum, *top;  /* of a segment's tokens: weights' sum, greatest logit */
    float *mixed;      /* (segment, D) sums of weighted values */
    float *far;        /* (segment, R rounded up): distances' terms */
    int32_t *pair, *first; /* pairs of a segment by key block, and where a block's begin */
    float *part;       /* (16, D) */
} Room;


/* Columns of numbers as the second factor of products over their rows: blocks of STEP rows of 16 columns. */
static void pack_columns(const Number *rows, int64_t stride, int64_t there, int64_t count, int64_t columns, Number *out) {
    for (int64_t d = 0; d < columns; d += 16)
#ifdef WIDE
        for (int64_t n = 0; n < count; n++, out += 16)
            _mm512_storeu_ps(out, n < there ? _mm512_loadu_ps(rows + n * stride + d) : _mm512_setzero_ps());
#else
        for (int64_t n = 0; n < count; n += 2, out += 32) {
            const __m256i zero = _mm256_setzero_si256();
            const __m256i one = n < there ? _mm256_loadu_si256((const __m256i *)(rows + n * stride + d)) : zero;
            const __m256i other = n + 1 < there ? _mm256_loadu_si256((const __m256i *)(rows + (n + 1) * stride + d)) : zero;
            _mm512_storeu_si512(out, _mm512_or_si512(_mm512_cvtepu16_epi32(one), _mm512_slli_epi32(_mm512_cvtepu16_epi32(other), 16)));
        }
#endif
}

static void pack_block(const Call *a, int64_t g, int64_t n, Packed *p, Number *scratch) {
    const int64_t W = a->width, E = a->features, C = a->content, text = g / a->heads, head = g % a->heads;
    const int64_t there = a->tokens - n * W < W ? a->tokens - n * W : W;
    const Number *k = a->k + text * a->k_text + head * a->k_head + n * W * a->k_row;
    pack_rows(k, a->k_row, there, W, E, p->near + n * W * E);
    const Number *term = a->s + (g * a->blocks + n) * C;
    for (int64_t i = 0; i < there; i++) {
        memcpy(scratch + i * E, k + i * a->k_row, E * sizeof *k);
        for (int64_t c = 0; c < C; c += 16) {
            const __mmask16 m = C - c < 16 ? (1u << (C - c)) - 1 : 0xffff;
            put(scratch + i * E + c, _mm512_add_ps(taken(k + i * a->k_row + c, m), taken(term + c, m)), m);
        }
    }
    pack_rows(scratch, E, there, W, E, p->far + n * W * E);
    pack_columns(a->v + text * a->v_text + head * a->v_head + n * W * a->v_row, a->v_row, there, W, a->values, p->value + n * W * a->values);
    int any = there < W;
    for (int64_t i = 0; i < W; i++) {
        const int hidden = i >= there || (a->hidden && a->hidden[text * a->tokens + n * W + i]);
        p->bias[n * W + i] = hidden ? LOW : 0.0f;
        any |= hidden;
    }
    p->some_hidden[n] = (uint8_t)any;
}

static void pack_distances(const Call *a, int64_t head, Packed *p, Number *scratch) {
    memset(scratch, 0, a->distances * a->features * sizeof *scratch);
    for (int64_t r = 0; r < a->distances; r++)
        memcpy(scratch + r * a->features, a->r + (head * a->distances + r) * a->content, a->content * sizeof *scratch);
    pack_rows(scratch, a->features, a->distances, up(a->distances, TILE), a->features, p->distance);
}

/* Sums (16, 16) of 16 rows of shares (stride apart) and one 16 columns of values of some blocks of W rows. */
ALWAYS void mix(const int tiles, const Number *share, int64_t stride, const Number *const *value, int64_t count, int64_t W,
                int64_t offset, float *out, int64_t out_stride) {
#if HAS_TILES && !defined(WIDE)
    if (tiles) {
        _tile_zero(0);
        for (int64_t j = 0; j < count; j++)
            for (int64_t w = 0; w < W; w += 32) {
                _tile_loadd(4, share + j * W + w, stride * 2);
                _tile_loadd(5, value[j] + offset + w * 16, 64);
                _tile_dpbf16ps(0, 4, 5);
            }
        _tile_stored(0, out, out_stride * 4);
        return;
    }
#endif
    (void)tiles;
    __m512 sums[TILE];
    UNROLLED for (int m = 0; m < TILE; m++) sums[m] = _mm512_setzero_ps();
    for (int64_t j = 0; j < count; j++)
#ifdef WIDE
        for (int64_t w = 0; w < W; w++) {
            const __m512 v = _mm512_loadu_ps(value[j] + offset + w * 16);
            UNROLLED for (int m = 0; m < TILE; m++) sums[m] = _mm512_fmadd_ps(_mm512_set1_ps(share[m * stride + j * W + w]), v, sums[m]);
        }
#else
        for (int64_t w = 0; w < W; w += 2) {
            const __m512i v = _mm512_loadu_si512(value[j] + offset + w * 16);
            UNROLLED for (int m = 0; m < TILE; m++) sums[m] = add_pairs(sums[m], repeated(share + m * stride + j * W + w), v);
        }
#endif
    for (int m = 0; m < TILE; m++) _mm512_storeu_ps(out + m * out_stride, sums[m]);
}

/* Weights of so many logits x, whose greatest is top; their sum. */
ALWAYS float weigh(const float *x, int64_t count, float top, Number *share) {
    const __m512 less = _mm512_set1_ps(top);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; i += 16) {
        const __m512 weight = POWER(_mm512_sub_ps(_mm512_loadu_ps(x + i), less));
        sum = _mm512_add_ps(sum, weight);
        put(share + i, weight, 0xffff);
    }
    return _mm512_reduce_add_ps(sum);
}

/* Logits of a row against one block, in their unit, with the distance's term and what is hidden; their greatest. */
ALWAYS __m512 finish(float *x, int64_t W, float term, const float *bias, int64_t until, __m512 top) {
    const __m512 scale = _mm512_set1_ps(UNIT), more = _mm512_set1_ps(term * UNIT);
    for (int64_t i = 0; i < W; i += 16) {
        __m512 y = _mm512_fmadd_ps(_mm512_loadu_ps(x + i), scale, more);
        if (bias) y = _mm512_add_ps(y, _mm512_loadu_ps(bias + i));
        if (until < i + 16) y = _mm512_mask_mov_ps(_mm512_set1_ps(LOW), until <= i ? 0 : (__mmask16)((1u << (until - i)) - 1), y);
        _mm512_storeu_ps(x + i, y);
        top = _mm512_max_ps(top, y);
    }
    return top;
}

/* One query block against all of its slots: sums, greatest logits and weighted values of its tokens. */
ALWAYS void attend_block(const int tiles, const Call *a, int64_t g, int64_t n, const Packed *p, Room *r, int64_t at) {
    const int64_t W = a->width, E = a->features, D = a->values, R = up(a->distances, TILE), text = g / a->heads, head = g % a->heads;
    const int64_t there = a->tokens - n * W < W ? a->tokens - n * W : W;
    const Number *q = a->q + text * a->q_text + head * a->q_head + n * W * a->q_row;
    for (int64_t i = 0; i < W; i++) {
        if (i < there) memcpy(r->query + i * E, q + i * a->q_row, E * sizeof *q);
        else memset(r->query + i * E, 0, E * sizeof *q);
    }
    const int64_t *slot = a->slot + (a->slots_step ? g * a->slots_step : 0) + n * a->slots;
    const Number *key[a->slots], *value[a->slots];
    int64_t number[a->slots], count = 0;
    int far[a->slots];
    for (int64_t j = 0; j < a->slots; j++) {
        if (slot[j] < 0) continue;
        const int64_t away = n - slot[j];
        far[count] = away > a->local || (!a->causal && -away > a->local);
        key[count] = (far[count] ? p->far : p->near) + slot[j] * W * E;
        value[count] = p->value + slot[j] * W * D;
        number[count++] = slot[j];
    }
    const int64_t stride = a->slots * W;
    for (int64_t t = 0; t < W; t += TILE) {
        const Number *rows = r->query + t * E;
        float *distance = r->far + (at + t) * R;
        for (int64_t d = 0; d < R; d += TILE) sums_of(tiles, rows, E, p->distance + d * E, E, distance + d, R);
        for (int64_t j = 0; j < count; j++)
            for (int64_t w = 0; w < W; w += TILE) sums_of(tiles, rows, E, key[j] + w * E, E, r->logits + j * W + w, stride);
        for (int64_t i = 0; i < TILE; i++) {
            float *x = r->logits + i * stride;
            __m512 top = _mm512_set1_ps(LOW);
            for (int64_t j = 0; j < count; j++) {
                const float term = far[j] ? distance[i * R + a->bucket[n - number[j] + a->blocks]] : 0.0f;
                const float *bias = p->some_hidden[number[j]] ? p->bias + number[j] * W : 0;
                top = finish(x + j * W, W, term, bias, a->causal && number[j] == n ? t + i + 1 : W, top);
            }
            r->top[at + t + i] = _mm512_reduce_max_ps(top);
            r->sum[at + t + i] = weigh(x, count * W, r->top[at + t + i], r->share + i * stride);
        }
        for (int64_t d = 0; d < D; d += TILE) mix(tiles, r->share, stride, value, count, W, d * W, r->mixed + (at + t) * D + d, D);
    }
}

/* A segment's tokens against the blocks that each of them chose. */
ALWAYS void attend_choices(const int tiles, const Call *a, int64_t g, int64_t from, int64_t until, const Packed *p, Room *r) {
    const int64_t W = a->width, E = a->features, D = a->values, K = a->choices, N = a->blocks, R = up(a->distances, TILE);
    const int64_t text = g / a->heads, head = g % a->heads;
    const int64_t start = from * W, tokens = (until * W < a->tokens ? until * W : a->tokens) - start;
    const int64_t *choice = a->choice + (g * a->tokens + start) * K;
    const Number *q = a->q + text * a->q_text + head * a->q_head + start * a->q_row;
    memset(r->first, 0, (N + 2) * sizeof *r->first);
    for (int64_t i = 0; i < tokens * K; i++) if (choice[i] >= 0) r->first[choice[i] + 2]++;
    for (int64_t n = 0; n <= N; n++) r->first[n + 1] += r->first[n];
    for (int64_t i = 0; i < tokens; i++)
        for (int64_t c = 0; c < K; c++) if (choice[i * K + c] >= 0) r->pair[r->first[choice[i * K + c] + 1]++] = (int32_t)i;
    for (int64_t n = 0; n < N; n++) {
        const Number *key = p->far + n * W * E, *value = p->value + n * W * D;
        const float *bias = p->some_hidden[n] ? p->bias + n * W : 0;
        for (int64_t at = r->first[n]; at < r->first[n + 1]; at += TILE) {
            const int64_t some = r->first[n + 1] - at < TILE ? r->first[n + 1] - at : TILE;
            const int32_t *who = r->pair + at;
            for (int64_t i = 0; i < TILE; i++) memcpy(r->query + i * E, q + who[i < some ? i : 0] * a->q_row, E * sizeof *q);
            for (int64_t w = 0; w < W; w += TILE) sums_of(tiles, r->query, E, key + w * E, E, r->logits + w, W);
            float factor[TILE];
            for (int64_t i = 0; i < some; i++) {
                const int64_t own = from + who[i] / W;
                const float term = r->far[who[i] * R + a->bucket[own - n + N]], before = r->top[who[i]];
                const __m512 most = finish(r->logits + i * W, W, term, bias, W, _mm512_set1_ps(before));
                const float top = _mm512_reduce_max_ps(most);
                factor[i] = top > before ? POWER_OF_ONE(before - top) : 1.0f;
                r->sum[who[i]] = r->sum[who[i]] * factor[i] + weigh(r->logits + i * W, W, top, r->share + i * W);
                r->top[who[i]] = top;
            }
            for (int64_t d = 0; d < D; d += TILE) mix(tiles, r->share, W, &value, 1, W, d * W, r->part + d, D);
            for (int64_t i = 0; i < some; i++) {
                float *mixed = r->mixed + who[i] * D;
                const __m512 f = _mm512_set1_ps(factor[i]);
                for (int64_t d = 0; d < D; d += 16)
                    _mm512_storeu_ps(mixed + d, _mm512_fmadd_ps(_mm512_loadu_ps(mixed + d), f, _mm512_loadu_ps(r->part + i * D + d)));
            }
        }
    }
}

static void attend_segment(const Call *a, int64_t g, int64_t from, int64_t until, const Packed *p, Room *r) {
    const int64_t W = a->width, D = a->values, text = g / a->heads, head = g % a->heads;
    for (int64_t n = from; n < until; n++)
        if (a->tiles) attend_block(1, a, g, n, p, r, (n - from) * W);
        else attend_block(0, a, g, n, p, r, (n - from) * W);
    if (a->choice) {
        if (a->tiles) attend_choices(1, a, g, from, until, p, r);
        else attend_choices(0, a, g, from, until, p, r);
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
    r->logits = cut(&at, TILE * a->slots * W * 4);
    r->share = cut(&at, TILE * a->slots * W * sizeof(Number));
    r->sum = cut(&at, tokens * 4);
    r->top = cut(&at, tokens * 4);
    r->mixed = cut(&at, tokens * D * 4);
    r->far = cut(&at, tokens * R * 4);
    r->part = cut(&at, TILE * D * 4);
    r->pair = cut(&at, a->choice ? tokens * a->choices * 4 : 0);
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
    uint8_t *memory = aligned_alloc(64, shared + own * a->threads);
    if (!memory) return 1;
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
                else pack_distances(a, g % a->heads, &p, r.query);
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

/* What the forward and the backward pass of gated block attention share.
 *
 * Shapes: G groups (heads of texts), H heads, T tokens, N blocks of W tokens, E features of which C content, D values,
 * S slots, K choices, R distances.
 */
#pragma once
#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"
#include "vectors.h"

#define LOW -1e30f /* of what is hidden */
#define ROWS 32     /* of queries that meet keys together */

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
    double scale;            /* of logits */
    const Number *q, *k, *v; /* (B, H, T, .); steps as below, the last is 1 */
    int64_t q_text, q_head, q_row, k_text, k_head, k_row, v_text, v_head, v_row;
    const Number *s;         /* (G, N, C) */
    const Number *r;         /* (H, R, C) */
    const int64_t *slot;     /* (N, S), or (G, N, S) if slots_step; -1 for none */
    int64_t slots_step;
    const int32_t *choice;   /* (G, T, K) or null; -1 for none */
    const int32_t *bucket;   /* (2 N + 1), of distances from -N */
    const uint8_t *hidden;   /* (B, T) or null */
    Number *out;             /* (B, H, T, D) */
    int64_t out_text, out_head, out_row;
    float *mass;             /* (G, N W): logarithms of sums of exponentials; may be null in the forward pass */
    /* Of the backward pass alone. */
    const Number *grad;      /* of out */
    int64_t grad_text, grad_head, grad_row;
    Number *q_grad, *k_grad, *v_grad; /* (G, T, .), without gaps */
    float *s_grad, *r_grad;  /* (G, N, C), (G, R, C) */
} Call;

/* Columns of numbers as the second factor of products over their rows: blocks of STEP rows of 16 columns. */
static inline void pack_columns(const Number *rows, int64_t stride, int64_t there, int64_t count, int64_t columns, Number *out) {
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

/* A block's keys (there, E) with the gate's term, into rows. */
static inline void with_term(const Call *a, int64_t g, int64_t n, const Number *k, int64_t there, Number *rows) {
    const int64_t C = a->content;
    const Number *term = a->s + (g * a->blocks + n) * C;
    for (int64_t i = 0; i < there; i++) {
        memcpy(rows + i * a->features, k + i * a->k_row, a->features * sizeof *k);
        for (int64_t c = 0; c < C; c += 16) {
            const __mmask16 m = lanes(C - c);
            put(rows + i * a->features + c, _mm512_add_ps(taken(k + i * a->k_row + c, m), taken(term + c, m)), m);
        }
    }
}

/* What a block's keys' logits are raised by, (W): 0, or LOW for what is hidden; whether any is. */
static inline int hide(const Call *a, int64_t text, int64_t n, float *bias) {
    int any = 0;
    for (int64_t i = 0; i < a->width; i++) {
        const int64_t at = n * a->width + i;
        const int hidden = at >= a->tokens || (a->hidden && a->hidden[text * a->tokens + at]);
        bias[i] = hidden ? LOW : 0.0f;
        any |= hidden;
    }
    return any;
}

static inline int64_t rows_of(const Call *a, int64_t n) { return least(a->width, a->tokens - n * a->width); } /* tokens of a block */

/* Whether a key block is far from a query block so many blocks after it. */
static inline int is_far(const Call *a, int64_t away) { return away > a->local || (!a->causal && -away > a->local); }

/* Sorts the choices of `tokens` tokens from token `start` on by key block: which of them chose block n are pair[first[n]]
 * to before pair[first[n + 1]], in order; first: (N + 2). */
static inline void sort_pairs(const Call *a, int64_t g, int64_t start, int64_t tokens, int32_t *first, int32_t *pair) {
    const int64_t K = a->choices, N = a->blocks;
    const int32_t *choice = a->choice + (g * a->tokens + start) * K;
    memset(first, 0, (N + 2) * sizeof *first);
    for (int64_t i = 0; i < tokens * K; i++) if (choice[i] >= 0) first[choice[i] + 2]++;
    for (int64_t n = 0; n <= N; n++) first[n + 1] += first[n];
    for (int64_t i = 0; i < tokens; i++)
        for (int64_t c = 0; c < K; c++) if (choice[i * K + c] >= 0) pair[first[choice[i * K + c] + 1]++] = (int32_t)i;
}

/* Distances' rows of a head as the second factor, (E, R rounded up); scratch: (R, E). */
static inline void pack_distances(const Call *a, int64_t head, Number *out, Number *scratch) {
    memset(scratch, 0, a->distances * a->features * sizeof *scratch);
    for (int64_t r = 0; r < a->distances; r++)
        memcpy(scratch + r * a->features, a->r + (head * a->distances + r) * a->content, a->content * sizeof *scratch);
    pack_rows(scratch, a->features, a->distances, up(a->distances, TILE), a->features, out);
}

/* Rows of numbers, whole vectors of 64 bytes. */
ALWAYS void copy(Number *to, const Number *from, int64_t count) {
    for (int64_t i = 0; i < count; i += STEP) _mm512_storeu_si512(to + i, _mm512_loadu_si512(from + i));
}

/* The product of a (rows, count depth), rows `stride` and STEP columns `step` apart, and so many packed b (depth, columns),
 * one below the other: into out, or added to it. Rows and columns: a multiple of 32 for tiles, else of 16. */
ALWAYS void product(const int tiles, const Number *a, int64_t stride, int64_t step, int64_t rows, const Number *const *b, int64_t count,
                    int64_t depth, int64_t columns, float *out, int64_t out_stride, const int add) {
#if HAS_TILES && !defined(WIDE)
    if (tiles) {
        for (int64_t c = 0; c < columns; c += 32)
            for (int64_t r = 0; r < rows; r += 32) {
                const Number *one = a + r * stride;
                float *to = out + r * out_stride + c;
                if (add) {
                    _tile_loadd(0, to, out_stride * 4); _tile_loadd(1, to + 16, out_stride * 4);
                    _tile_loadd(2, to + 16 * out_stride, out_stride * 4); _tile_loadd(3, to + 16 * out_stride + 16, out_stride * 4);
                } else {
                    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
                }
                for (int64_t j = 0; j < count; j++) {
                    const Number *left = b[j] + c * depth;
                    for (int64_t d = 0; d < depth; d += 32, one += step, left += 512) {
                        _tile_loadd(4, one, stride * 2);
                        _tile_loadd(5, one + 16 * stride, stride * 2);
                        _tile_loadd(6, left, 64);
                        _tile_loadd(7, left + 16 * depth, 64);
                        _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
                    }
                }
                _tile_stored(0, to, out_stride * 4); _tile_stored(1, to + 16, out_stride * 4);
                _tile_stored(2, to + 16 * out_stride, out_stride * 4); _tile_stored(3, to + 16 * out_stride + 16, out_stride * 4);
            }
        return;
    }
#endif
    (void)tiles;
    for (int64_t c = 0; c < columns; c += TILE)
        for (int64_t r = 0; r < rows; r += TILE) {
            const Number *one = a + r * stride;
            float *to = out + r * out_stride + c;
            __m512 sums[TILE];
            UNROLLED for (int m = 0; m < TILE; m++) sums[m] = add ? _mm512_loadu_ps(to + m * out_stride) : _mm512_setzero_ps();
            for (int64_t j = 0; j < count; j++) {
                const Number *left = b[j] + c * depth;
                for (int64_t d = 0; d < depth; d += STEP, one += step)
#ifdef WIDE
                    for (int64_t i = 0; i < STEP; i++, left += 16) {
                        const __m512 w = _mm512_loadu_ps(left);
                        UNROLLED for (int m = 0; m < TILE; m++) sums[m] = _mm512_fmadd_ps(_mm512_set1_ps(one[m * stride + i]), w, sums[m]);
                    }
#else
                    for (int64_t i = 0; i < STEP; i += 2, left += 32) {
                        const __m512i w = _mm512_loadu_si512(left);
                        UNROLLED for (int m = 0; m < TILE; m++) sums[m] = add_pairs(sums[m], repeated(one + m * stride + i), w);
                    }
#endif
            }
            for (int m = 0; m < TILE; m++) _mm512_storeu_ps(to + m * out_stride, sums[m]);
        }
}

/* Distances' terms of queries (rows, E), (rows, R rounded up). */
ALWAYS void distances_of(const int tiles, const Call *a, const Number *query, int64_t rows, const Number *packed, float *out) {
    const int64_t E = a->features, R = up(a->distances, TILE);
    for (int64_t i = 0; i < rows; i += TILE)
        for (int64_t d = 0; d < R; d += TILE) sums_of(tiles, query + i * E, E, packed + d * E, E, out + i * R + d, R);
}

/* Logits of a row against one block, times their unit, with the distance's term and what is hidden; their greatest. */
ALWAYS __m512 finish(float *x, int64_t W, float unit, float term, const float *bias, int64_t until, __m512 top) {
    const __m512 scale = _mm512_set1_ps(unit), more = _mm512_set1_ps(term * unit);
    for (int64_t i = 0; i < W; i += 16) {
        __m512 y = _mm512_fmadd_ps(_mm512_loadu_ps(x + i), scale, more);
        if (bias) y = _mm512_add_ps(y, _mm512_loadu_ps(bias + i));
        if (until < i + 16) y = _mm512_mask_mov_ps(_mm512_set1_ps(LOW), lanes(until - i), y);
        _mm512_storeu_ps(x + i, y);
        top = _mm512_max_ps(top, y);
    }
    return top;
}

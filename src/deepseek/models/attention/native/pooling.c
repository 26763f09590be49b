/* Summaries of blocks of keys: averages, weighted by a softmax of what a head's saliency gives each key of a block. In
 * bfloat16 or float32 (WIDE), sums in float32.
 *
 * Shapes: G groups (heads of texts), H heads, T tokens, W tokens of a block, N blocks, C content features.
 */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#include "numbers.h"
#include "vectors.h"

#define NOTHING -1e30f /* mass of a block without tokens */

typedef struct {
    int64_t groups, heads, tokens, blocks, width, content, threads;
    const Number *k; /* (B, H, T, C); steps as below, the last is 1 */
    int64_t k_text, k_head, k_row;
    const float *saliency; /* (H, C) */
    const float *sharp;    /* (H), factors of masses */
    const uint8_t *hidden; /* (B, T) or null */
    Number *keys;          /* (G, N, C) */
    float *mass;           /* (G, N) */
} Pool;

static void pool_block(const Pool *a, int64_t g, int64_t n) {
    const int64_t W = a->width, C = a->content, text = g / a->heads, head = g % a->heads, start = n * W;
    const int64_t there = least(W, a->tokens - start); /* none of an empty block behind the last */
    const Number *k = a->k + text * a->k_text + head * a->k_head + start * a->k_row;
    float weight[W + 16];
    float top = NOTHING;
    for (int64_t i = 0; i < there; i++) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t c = 0; c < C; c += 16) {
            const __mmask16 m = lanes(C - c);
            sum = _mm512_fmadd_ps(taken(k + i * a->k_row + c, m), _mm512_maskz_loadu_ps(m, a->saliency + head * C + c), sum);
        }
        const int hidden = a->hidden && a->hidden[text * a->tokens + start + i];
        weight[i] = hidden ? NOTHING : _mm512_reduce_add_ps(sum);
        if (weight[i] > top) top = weight[i];
    }
    const int any = top > NOTHING / 2;
    __m512 total = _mm512_setzero_ps();
    for (int64_t i = 0; any && i < there; i += 16) {
        const __mmask16 m = lanes(there - i);
        const __m512 e = _mm512_maskz_mov_ps(m, exponential(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, weight + i), _mm512_set1_ps(top))));
        total = _mm512_add_ps(total, e);
        _mm512_storeu_ps(weight + i, e);
    }
    const float sum = _mm512_reduce_add_ps(total);
    a->mass[g * a->blocks + n] = any ? (top + logf(sum)) * a->sharp[head] : NOTHING;
    for (int64_t c = 0; c < C; c += 16) {
        const __mmask16 m = lanes(C - c);
        __m512 mean = _mm512_setzero_ps();
        for (int64_t i = 0; any && i < there; i++)
            mean = _mm512_fmadd_ps(_mm512_set1_ps(weight[i]), taken(k + i * a->k_row + c, m), mean);
        put(a->keys + (g * a->blocks + n) * C + c, any ? _mm512_mul_ps(mean, _mm512_set1_ps(1.0f / sum)) : mean, m);
    }
}

int deepseek_pooling(const Pool *a) {
#pragma omp parallel for num_threads(a->threads) schedule(static)
    for (int64_t i = 0; i < a->groups * a->blocks; i++) pool_block(a, i / a->blocks, i % a->blocks);
    return 0;
}

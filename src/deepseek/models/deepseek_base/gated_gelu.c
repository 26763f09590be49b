/* Products of gated linear units: out = gelu(gate) * up, number by number; gelu by the error function, not by tanh.
 *
 * In bfloat16 or float32 (WIDE), in between float32. The error function's complement is a polynomial of 1 / (1 + p z) times
 * e^(-z^2), to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26).
 */
#include <immintrin.h>
#include <stdint.h>

#include "numbers.h"
#include "vectors.h"

#define CHUNK 8192 /* numbers that a thread takes at a time */
#define SMALL 32768 /* numbers that one thread has done sooner than others are awake */

typedef struct {
    int64_t count, threads;
    const Number *gate, *up;
    Number *out;
} Gated;

ALWAYS __m512 gelu(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f), square = _mm512_mul_ps(x, x);
    const __m512 below = _mm512_fmadd_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.3275911f * 0.70710678f), one);
#ifdef WIDE
    const __m512 t = _mm512_div_ps(one, below), e = exponential(_mm512_mul_ps(square, _mm512_set1_ps(-0.5f)));
#else
    const __m512 t = _mm512_rcp14_ps(below); /* more digits than bfloat16 has */
    const __m512 e = power_of_two(_mm512_max_ps(_mm512_mul_ps(square, _mm512_set1_ps(-0.5f * 1.44269504f)), _mm512_set1_ps(-100.0f)));
#endif
    __m512 p = _mm512_set1_ps(0.5f * 1.061405429f);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.5f * -1.453152027f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.5f * 1.421413741f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.5f * -0.284496736f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.5f * 0.254829592f));
    const __m512 rest = _mm512_mul_ps(_mm512_mul_ps(p, t), e); /* of a normal distribution, beyond |x| */
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mul_ps(x, _mm512_mask_mov_ps(_mm512_sub_ps(one, rest), negative, rest));
}

int deepseek_gated_gelu(const Gated *a) {
#pragma omp parallel for num_threads(a->threads) schedule(static) if (a->count > SMALL)
    for (int64_t start = 0; start < a->count; start += CHUNK) {
        const int64_t until = least(start + CHUNK, a->count);
        for (int64_t i = start; i < until; i += 16) {
            const __mmask16 m = lanes(until - i);
            put(a->out + i, _mm512_mul_ps(gelu(taken(a->gate + i, m)), taken(a->up + i, m)), m);
        }
    }
    return 0;
}

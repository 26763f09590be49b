/* Turns features of queries and keys by their positions' angles, in place. In bfloat16 or float32 (WIDE), sums in float32.
 *
 * Shapes: B texts, T tokens, H heads, S sides (queries, keys), 2 F features that turn: feature f with feature F + f.
 */
#include <immintrin.h>
#include <stdint.h>

#include "numbers.h"
#include "vectors.h"

#define SMALL 65536 /* numbers that one thread turns sooner than others are awake */

typedef struct {
    int64_t texts, tokens, heads, sides, half, threads;
    Number *x; /* (B, T, H, S, 2 F); steps as below, the last is 1 */
    int64_t x_text, x_token, x_head, x_side;
    const Number *cosine, *sine; /* (T, F) */
} Turn;

/* A vector holds all features of two times eight. */
static void turn_sixteen(const Turn *a, Number *x, const Number *cosine, const Number *sine) {
    const __m512 c = taken(cosine, 0xff), s = taken(sine, 0xff);
    const __m512 both = _mm512_shuffle_f32x4(c, c, 0x44), signs = _mm512_shuffle_f32x4(_mm512_sub_ps(_mm512_setzero_ps(), s), s, 0x44);
    for (int64_t h = 0; h < a->heads; h++)
        for (int64_t i = 0; i < a->sides; i++) {
            Number *at = x + h * a->x_head + i * a->x_side;
            const __m512 v = taken(at, 0xffff), other = _mm512_shuffle_f32x4(v, v, 0x4e);
            put(at, _mm512_fmadd_ps(v, both, _mm512_mul_ps(other, signs)), 0xffff);
        }
}

static void turn_any(const Turn *a, Number *x, const Number *cosine, const Number *sine) {
    for (int64_t f = 0; f < a->half; f += 16) {
        const __mmask16 m = lanes(a->half - f);
        const __m512 c = taken(cosine + f, m), s = taken(sine + f, m);
        for (int64_t h = 0; h < a->heads; h++)
            for (int64_t i = 0; i < a->sides; i++) {
                Number *one = x + h * a->x_head + i * a->x_side + f, *other = one + a->half;
                const __m512 v = taken(one, m), w = taken(other, m);
                put(one, _mm512_fmsub_ps(v, c, _mm512_mul_ps(w, s)), m);
                put(other, _mm512_fmadd_ps(w, c, _mm512_mul_ps(v, s)), m);
            }
    }
}

int deepseek_rotation(const Turn *a) {
    const int64_t rows = a->texts * a->tokens, numbers = rows * a->heads * a->sides * 2 * a->half;
#pragma omp parallel for num_threads(a->threads) schedule(static) if (numbers > SMALL)
    for (int64_t i = 0; i < rows; i++) {
        const int64_t token = i % a->tokens;
        Number *x = a->x + i / a->tokens * a->x_text + token * a->x_token;
        const Number *cosine = a->cosine + token * a->half, *sine = a->sine + token * a->half;
        if (a->half == 8) turn_sixteen(a, x, cosine, sine);
        else turn_any(a, x, cosine, sine);
    }
    return 0;
}

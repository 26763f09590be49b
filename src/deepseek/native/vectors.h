/* What the sources share. */
#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* The first so many of sixteen lanes: all if there are more, none below 1. */
ALWAYS __mmask16 lanes(int64_t count) { return count >= 16 ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1); }

ALWAYS __m512i repeated(const void *four_bytes) {
    int32_t bits;
    memcpy(&bits, four_bytes, 4);
    return _mm512_set1_epi32(bits);
}

/* e^x for x <= 0, to 2e-7: 2^n times a polynomial of the rest. 0 below -87: what is next to nothing would be a denormal
 * number in a product, and those take a hundred times as long. */
ALWAYS __m512 exponential(__m512 x) {
    const __mmask16 some = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_GT_OQ);
    x = _mm512_max_ps(x, _mm512_set1_ps(-87.0f));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_maskz_scalef_ps(some, p, n);
}

/* 2^x for x <= 0, to 3e-6, which is enough for bfloat16 in two thirds of the operations; least squares at Chebyshev's points. */
ALWAYS __m512 power_of_two(__m512 x) {
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(0.00956051052f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0559170395f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.240249813f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.69312197f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.999999166f));
    return _mm512_scalef_ps(p, n);
}

/* Sixteen rows of sixteen 32-bit numbers as columns, into out. */
ALWAYS void turned(const __m512i *rows, void *out) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) { /* each 128 bits of b[i + j] hold column 4 * part + j of rows i to i + 3 */
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    for (int j = 0; j < 4; j++) {
        const __m512i even = _mm512_shuffle_i32x4(b[j], b[j + 4], 0x88), odd = _mm512_shuffle_i32x4(b[j], b[j + 4], 0xdd);
        const __m512i far_even = _mm512_shuffle_i32x4(b[j + 8], b[j + 12], 0x88), far_odd = _mm512_shuffle_i32x4(b[j + 8], b[j + 12], 0xdd);
        char *to = (char *)out + 64 * j;
        _mm512_storeu_si512(to, _mm512_shuffle_i32x4(even, far_even, 0x88));
        _mm512_storeu_si512(to + 64 * 8, _mm512_shuffle_i32x4(even, far_even, 0xdd));
        _mm512_storeu_si512(to + 64 * 4, _mm512_shuffle_i32x4(odd, far_odd, 0x88));
        _mm512_storeu_si512(to + 64 * 12, _mm512_shuffle_i32x4(odd, far_odd, 0xdd));
    }
}

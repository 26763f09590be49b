/* Numbers of one precision for sources that are compiled for each: bfloat16, or float32 where WIDE is defined. */
#pragma once
#include "blocks.h"

#ifdef WIDE
typedef float Number;
#define STEP 16 /* columns of a block of a second factor */
#else
typedef uint16_t Number;
#define STEP 32
#endif

/* Sixteen numbers as float32, those of the mask. */
ALWAYS __m512 taken(const Number *from, __mmask16 mask) {
#ifdef WIDE
    return _mm512_maskz_loadu_ps(mask, from);
#else
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from)), 16));
#endif
}

ALWAYS void put(Number *to, __m512 v, __mmask16 mask) {
#ifdef WIDE
    _mm512_mask_storeu_ps(to, mask, v);
#else
    if (mask == 0xffff) { to_bf16(to, v); return; }
    uint16_t all[16];
    to_bf16(all, v);
    memcpy(to, all, 2 * (size_t)__builtin_popcount(mask));
#endif
}

/* Thirty-two numbers: what tiles load is written in whole, or they wait until it has left the processor's store buffer. */
ALWAYS void put_two(Number *to, __m512 one, __m512 other) {
#if !defined(WIDE) && defined(__AVX512BF16__)
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(other, one));
#else
    put(to, one, 0xffff);
    put(to + 16, other, 0xffff);
#endif
}

/* Rows as the second factor of products over their columns: blocks of STEP columns of 16 rows. */
static inline void pack_rows(const Number *rows, int64_t stride, int64_t there, int64_t count, int64_t columns, Number *out) {
    for (int64_t n = 0; n < count; n += TILE)
        for (int64_t c = 0; c < columns; c += STEP, out += TILE * STEP) {
            __m512i line[TILE];
            for (int i = 0; i < TILE; i++)
                line[i] = n + i < there ? _mm512_loadu_si512(rows + (n + i) * stride + c) : _mm512_setzero_si512();
            turned(line, out);
        }
}

/* Sums (16, 16; rows stride apart) of sixteen rows of a, a_stride apart, and sixteen packed ones of b over their columns. */
ALWAYS void sums_of(const int tiles, const Number *a, int64_t a_stride, const Number *b, int64_t columns, float *out, int64_t stride) {
#ifdef WIDE
    (void)tiles;
    __m512 sums[TILE];
    UNROLLED for (int m = 0; m < TILE; m++) sums[m] = _mm512_setzero_ps();
    for (int64_t c = 0; c < columns; c++) {
        const __m512 w = _mm512_loadu_ps(b + c * TILE);
        UNROLLED for (int m = 0; m < TILE; m++) sums[m] = _mm512_fmadd_ps(_mm512_set1_ps(a[m * a_stride + c]), w, sums[m]);
    }
    for (int m = 0; m < TILE; m++) _mm512_storeu_ps(out + m * stride, sums[m]);
#else
    halves_sums(tiles, a, a_stride, b, TILE * STEP, columns / STEP, out, stride);
#endif
}

/* Products of STEP numbers and as many, sixteen sums at a time. */
ALWAYS __m512 add_products(__m512 sum, __m512i a, __m512i b) {
#ifdef WIDE
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
#else
    return add_pairs(sum, a, b);
#endif
}

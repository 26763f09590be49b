/* Products of blocks of 8- and 16-bit numbers: by AMX's tiles, or by AVX-512's lanes where there are none.
 *
 * Both read the same second factor: rows of 64 bytes, of which each holds four columns (8 bits) or two (bfloat16) of
 * sixteen outputs. Lanes multiply a number without a sign by one with a sign, so that tokens are kept 128 higher for
 * them (LIFT) and what that adds to an output is taken off before (low).
 */
#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vectors.h"

#define TILE 16
#define PAIR 32
#define DEEP 64 /* columns of a tile of int8 */
#define LIFT 128
#define UNROLLED _Pragma("GCC unroll 16") /* so that a loop's sums are registers */
#define BESIDE 8 /* tokens whose sums are in registers at once, for 32 outputs */

#if defined(__AMX_INT8__) && defined(__AMX_BF16__)
#define HAS_TILES 1

typedef struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } Tiles;

static void tiles_on(void) {
    Tiles t;
    memset(&t, 0, sizeof t);
    t.palette = 1;
    for (int i = 0; i < 8; i++) t.rows[i] = 16, t.bytes[i] = 64;
    _tile_loadconfig(&t);
}

static void tiles_off(void) { _tile_release(); }

/* Asks the system for AMX, which a process must; whether it gives it. */
static int tiles_given(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

ALWAYS void whole_tiles(const int8_t *tokens, int64_t K, const int8_t *weights, int64_t there, int32_t *sums) {
    const int64_t depth = K / DEEP;
    _tile_zero(0); _tile_zero(1);
    if (there > TILE) {
        _tile_zero(2); _tile_zero(3);
        for (int64_t k = 0; k < depth; k++) {
            _tile_loadd(4, tokens + k * DEEP, K);
            _tile_loadd(5, tokens + TILE * K + k * DEEP, K);
            _tile_loadd(6, weights + k * 2048, 64);
            _tile_loadd(7, weights + k * 2048 + 1024, 64);
            _tile_dpbssd(0, 4, 6); _tile_dpbssd(1, 4, 7); _tile_dpbssd(2, 5, 6); _tile_dpbssd(3, 5, 7);
        }
        _tile_stored(2, sums + TILE * PAIR, PAIR * 4);
        _tile_stored(3, sums + TILE * PAIR + TILE, PAIR * 4);
    } else {
        for (int64_t k = 0; k < depth; k++) {
            _tile_loadd(4, tokens + k * DEEP, K);
            _tile_loadd(6, weights + k * 2048, 64);
            _tile_loadd(7, weights + k * 2048 + 1024, 64);
            _tile_dpbssd(0, 4, 6); _tile_dpbssd(1, 4, 7);
        }
    }
    _tile_stored(0, sums, PAIR * 4);
    _tile_stored(1, sums + TILE, PAIR * 4);
}

ALWAYS void halves_tiles(const uint16_t *a, int64_t a_stride, const uint16_t *b, int64_t b_stride, int64_t steps, float *out,
                         int64_t stride) {
    _tile_zero(0);
    for (int64_t k = 0; k < steps; k++) {
        _tile_loadd(4, a + k * 32, a_stride * 2);
        _tile_loadd(5, b + k * b_stride, 64);
        _tile_dpbf16ps(0, 4, 5);
    }
    _tile_stored(0, out, stride * 4);
}
#else
#define HAS_TILES 0
static void tiles_on(void) {}
static void tiles_off(void) {}
static int tiles_given(void) { return 0; }
#endif

/* _mm512_dpbusd_epi32, onto a sum where it is: from the intrinsic GCC 12 makes copies of half the sums in each turn. */
#define add_fours(sum, a, b) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))

/* Sums (M, 32) for M tokens; so many lines of each 2,048 bytes of the weights that come next are fetched meanwhile. */
ALWAYS void whole_lanes(const int M, const int8_t *tokens, int64_t K, const int8_t *weights, const int8_t *ahead, int64_t lines,
                        const int32_t *low, int32_t *sums) {
    __m512i one[BESIDE], other[BESIDE];
    UNROLLED for (int m = 0; m < M; m++) one[m] = _mm512_loadu_si512(low), other[m] = _mm512_loadu_si512(low + TILE);
    for (int64_t k = 0; k < K; k += DEEP, weights += 2048, ahead += 2048) {
        for (int64_t l = 0; l < lines; l++) _mm_prefetch((const char *)ahead + l * 64, _MM_HINT_T1);
        UNROLLED for (int m = 0; m < M; m++) _mm_prefetch((const char *)tokens + (M + m) * K + k, _MM_HINT_T0);
        for (int64_t i = 0; i < DEEP; i += 4) {
            const __m512i w = _mm512_loadu_si512(weights + i * 16), v = _mm512_loadu_si512(weights + 1024 + i * 16);
            UNROLLED for (int m = 0; m < M; m++) {
                const __m512i t = repeated(tokens + m * K + k + i);
                add_fours(one[m], t, w);
                add_fours(other[m], t, v);
            }
        }
    }
    UNROLLED for (int m = 0; m < M; m++) {
        _mm512_store_si512(sums + m * PAIR, one[m]);
        _mm512_store_si512(sums + m * PAIR + TILE, other[m]);
    }
}

/* A function for each number of tokens, apart, so that all registers are its own. */
#define LANES(M)                                                                                               \
    static __attribute__((noinline)) void whole_lanes_##M(const int8_t *tokens, int64_t K, const int8_t *weights, \
                                                          const int8_t *ahead, int64_t lines, const int32_t *low, \
                                                          int32_t *sums) {                                        \
        whole_lanes(M, tokens, K, weights, ahead, lines, low, sums);                                              \
    }
LANES(1) LANES(2) LANES(3) LANES(4) LANES(5) LANES(6) LANES(7) LANES(8)
#undef LANES

/* Sums (32, 32) of 32 outputs over K columns, for as many tokens (there, K) as there are, at most 32. Where ahead is
 * set, the weights of the next 32 outputs follow and are fetched into the core's cache. */
ALWAYS void whole_sums(const int tiles, const int8_t *tokens, int64_t K, const int8_t *weights, int ahead, const int32_t *low,
                       int64_t there, int32_t *sums) {
#if HAS_TILES
    if (tiles) { whole_tiles(tokens, K, weights, there, sums); return; }
#endif
    (void)tiles;
    const int64_t calls = (there + BESIDE - 1) / BESIDE, lines = ahead ? 32 / calls : 0;
    const int8_t *next = weights + PAIR * K;
#define LANES(M) case M: whole_lanes_##M(tokens + m * K, K, weights, next + m / BESIDE * lines * 64, lines, low, sums + m * PAIR); break;
    for (int64_t m = 0; m < there; m += BESIDE)
        switch (there - m < BESIDE ? there - m : BESIDE) { LANES(1) LANES(2) LANES(3) LANES(4) LANES(5) LANES(6) LANES(7) LANES(8) }
#undef LANES
}

/* What _mm512_dpbf16_ps does, up to the order of sums, on processors without bfloat16. */
ALWAYS __m512 add_pairs(__m512 sum, __m512i a, __m512i b) {
#ifdef __AVX512BF16__
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#else
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    sum = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(a, high)), _mm512_castsi512_ps(_mm512_and_si512(b, high)), sum);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)), sum);
#endif
}

/* Sums (16, 16; rows stride apart) of sixteen outputs over 32 * steps columns in bfloat16: of a (16, columns), rows
 * a_stride apart, and blocks of b, b_stride apart. */
ALWAYS void halves_sums(const int tiles, const uint16_t *a, int64_t a_stride, const uint16_t *b, int64_t b_stride, int64_t steps,
                        float *out, int64_t stride) {
#if HAS_TILES
    if (tiles) { halves_tiles(a, a_stride, b, b_stride, steps, out, stride); return; }
#endif
    (void)tiles;
    __m512 sums[TILE];
    UNROLLED for (int m = 0; m < TILE; m++) sums[m] = _mm512_setzero_ps();
    for (int64_t k = 0; k < steps; k++)
        for (int64_t i = 0; i < 16; i++) {
            const __m512i w = _mm512_loadu_si512(b + k * b_stride + i * 32);
            UNROLLED for (int m = 0; m < TILE; m++) sums[m] = add_pairs(sums[m], repeated(a + m * a_stride + k * 32 + i * 2), w);
        }
    for (int m = 0; m < TILE; m++) _mm512_storeu_ps(out + m * stride, sums[m]);
}

ALWAYS void to_bf16(uint16_t *out, __m512 v) {
#ifdef __AVX512BF16__
    _mm256_storeu_si256((__m256i *)out, (__m256i)_mm512_cvtneps_pbh(v));
#else
    const __m512i bits = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))); /* to even */
    _mm256_storeu_si256((__m256i *)out, _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
#endif
}

static inline int64_t up(int64_t n, int64_t by) { return (n + by - 1) / by * by; }

/* Has the system give large pages for memory that nobody has written to yet, where it has them. */
static inline void large_pages(void *at, int64_t bytes) {
    const uintptr_t page = 1 << 21, from = ((uintptr_t)at + page - 1) & ~(page - 1), until = ((uintptr_t)at + bytes) & ~(page - 1);
    if (until > from) madvise((void *)from, until - from, MADV_HUGEPAGE);
}

/* Memory for much, in large pages if it can be. */
static inline uint8_t *lots_of(int64_t bytes) {
    uint8_t *memory = aligned_alloc(bytes < 1 << 22 ? 64 : 1 << 21, bytes < 1 << 22 ? up(bytes, 64) : up(bytes, 1 << 21));
    if (memory) large_pages(memory, bytes);
    return memory;
}

/* Cuts memory for so many bytes off the front, in whole cache lines. */
static inline void *cut(uint8_t **memory, int64_t bytes) {
    void *from = *memory;
    *memory += up(bytes, 64);
    return from;
}

/* A decoder-only language model's pass over a few tokens, for CPUs with AVX-512 VNNI.
 *
 * What a token costs is reading the weights once. They are kept in 8 bits, or in 4 with a scale and a minimum for each
 * 32, sixteen rows beside each other so that a load holds four columns of each; tokens are quantised to 8 bits in
 * groups of 32 on the way (as llama.cpp's Q8_1), and products are summed in whole numbers. All other numbers are
 * float32. One parallel region spans the pass; its threads share the parts of each operation (team.h).
 *
 * Shapes: M tokens, E hidden size, H heads, K key-value heads, D a head's size, F inner size, N rows of a matrix.
 */
#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "team.h"
#include "vectors.h"

#define MOST 8   /* tokens that share a load of weights */
#define STRIPE 8 /* times sixteen rows that stay in a core's cache while all tokens pass */
#define GROUP 32 /* columns that share a scale */
#define ROWS 16  /* rows beside each other */
#define BLOCK 32 /* tokens of a block of the cache */

typedef struct {
    const uint8_t *data; /* (N / 16, columns / 32, 320) for 4 bits, (N / 16, columns / 32, 512) for 8 */
    const float *scale;  /* (N) for 8 bits */
    const float *bias;   /* (N) or null */
    int64_t rows, columns, bits;
} Matrix;

typedef struct {
    Matrix qkv, output, gate, up, down;
    const float *attention_norm, *feed_norm; /* (E) */
    const float *query_norm, *key_norm;      /* (D) or null */
} Layer;

typedef struct {
    int64_t layers, hidden, heads, kv_heads, head_size, inner, threads;
    float epsilon, rotary_scale;
    const float *frequencies; /* (D / 2) */
    const float *final_norm;  /* (E) */
    Matrix embedding, head;
    const Layer *layer;
} Decoder;

typedef struct {
    int64_t tokens, wanted;
    const int64_t *ids, *places;   /* (M); places in the tokens' sequences */
    const int32_t *const *blocks;  /* (M); the blocks of the tokens' sequences */
    const int64_t *rows;           /* (wanted); of which tokens logits are wanted */
    uint16_t *const *keys, *const *values; /* (layers); bfloat16 (blocks, K, 32, D) */
    float *logits;                 /* (wanted, vocabulary) */
} Step;

/* Tokens in 8 bits; a number is scale times a whole one, and sums are scale times the sum of a group's. */
typedef struct {
    int8_t *whole; /* (M, columns) */
    float *scale, *sums; /* (M, columns / 32) */
} Narrow;

ALWAYS __m512 from_bf16(const uint16_t *from) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

ALWAYS uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static void narrow(const float *x, int64_t columns, int8_t *whole, float *scale, float *sums) {
    for (int64_t g = 0; g < columns / GROUP; g++, x += GROUP, whole += GROUP) {
        __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
        float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        __m512 inverse = _mm512_set1_ps(top > 0 ? 127.0f / top : 0.0f);
        __m512i i = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)), j = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
        _mm_storeu_si128((__m128i *)whole, _mm512_cvtepi32_epi8(i));
        _mm_storeu_si128((__m128i *)(whole + 16), _mm512_cvtepi32_epi8(j));
        scale[g] = top / 127.0f;
        sums[g] = scale[g] * (float)_mm512_reduce_add_epi32(_mm512_add_epi32(i, j));
    }
}

ALWAYS void store(float *out, __m512 value, const float *bias, int add) {
    if (bias) value = _mm512_add_ps(value, _mm512_loadu_ps(bias));
    if (add) value = _mm512_add_ps(value, _mm512_loadu_ps(out));
    _mm512_storeu_ps(out, value);
}

/* Adds the products of sixteen rows with each token: four columns of weights a, and the four that are 16 further. */
ALWAYS void multiply(const int M, __m512i a, __m512i c, const int8_t *tokens, int64_t columns, __m512i *one, __m512i *other) {
    for (int m = 0; m < M; m++) {
        const int8_t *q = tokens + m * columns;
        one[m] = _mm512_dpbusd_epi32(one[m], a, repeated(q));
        other[m] = _mm512_dpbusd_epi32(other[m], c, repeated(q + 16));
    }
}

/* Rows 16 * first to 16 * last of weights (N, columns) times tokens (M, columns), into or onto out (M, stride). */
ALWAYS void product4(const int M, const Matrix *w, const Narrow *x, int64_t first, int64_t last, float *out,
                     int64_t stride, int add) {
    const int64_t groups = w->columns / GROUP;
    const __m512i low = _mm512_set1_epi8(15);
    for (int64_t b = first; b < last; b++) {
        const uint8_t *p = w->data + b * groups * 320;
        __m512 sum[MOST];
        for (int m = 0; m < M; m++) sum[m] = _mm512_setzero_ps();
        for (int64_t g = 0; g < groups; g++, p += 320) {
            __m512i one[MOST], other[MOST];
            for (int m = 0; m < M; m++) one[m] = other[m] = _mm512_setzero_si512();
            for (int i = 0; i < 4; i++) {
                __m512i both = _mm512_loadu_si512(p + 64 * i);
                __m512i a = _mm512_and_si512(both, low), c = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
                multiply(M, a, c, x->whole + g * GROUP + 4 * i, w->columns, one, other);
            }
            __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p + 256)));
            __m512 low_end = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p + 288)));
            for (int m = 0; m < M; m++) {
                __m512 dot = _mm512_cvtepi32_ps(_mm512_add_epi32(one[m], other[m]));
                sum[m] = _mm512_fmadd_ps(_mm512_mul_ps(scale, _mm512_set1_ps(x->scale[m * groups + g])), dot, sum[m]);
                sum[m] = _mm512_fmadd_ps(low_end, _mm512_set1_ps(x->sums[m * groups + g]), sum[m]);
            }
        }
        for (int m = 0; m < M; m++)
            store(out + m * stride + b * ROWS, sum[m], w->bias ? w->bias + b * ROWS : 0, add);
    }
}

ALWAYS void product8(const int M, const Matrix *w, const Narrow *x, int64_t first, int64_t last, float *out,
                     int64_t stride, int add) {
    const int64_t groups = w->columns / GROUP;
    __m512 shift[MOST]; /* weights are stored 128 higher, without a sign */
    for (int m = 0; m < M; m++) {
        float all = 0;
        for (int64_t g = 0; g < groups; g++) all += x->sums[m * groups + g];
        shift[m] = _mm512_set1_ps(128.0f * all);
    }
    for (int64_t b = first; b < last; b++) {
        const uint8_t *p = w->data + b * groups * 512;
        __m512 sum[MOST];
        for (int m = 0; m < M; m++) sum[m] = _mm512_setzero_ps();
        for (int64_t g = 0; g < groups; g++, p += 512) {
            __m512i one[MOST], other[MOST];
            for (int m = 0; m < M; m++) one[m] = other[m] = _mm512_setzero_si512();
            for (int i = 0; i < 4; i++) {
                __m512i a = _mm512_loadu_si512(p + 64 * i), c = _mm512_loadu_si512(p + 256 + 64 * i);
                multiply(M, a, c, x->whole + g * GROUP + 4 * i, w->columns, one, other);
            }
            for (int m = 0; m < M; m++) {
                __m512 dot = _mm512_cvtepi32_ps(_mm512_add_epi32(one[m], other[m]));
                sum[m] = _mm512_fmadd_ps(_mm512_set1_ps(x->scale[m * groups + g]), dot, sum[m]);
            }
        }
        __m512 scale = _mm512_loadu_ps(w->scale + b * ROWS);
        for (int m = 0; m < M; m++)
            store(out + m * stride + b * ROWS, _mm512_mul_ps(scale, _mm512_sub_ps(sum[m], shift[m])),
                  w->bias ? w->bias + b * ROWS : 0, add);
    }
}

#define WITH(M)                                                           \
    case M:                                                               \
        if (w->bits == 4) product4(M, w, &part, b, end, to, w->rows, add); \
        else product8(M, w, &part, b, end, to, w->rows, add);              \
        break;

/* This thread's share of weights (N, columns) times tokens, into or onto out (M, N). */
static void product(int64_t tokens, const Matrix *w, const Narrow *x, int64_t first, int64_t last, float *out, int add) {
    const int64_t groups = w->columns / GROUP;
    for (int64_t b = first; b < last; b += STRIPE) {
        const int64_t end = b + STRIPE < last ? b + STRIPE : last;
        for (int64_t m = 0; m < tokens; m += MOST) {
            const Narrow part = {x->whole + m * w->columns, x->scale + m * groups, x->sums + m * groups};
            float *to = out + m * w->rows;
            switch (tokens - m < MOST ? tokens - m : MOST) { WITH(1) WITH(2) WITH(3) WITH(4) WITH(5) WITH(6) WITH(7) WITH(8) }
        }
    }
}

static void normed(const float *x, const float *weight, int64_t size, float epsilon, float *out) {
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < size; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    __m512 factor = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)size + epsilon));
    for (int64_t i = 0; i < size; i += 16)
        _mm512_storeu_ps(out + i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), factor), _mm512_loadu_ps(weight + i)));
}

/* Norm (where there is one) and rotary positions of one head, in place. */
static void positioned(float *head, const float *norm, float epsilon, const float *cosine, const float *sine, int64_t size) {
    if (norm) normed(head, norm, size, epsilon, head);
    for (int64_t i = 0; i < size / 2; i++) {
        float a = head[i], b = head[i + size / 2];
        head[i] = a * cosine[i] - b * sine[i];
        head[i + size / 2] = b * cosine[i] + a * sine[i];
    }
}

/* One head of one token over the length first tokens of its sequence. */
ALWAYS void attend(const int64_t D, const float *query, const uint16_t *keys, const uint16_t *values, const int32_t *blocks,
                   int64_t head, int64_t kv_heads, int64_t length, float *scores, float *out) {
    const float factor = 1.0f / sqrtf((float)D);
    float top = -INFINITY;
    for (int64_t t = 0; t < length; t++) {
        const uint16_t *key = keys + ((blocks[t / BLOCK] * kv_heads + head) * BLOCK + t % BLOCK) * D;
        __m512 dot = _mm512_setzero_ps();
        for (int64_t i = 0; i < D; i += 16) dot = _mm512_fmadd_ps(_mm512_loadu_ps(query + i), from_bf16(key + i), dot);
        scores[t] = factor * _mm512_reduce_add_ps(dot);
        top = scores[t] > top ? scores[t] : top;
    }
    __m512 total = _mm512_setzero_ps();
    for (int64_t t = 0; t < length; t += 16) {
        __mmask16 there = lanes(length - t);
        __m512 e = exponential(_mm512_sub_ps(_mm512_maskz_loadu_ps(there, scores + t), _mm512_set1_ps(top)));
        e = _mm512_maskz_mov_ps(there, e);
        _mm512_mask_storeu_ps(scores + t, there, e);
        total = _mm512_add_ps(total, e);
    }
    const float inverse = 1.0f / _mm512_reduce_add_ps(total);
    memset(out, 0, D * sizeof(float));
    for (int64_t t = 0; t < length; t++) {
        const uint16_t *value = values + ((blocks[t / BLOCK] * kv_heads + head) * BLOCK + t % BLOCK) * D;
        __m512 weight = _mm512_set1_ps(scores[t] * inverse);
        for (int64_t i = 0; i < D; i += 16)
            _mm512_storeu_ps(out + i, _mm512_fmadd_ps(weight, from_bf16(value + i), _mm512_loadu_ps(out + i)));
    }
}

/* One row of a matrix, as numbers. */
static void row_of(const Matrix *w, int64_t row, float *out) {
    const int64_t groups = w->columns / GROUP, b = row / ROWS, r = row % ROWS;
    for (int64_t c = 0; c < w->columns; c++) {
        int64_t g = c / GROUP, k = c % GROUP;
        if (w->bits == 8) {
            out[c] = w->scale[row] * ((float)w->data[(b * groups + g) * 512 + k / 4 * 64 + r * 4 + k % 4] - 128.0f);
            continue;
        }
        const uint8_t *p = w->data + (b * groups + g) * 320;
        uint8_t both = p[k % 16 / 4 * 64 + r * 4 + k % 4];
        uint16_t ends[2];
        memcpy(ends, p + 256 + 2 * r, 2);
        memcpy(ends + 1, p + 288 + 2 * r, 2);
        out[c] = _cvtsh_ss(ends[0]) * (float)(k < 16 ? both & 15 : both >> 4) + _cvtsh_ss(ends[1]);
    }
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Computes a step; 0, or 1 if memory is short, in which case nothing was changed. */
int deepseek_decode(const Decoder *d, const Step *s) {
    const int64_t M = s->tokens, E = d->hidden, D = d->head_size, H = d->heads, K = d->kv_heads, F = d->inner;
    const int64_t wide = (H + 2 * K) * D, widest = larger(larger(E, H * D), F);
    int64_t longest = 0;
    for (int64_t m = 0; m < M; m++) longest = larger(longest, s->places[m] + 1);
    const int64_t own = M * widest * 2 + longest + 16; /* of a thread, in floats */
    const int64_t shared = M * (E + wide + H * D + 2 * F + D);
    const size_t phases = sizeof(Phase) * (2 + 6 * d->layers); /* loops of take: six a layer, one before and one after */
    Phase *phase = aligned_alloc(64, phases);
    float *memory = malloc(sizeof(float) * (shared + own * d->threads));
    if (!memory || !phase) { free(memory); free(phase); return 1; }
    memset(phase, 0, phases);
    float *x = memory, *qkv = x + M * E, *mixed = qkv + M * wide, *gate = mixed + M * H * D, *up = gate + M * F;
    float *cosines = up + M * F, *sines = cosines + M * D / 2;
#pragma omp parallel num_threads(d->threads)
    {
        float *normal = memory + shared + own * omp_get_thread_num();
        Narrow small = {(int8_t *)(normal + M * widest), 0, 0};
        small.scale = (float *)(small.whole + M * widest);
        small.sums = small.scale + M * widest / GROUP;
        float *scores = normal + 2 * M * widest;
        Team team = {phase, omp_get_num_threads(), 0};
        int64_t first, end;
        int ready; /* whether this thread has the tokens that it multiplies */
#define NARROW(from, columns)                                                                                     \
    for (int64_t m = 0; m < M; m++)                                                                               \
        narrow((from) + m * (columns), columns, small.whole + m * (columns), small.scale + m * ((columns) / GROUP), \
               small.sums + m * ((columns) / GROUP));
        while (take(&team, M, &first, &end)) for (int64_t m = first; m < end; m++) {
            row_of(&d->embedding, s->ids[m], x + m * E);
            for (int64_t i = 0; i < D / 2; i++) {
                float angle = (float)s->places[m] * d->frequencies[i];
                cosines[m * D / 2 + i] = d->rotary_scale * cosf(angle);
                sines[m * D / 2 + i] = d->rotary_scale * sinf(angle);
            }
        }
        for (int64_t number = 0; number < d->layers; number++) {
            const Layer *layer = d->layer + number;
            for (ready = 0; take(&team, wide / ROWS, &first, &end); ready = 1) {
                if (!ready) {
                    for (int64_t m = 0; m < M; m++) normed(x + m * E, layer->attention_norm, E, d->epsilon, normal + m * E);
                    NARROW(normal, E)
                }
                product(M, &layer->qkv, &small, first, end, qkv, 0);
            }
            while (take(&team, M * (H + K), &first, &end))
                for (int64_t unit = first; unit < end; unit++) {
                    int64_t m = unit / (H + K), head = unit % (H + K), place = s->places[m];
                    float *from = qkv + m * wide + head * D; /* a query, or after them a key of a new token */
                    const float *norm = head < H ? layer->query_norm : layer->key_norm;
                    positioned(from, norm, d->epsilon, cosines + m * D / 2, sines + m * D / 2, D);
                    if (head < H) continue;
                    int64_t at = ((s->blocks[m][place / BLOCK] * K + head - H) * BLOCK + place % BLOCK) * D;
                    for (int64_t i = 0; i < D; i++) {
                        s->keys[number][at + i] = to_bf16(from[i]);
                        s->values[number][at + i] = to_bf16(from[K * D + i]);
                    }
                }
            while (take(&team, M * H, &first, &end))
                for (int64_t unit = first; unit < end; unit++) {
                    int64_t m = unit / H, head = unit % H;
                    const float *query = qkv + m * wide + head * D;
                    float *out = mixed + unit * D;
                    const uint16_t *keys = s->keys[number], *values = s->values[number];
                    if (D == 64) attend(64, query, keys, values, s->blocks[m], head / (H / K), K, s->places[m] + 1, scores, out);
                    else if (D == 128) attend(128, query, keys, values, s->blocks[m], head / (H / K), K, s->places[m] + 1, scores, out);
                    else attend(D, query, keys, values, s->blocks[m], head / (H / K), K, s->places[m] + 1, scores, out);
                }
            for (ready = 0; take(&team, E / ROWS, &first, &end); ready = 1) {
                if (!ready) { NARROW(mixed, H * D) }
                product(M, &layer->output, &small, first, end, x, 1);
            }
            for (ready = 0; take(&team, F / ROWS, &first, &end); ready = 1) {
                if (!ready) {
                    for (int64_t m = 0; m < M; m++) normed(x + m * E, layer->feed_norm, E, d->epsilon, normal + m * E);
                    NARROW(normal, E)
                }
                product(M, &layer->gate, &small, first, end, gate, 0);
                product(M, &layer->up, &small, first, end, up, 0);
                for (int64_t m = 0; m < M; m++)
                    for (int64_t i = first * ROWS; i < end * ROWS; i += 16) {
                        /* x * sigmoid(x), with e^-|x| so that nothing overflows */
                        __m512 g = _mm512_loadu_ps(gate + m * F + i), one = _mm512_set1_ps(1.0f);
                        __m512 e = exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_abs_ps(g)));
                        __m512 above = _mm512_div_ps(one, _mm512_add_ps(one, e));
                        __mmask16 below = _mm512_cmp_ps_mask(g, _mm512_setzero_ps(), _CMP_LT_OQ);
                        __m512 sigmoid = _mm512_mask_mul_ps(above, below, above, e);
                        _mm512_storeu_ps(gate + m * F + i, _mm512_mul_ps(_mm512_mul_ps(g, sigmoid), _mm512_loadu_ps(up + m * F + i)));
                    }
            }
            for (ready = 0; take(&team, E / ROWS, &first, &end); ready = 1) {
                if (!ready) { NARROW(gate, F) }
                product(M, &layer->down, &small, first, end, x, 1);
            }
        }
        for (ready = 0; s->wanted && take(&team, d->head.rows / ROWS, &first, &end); ready = 1) {
            if (!ready)
                for (int64_t i = 0; i < s->wanted; i++) {
                    normed(x + s->rows[i] * E, d->final_norm, E, d->epsilon, normal);
                    narrow(normal, E, small.whole + i * E, small.scale + i * (E / GROUP), small.sums + i * (E / GROUP));
                }
            product(s->wanted, &d->head, &small, first, end, s->logits, 0);
        }
    }
    free(phase);
    free(memory);
    return 0;
}

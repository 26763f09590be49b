/* An encoder's pass (BERT's layers) in 8 bits, for CPUs with AVX-512 VNNI or AMX.
 *
 * Rows are ragged: tokens of all rows one after the other, none of them padding. Weights are int8 with a scale for each
 * output, tokens are quantised with a scale each where they are multiplied; attention is in bfloat16, all else float32.
 * Shapes: T tokens (padded to a multiple of 32), E hidden, H heads, D head size, F inner size, N outputs of a matrix.
 */
#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "team.h"
#include "vectors.h"

typedef struct {
    const int8_t *data; /* (N / 32, K / 64, 2, 16, 64): four columns of sixteen outputs in a row of 64 bytes */
    const float *scale, *bias; /* (N) */
    const float *smooth;       /* (K) or null: tokens are multiplied by it before they are quantised */
    const int32_t *low;        /* (N) without tiles: -128 times the sum of an output's weights */
    int64_t rows, columns;
} Matrix;

typedef struct {
    Matrix qkv, output, up, down;
    const float *attention_weight, *attention_bias, *feed_weight, *feed_bias; /* LayerNorm, (E) */
} Layer;

typedef struct {
    int64_t layers, hidden, heads, head_size, inner, threads, tiles;
    float epsilon;
    const float *words, *places, *types, *weight, *bias; /* embeddings and their LayerNorm */
    const Layer *layer;
} Encoder;

typedef struct {
    int64_t count; /* rows */
    const int64_t *starts; /* (count + 1) */
    const int64_t *ids, *places, *types;
    float *out; /* (tokens, E) */
} Batch;

/* Tokens in 8 bits; a number is scale times a whole one. */
typedef struct {
    int8_t *whole; /* (padded, columns) */
    float *scale;  /* (padded) */
} Narrow;

typedef struct {
    int64_t tokens, block;  /* T, and how many of them pass the feed-forward together */
    float *x, *mixed;       /* (padded, E); hidden states, and what attention mixed */
    float *wide;            /* (padded block, F) */
    Narrow narrow, deep;    /* of E columns, and of a block's F */
    uint16_t *qkv;          /* (padded, 3E) */
} Buffers;

/* x (1 + erf(x / sqrt 2)) / 2 to 4e-5, a hundredth of what 8 bits round to: erf is x times a polynomial of x x up to
 * 4.4, fitted by least squares at Chebyshev's points, and 1 beyond. With an exponential it would take as long as the
 * product whose outputs it is for. */
ALWAYS __m512 gelu(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f), end = _mm512_set1_ps(4.4f), zero = _mm512_setzero_ps();
    const __m512 t = _mm512_max_ps(_mm512_min_ps(x, end), _mm512_sub_ps(zero, end)), u = _mm512_mul_ps(t, t);
    __m512 p = _mm512_set1_ps(6.78341758e-11f);
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(-7.19940463e-09f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(3.37012608e-07f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(-9.23269272e-06f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(0.000166132566f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(-0.00209377962f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(0.0192265678f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(-0.132046342f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(0.797456801f));
    const __m512 erf = _mm512_max_ps(_mm512_min_ps(_mm512_mul_ps(t, p), one), _mm512_sub_ps(zero, one));
    return _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(0.5f)), _mm512_add_ps(one, erf));
}

/* A token in 8 bits: out times scale; without tiles 128 higher. */
static void narrow(const float *x, const float *smooth, int64_t size, int64_t tiles, int8_t *out, float *scale) {
    const __m128i lift = _mm_set1_epi8(tiles ? 0 : (char)LIFT);
    __m512 top = _mm512_setzero_ps();
    for (int64_t i = 0; i < size; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        if (smooth) v = _mm512_mul_ps(v, _mm512_loadu_ps(smooth + i));
        top = _mm512_max_ps(top, _mm512_abs_ps(v));
    }
    float most = _mm512_reduce_max_ps(top);
    __m512 inverse = _mm512_set1_ps(most > 0 ? 127.0f / most : 0.0f);
    for (int64_t i = 0; i < size; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        if (smooth) v = _mm512_mul_ps(v, _mm512_loadu_ps(smooth + i));
        const __m128i whole = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v, inverse)));
        _mm_storeu_si128((__m128i *)(out + i), _mm_xor_si128(whole, lift));
    }
    *scale = most / 127.0f;
}

static void normed(float *x, const float *weight, const float *bias, int64_t size, float epsilon) {
    __m512 sum = _mm512_setzero_ps(), squares = sum;
    for (int64_t i = 0; i < size; i += 16) sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + i));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)size);
    for (int64_t i = 0; i < size; i += 16) {
        __m512 v = _mm512_sub_ps(_mm512_loadu_ps(x + i), mean);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    __m512 factor = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)size + epsilon));
    for (int64_t i = 0; i < size; i += 16) {
        __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), mean), factor);
        _mm512_storeu_ps(x + i, _mm512_fmadd_ps(v, _mm512_loadu_ps(weight + i), _mm512_loadu_ps(bias + i)));
    }
}

enum { AS_BF16, ONTO, GELU };

/* Outputs 32 * first to 32 * last for T tokens: into bfloat16, onto float32, or through GELU into float32. */
ALWAYS void product(const int how, const int tiles, const Matrix *w, int64_t T, const int8_t *x, const float *x_scale, int64_t first,
                    int64_t last, void *out) {
    const int64_t K = w->columns, N = w->rows, depth = K / DEEP;
    int32_t sums[PAIR * PAIR] __attribute__((aligned(64)));
    for (int64_t n = first; n < last; n++) {
        const int8_t *weights = w->data + n * depth * 2 * 1024;
        const __m512 scale[2] = {_mm512_loadu_ps(w->scale + n * PAIR), _mm512_loadu_ps(w->scale + n * PAIR + 16)};
        const __m512 bias[2] = {_mm512_loadu_ps(w->bias + n * PAIR), _mm512_loadu_ps(w->bias + n * PAIR + 16)};
        for (int64_t t = 0; t < T; t += PAIR) {
            const int64_t there = T - t < PAIR ? T - t : PAIR;
            whole_sums(tiles, x + t * K, K, weights, t == 0 && n + 1 < last, tiles ? 0 : w->low + n * PAIR, there, sums);
            for (int64_t m = 0; m < there; m++) {
                const __m512 own = _mm512_set1_ps(x_scale[t + m]);
                for (int half = 0; half < 2; half++) {
                    __m512 v = _mm512_cvtepi32_ps(_mm512_load_si512(sums + m * PAIR + half * TILE));
                    v = _mm512_fmadd_ps(_mm512_mul_ps(own, scale[half]), v, bias[half]);
                    const int64_t at = (t + m) * N + n * PAIR + half * TILE;
                    if (how == AS_BF16) to_bf16((uint16_t *)out + at, v);
                    else if (how == GELU) _mm512_storeu_ps((float *)out + at, gelu(v));
                    else _mm512_storeu_ps((float *)out + at, _mm512_add_ps(v, _mm512_loadu_ps((float *)out + at)));
                }
            }
        }
    }
}

static int64_t padded(int64_t tokens) { return (tokens + 31) / 32 * 32; }

/* One head of one row of T tokens; the place of a token's query is qkv, keys E further, values 2E. */
static void attend(const int tiles, const uint16_t *qkv, int64_t T, int64_t E, int64_t D, float *out, uint8_t *memory) {
    const int64_t stride = 3 * E, P = padded(T), parts = D / 32, wide = D / 16;
    uint16_t *keys = (uint16_t *)memory;     /* (P / 16, D / 32, 16, 32): pairs of a head's numbers of sixteen keys */
    uint16_t *values = keys + P * D;         /* (P / 32, D / 16, 16, 32): pairs of tokens of sixteen numbers */
    uint16_t *shares = values + P * D;       /* (16, P) */
    float *scores = (float *)(shares + 16 * P); /* (16, P) */
    float *mixed = scores + 16 * P;          /* (16, D) */
    uint16_t *queries = (uint16_t *)(mixed + 16 * D); /* (16, D) */
    const float factor = 1.44269504f / sqrtf((float)D); /* of scores as powers of two */
    const int64_t whole = T / 16 * 16;
    const __mmask16 rest = lanes(T - whole);
    for (int64_t t = 0; t < P; t += 16)
        for (int64_t d = 0; d < D; d += 32) {
            __m512i rows[16];
            for (int m = 0; m < 16; m++) rows[m] = t + m < T ? _mm512_loadu_si512(qkv + (t + m) * stride + E + d) : _mm512_setzero_si512();
            turned(rows, keys + (t / 16 * parts + d / 32) * 512);
        }
    for (int64_t t = 0; t < P; t += 2)
        for (int64_t d = 0; d < D; d += 16) {
            __m256i one = t < T ? _mm256_loadu_si256((const __m256i *)(qkv + t * stride + 2 * E + d)) : _mm256_setzero_si256();
            __m256i two = t + 1 < T ? _mm256_loadu_si256((const __m256i *)(qkv + (t + 1) * stride + 2 * E + d)) : _mm256_setzero_si256();
            __m512i pair = _mm512_or_si512(_mm512_cvtepu16_epi32(one), _mm512_slli_epi32(_mm512_cvtepu16_epi32(two), 16));
            _mm512_storeu_si512(values + ((t / 32 * wide + d / 16) * 16 + t % 32 / 2) * 32, pair);
        }
    for (int64_t q = 0; q < T; q += TILE) {
        const int64_t there = T - q < TILE ? T - q : TILE;
        for (int64_t m = 0; m < TILE; m++) {
            if (m < there) memcpy(queries + m * D, qkv + (q + m) * stride, 2 * D);
            else memset(queries + m * D, 0, 2 * D);
        }
        for (int64_t k = 0; k < P; k += TILE) halves_sums(tiles, queries, D, keys + k / 16 * parts * 512, 512, parts, scores + k, P);
        for (int64_t m = 0; m < there; m++) {
            float *row = scores + m * P;
            uint16_t *share = shares + m * P;
            __m512 top = _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), rest, row + whole), total = _mm512_setzero_ps();
            for (int64_t k = 0; k < whole; k += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(row + k));
            const __m512 most = _mm512_set1_ps(factor * _mm512_reduce_max_ps(top)), factors = _mm512_set1_ps(factor);
            for (int64_t k = 0; k < whole; k += 16) {
                const __m512 e = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(row + k), factors, most));
                total = _mm512_add_ps(total, e);
                to_bf16(share + k, e);
            }
            if (rest) {
                const __m512 e = power_of_two(_mm512_fmsub_ps(_mm512_maskz_loadu_ps(rest, row + whole), factors, most));
                total = _mm512_mask_add_ps(total, rest, total, e);
                to_bf16(share + whole, _mm512_maskz_mov_ps(rest, e));
            }
            for (int64_t k = whole + (rest ? 16 : 0); k < P; k += 16) _mm256_storeu_si256((__m256i *)(share + k), _mm256_setzero_si256());
            row[0] = 1.0f / _mm512_reduce_add_ps(total); /* scores are read no more */
        }
        for (int64_t d = 0; d < wide; d++) halves_sums(tiles, shares, P, values + d * 512, wide * 512, P / 32, mixed + d * 16, D);
        for (int64_t m = 0; m < there; m++) {
            const __m512 inverse = _mm512_set1_ps(scores[m * P]);
            for (int64_t d = 0; d < D; d += 16)
                _mm512_storeu_ps(out + (q + m) * E + d, _mm512_mul_ps(inverse, _mm512_loadu_ps(mixed + m * D + d)));
        }
    }
}

/* Rows first_row to last_row, computed by a team of threads of which this is one. */
static void encode(const Encoder *e, const Batch *batch, int64_t first_row, int64_t last_row, const Buffers *b,
                   uint8_t *memory, Team *team) {
    const int64_t E = e->hidden, D = e->head_size, H = e->heads, F = e->inner, rows = last_row - first_row;
    const int64_t begin = batch->starts[first_row], T = b->tokens;
    int64_t first, last;
    const Narrow *small = &b->narrow, *deep = &b->deep;
#define TOKENS(count, ...)                   \
    while (take(team, count, &first, &last)) \
        for (int64_t t = first; t < last; t++) { __VA_ARGS__ }
#define NARROW(x, smooth, size, into, at) narrow(x, smooth, size, e->tiles, (into)->whole + (at) * (size), (into)->scale + (at))
    TOKENS(
        T, float *x = b->x + t * E;
        const float *word = e->words + batch->ids[begin + t] * E, *place = e->places + batch->places[begin + t] * E;
        const float *type = e->types ? e->types + batch->types[begin + t] * E : 0;
        for (int64_t i = 0; i < E; i++) x[i] = word[i] + place[i] + (type ? type[i] : 0.0f);
        normed(x, e->weight, e->bias, E, e->epsilon);
        NARROW(x, e->layer[0].qkv.smooth, E, small, t);
    )
    for (int64_t number = 0; number < e->layers; number++) {
        const Layer *layer = e->layer + number;
        while (take(team, layer->qkv.rows / PAIR, &first, &last)) product(AS_BF16, e->tiles, &layer->qkv, T, small->whole, small->scale, first, last, b->qkv);
        while (take(team, rows * H, &first, &last))
            for (int64_t unit = first; unit < last; unit++) {
                const int64_t row = first_row + unit / H, head = unit % H, at = batch->starts[row] - begin;
                attend(e->tiles, b->qkv + at * 3 * E + head * D, batch->starts[row + 1] - batch->starts[row], E, D, b->mixed + at * E + head * D, memory);
            }
        TOKENS(T, NARROW(b->mixed + t * E, layer->output.smooth, E, small, t);)
        while (take(team, E / PAIR, &first, &last)) product(ONTO, e->tiles, &layer->output, T, small->whole, small->scale, first, last, b->x);
        TOKENS(
            T, normed(b->x + t * E, layer->attention_weight, layer->attention_bias, E, e->epsilon);
            NARROW(b->x + t * E, layer->up.smooth, E, small, t);
        )
        for (int64_t from = 0; from < T; from += b->block) {
            const int64_t now = T - from < b->block ? T - from : b->block;
            const int8_t *whole = small->whole + from * E;
            while (take(team, F / PAIR, &first, &last)) product(GELU, e->tiles, &layer->up, now, whole, small->scale + from, first, last, b->wide);
            TOKENS(now, NARROW(b->wide + t * F, layer->down.smooth, F, deep, t);)
            while (take(team, E / PAIR, &first, &last))
                product(ONTO, e->tiles, &layer->down, now, deep->whole, deep->scale, first, last, b->x + from * E);
        }
        TOKENS(
            T, normed(b->x + t * E, layer->feed_weight, layer->feed_bias, E, e->epsilon);
            if (number + 1 < e->layers) NARROW(b->x + t * E, e->layer[number + 1].qkv.smooth, E, small, t);
        )
    }
    TOKENS(T, memcpy(batch->out + (begin + t) * E, b->x + t * E, E * sizeof(float));)
}

/* Tokens of a thread's part of a batch, and of a block: what AMX reads all weights for, and what stays in a core's cache
 * without. */
#define CHUNK(tiles) ((tiles) ? 512 : 128)

/* Calls of take that encode waits for: six a layer and three a block of it, one before and one after. */
static int64_t phases_of(const Encoder *e, int64_t tokens) {
    const int64_t blocks = (tokens + CHUNK(e->tiles) - 1) / CHUNK(e->tiles);
    return 2 + (6 + 3 * blocks) * e->layers;
}

static size_t ceiling(size_t bytes) { return (bytes + 63) / 64 * 64; }

static size_t attention_size(const Encoder *e, int64_t longest) {
    const size_t P = padded(longest), D = e->head_size;
    return ceiling(4 * P * D + 32 * P + 64 * P + 64 * D + 32 * D);
}

/* Where all is in memory, which moves on by as much; from null it tells how much. */
static Buffers buffers(const Encoder *e, int64_t tokens, uint8_t **memory) {
    const int64_t chunk = CHUNK(e->tiles), block = tokens < chunk ? tokens : chunk;
    const size_t T = padded(tokens), B = padded(block), E = e->hidden, F = e->inner;
    Buffers b = {.tokens = tokens, .block = block};
    uint8_t *at = *memory;
#define PLACE(what, bytes) what = (void *)at, at += ceiling(bytes)
    PLACE(b.x, T * E * 4);
    PLACE(b.mixed, T * E * 4);
    PLACE(b.wide, B * F * 4);
    PLACE(b.narrow.whole, T * E);
    PLACE(b.narrow.scale, T * 4);
    PLACE(b.deep.whole, B * F);
    PLACE(b.deep.scale, B * 4);
    PLACE(b.qkv, T * E * 6);
    *memory = at;
    return b;
}

/* Whether AMX's tiles multiply: the processor has them and the system gives them to this process. */
int deepseek_encoder_tiles(void) { return tiles_given(); }

/* What Matrix has as low, from data. */
void deepseek_encoder_low(const int8_t *data, int64_t rows, int64_t columns, int32_t *low) {
    const __m512i ones = _mm512_set1_epi8(1), zero = _mm512_setzero_si512();
    for (int64_t n = 0; n < rows; n += PAIR)
        for (int64_t half = 0; half < 2; half++) {
            __m512i sum = zero;
            for (int64_t k = 0; k < columns / DEEP; k++)
                for (int64_t i = 0; i < 16; i++)
                    sum = _mm512_dpbusd_epi32(sum, ones, _mm512_loadu_si512(data + n * columns + k * 2048 + half * 1024 + i * 64));
            _mm512_storeu_si512(low + n + half * TILE, _mm512_sub_epi32(zero, _mm512_slli_epi32(sum, 7)));
        }
}

/* Computes the last hidden states of a batch; 0, or 1 if memory is short. */
int deepseek_encode(const Encoder *e, const Batch *batch) {
    const int64_t *starts = batch->starts, rows = batch->count, threads = e->threads;
    int64_t longest = 0;
    for (int64_t r = 0; r < rows; r++) longest = starts[r + 1] - starts[r] > longest ? starts[r + 1] - starts[r] : longest;
    int64_t alone = threads > 1 && rows >= 2 * threads; /* enough rows that each thread takes some for itself */
    /* parts of rows with at most a chunk's tokens, or one row */
    int64_t *parts = malloc(sizeof(int64_t) * (rows + 1)), count = 0, most = 0;
    if (!parts) return 1;
    const int64_t total = starts[rows], chunk = CHUNK(e->tiles);
    const int64_t limit = alone && total / threads < chunk ? total / threads + 1 : chunk;
    parts[0] = 0;
    for (int64_t r = 1; r <= rows; r++)
        if (r == rows || starts[r + 1] - starts[parts[count]] > limit) {
            parts[++count] = r;
            most = starts[r] - starts[parts[count - 1]] > most ? starts[r] - starts[parts[count - 1]] : most;
        }
    uint8_t *end = 0;
    buffers(e, most, &end);
    const size_t each = (size_t)end + (alone ? 1 : threads) * attention_size(e, longest);
    const size_t phases = count * phases_of(e, most) * sizeof(Phase); /* of a team; threads alone need none */
    uint8_t *memory = aligned_alloc(64, each * (alone ? threads : 1) + phases);
    if (!memory) { free(parts); return 1; }
    Phase *phase = (Phase *)memory;
    memset(phase, 0, phases);
    uint8_t *room = memory + phases;
#pragma omp parallel num_threads(threads)
    {
        if (e->tiles) tiles_on();
        if (alone) {
            uint8_t *mine = room + each * omp_get_thread_num();
#pragma omp for schedule(dynamic, 1)
            for (int64_t p = 0; p < count; p++) {
                uint8_t *own = mine;
                Team team = {0, 1, 0};
                Buffers b = buffers(e, starts[parts[p + 1]] - starts[parts[p]], &own);
                encode(e, batch, parts[p], parts[p + 1], &b, own, &team);
            }
        } else {
            Team team = {phase, omp_get_num_threads(), 0};
            for (int64_t p = 0; p < count; p++) {
                uint8_t *own = room;
                Buffers b = buffers(e, starts[parts[p + 1]] - starts[parts[p]], &own);
                encode(e, batch, parts[p], parts[p + 1], &b, own + omp_get_thread_num() * attention_size(e, longest), &team);
            }
        }
        if (e->tiles) tiles_off();
    }
    free(memory);
    free(parts);
    return 0;
}

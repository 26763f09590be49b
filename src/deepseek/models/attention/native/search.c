/* The gate's search for far blocks in a tree of summaries, in bfloat16 (by AMX's tiles, or AVX-512's lanes)
 * or float32 (WIDE, by lanes).
 *
 * What deepseek/models/attention/gate.py does, a query block at a time, with scores in float32: all nodes of the level that
 * the search begins on, by products of tiles; below it the children of the nodes that were kept. An encoder's block chooses
 * for all of its tokens, by the greatest of their probabilities; a decoder's tokens choose for themselves.
 *
 * Shapes: G groups (heads of texts), H heads, T tokens, W tokens of a block, N key blocks, C content features, E the same
 * rounded up, R distances, K choices.
 */
#include <immintrin.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"
#include "vectors.h"

#define LOW -1e30f
#define NOBODY (-5e29f) /* what has less is no candidate */
#define LOG2E 1.44269504f
#define LEVELS 32
#define FEW 32 /* candidates that are sorted without looking for the least that is kept */
#define FOURTH (STEP / 4) /* numbers of 16 bytes */

typedef struct {
    int64_t groups, heads, tokens, first, blocks, width, features, content, distances, local, sinks, causal, roots, branching, beam;
    int64_t levels, choices, most, threads, tiles; /* most: candidates of a level at most */
    double scale;    /* of scores, which matters where probabilities are compared */
    const Number *q; /* (B, H, T, C); its first block is that of number `first` */
    int64_t q_text, q_head, q_row;
    const Number *const *keys; /* of each level (G, nodes, C) */
    const float *const *mass;    /* (G, nodes) */
    const int64_t *nodes;
    const Number *r;     /* (H, R, C) */
    const int32_t *bucket; /* (2 N + 1), of distances from -N */
    const int32_t *due;    /* of each query block, how many it chooses */
    const uint8_t *hidden; /* (B, T) of queries, or null */
    int32_t *out;          /* (G, T or query blocks, K), -1 for none */
} Search;

/* A head's tree as products read it. */
typedef struct {
    Number *rows[LEVELS];  /* (nodes, E), zeros behind the content */
    Number *fours[LEVELS]; /* the same, children of a node beside each other: (nodes above, fours of children, lines, 4, 16 bytes) */
    Number *tiles[LEVELS]; /* of the first nodes, as many as a search may begin with */
    float *bias[LEVELS];     /* 0, or LOW for a node of nothing */
    int32_t *gaps;           /* of each level, whether it has such nodes */
    Number *distance;      /* (R rounded up, E) */
} Tree;

typedef struct {
    Number *query, *gathered, *packed; /* (W, E); (candidates, E) twice */
    float *far, *score, *best;           /* (W, R rounded up); (W, candidates); (candidates) */
    int32_t *node, *bucket;              /* (candidates) */
    int32_t *parent, *child;             /* (candidates): which node kept a token's candidate is a child of, and which of its children */
    float *bias, *top;                   /* (candidates); (W, 16) */
    int32_t *kept;                       /* (W, kept), and how many */
    int64_t *number;                     /* (W) */
} Room;

/* Sixteen numbers and what they are of. */
typedef struct { __m512 x; __m512i who; } Sixteen;

/* Lanes and their partners: where `bigger` is set the greater of both stays, elsewhere the smaller. */
#define EXCHANGE(SHUFFLE_X, SHUFFLE_WHO, bigger)                                                                       \
    do {                                                                                                              \
        const __m512 other = SHUFFLE_X, now = _mm512_mask_max_ps(_mm512_min_ps(s.x, other), bigger, s.x, other);      \
        s.who = _mm512_mask_mov_epi32(s.who, _mm512_cmp_ps_mask(now, s.x, _CMP_NEQ_OQ), SHUFFLE_WHO);                 \
        s.x = now;                                                                                                    \
    } while (0)
#define BY_1(bigger) EXCHANGE(_mm512_permute_ps(s.x, 0xb1), _mm512_shuffle_epi32(s.who, 0xb1), bigger)
#define BY_2(bigger) EXCHANGE(_mm512_permute_ps(s.x, 0x4e), _mm512_shuffle_epi32(s.who, 0x4e), bigger)
#define BY_4(bigger) EXCHANGE(_mm512_shuffle_f32x4(s.x, s.x, 0xb1), _mm512_shuffle_i32x4(s.who, s.who, 0xb1), bigger)
#define BY_8(bigger) EXCHANGE(_mm512_shuffle_f32x4(s.x, s.x, 0x4e), _mm512_shuffle_i32x4(s.who, s.who, 0x4e), bigger)

/* What rises and then falls, or the other way round, as falling. */
ALWAYS Sixteen falling(Sixteen s) {
    BY_8(0x00ff); BY_4(0x0f0f); BY_2(0x3333); BY_1(0x5555);
    return s;
}

#define PLACES _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)

/* Sorted, the greatest first (Batcher's bitonic network). */
ALWAYS Sixteen sorted(Sixteen s) {
    BY_1(0x9999);
    BY_2(0xc3c3); BY_1(0xa5a5);
    BY_4(0xf00f); BY_2(0xcc33); BY_1(0xaa55);
    return falling(s);
}

/* The sixteen greatest of two that are sorted, sorted. */
ALWAYS Sixteen merged(Sixteen a, Sixteen b) {
    const __m512i back = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    b.x = _mm512_permutexvar_ps(back, b.x);
    b.who = _mm512_permutexvar_epi32(back, b.who);
    const __mmask16 take = _mm512_cmp_ps_mask(b.x, a.x, _CMP_GT_OQ);
    return falling((Sixteen){_mm512_mask_mov_ps(a.x, take, b.x), _mm512_mask_mov_epi32(a.who, take, b.who)});
}

/* One after the other, for more than sixteen; x is used up. */
static int64_t greatest_in_turn(float *x, int64_t count, int64_t keep, int32_t *which) {
    int64_t found = 0;
    for (; found < keep; found++) {
        __m512 top = _mm512_loadu_ps(x);
        for (int64_t i = 16; i < count; i += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(x + i));
        const float most = _mm512_reduce_max_ps(top);
        if (!(most > NOBODY)) break;
        const __m512 same = _mm512_set1_ps(most);
        for (int64_t i = 0; i < count; i += 16) {
            const __mmask16 here = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), same, _CMP_EQ_OQ);
            if (!here) continue;
            const int lane = __builtin_ctz(here);
            which[found] = (int32_t)(i + lane);
            x[i + lane] = LOW;
            break;
        }
    }
    return found;
}

/* What as many as `keep` of a row are no less than: of each lane's greatest, the one in the last place that is kept. */
ALWAYS __m512 no_less(__m512 tops, int64_t keep) {
    const __m512 order = sorted((Sixteen){tops, _mm512_setzero_si512()}).x;
    return _mm512_max_ps(_mm512_permutexvar_ps(_mm512_set1_epi32((int)keep - 1), order), _mm512_set1_ps(NOBODY));
}

/* The numbers of those of x (count) that are no less than `enough`, in order; room behind them for sixteen. */
ALWAYS int64_t those_above(const float *x, int64_t count, __m512 enough, int32_t *who) {
    __m512i at = PLACES;
    int64_t there = 0;
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 some = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), enough, _CMP_GE_OQ);
        _mm512_storeu_si512(who + there, _mm512_maskz_compress_epi32(some, at));
        there += __builtin_popcount(some);
        at = _mm512_add_epi32(at, _mm512_set1_epi32(16));
    }
    return there;
}

/* The sixteen greatest of those before, if there are any, and of sixteen more, sorted. */
ALWAYS Sixteen with_more(int64_t before, Sixteen best, Sixteen s) { return before ? merged(best, sorted(s)) : sorted(s); }

/* Those of sorted ones that are kept, if they are candidates at all. */
ALWAYS int64_t keep_of(Sixteen best, int64_t keep, int32_t *which) {
    const __mmask16 good = _mm512_cmp_ps_mask(best.x, _mm512_set1_ps(NOBODY), _CMP_GT_OQ) & lanes(keep);
    _mm512_mask_storeu_epi32(which, good, best.who);
    return __builtin_popcount(good);
}

/* Of x, the `keep` greatest of those whose numbers are given. */
ALWAYS int64_t greatest_of(const float *x, const int32_t *who, int64_t there, int64_t keep, int32_t *which) {
    Sixteen best;
    for (int64_t i = 0; i == 0 || i < there; i += 16) {
        const __mmask16 some = lanes(there - i);
        const __m512i at = _mm512_maskz_loadu_epi32(some, who + i);
        best = with_more(i, best, (Sixteen){_mm512_mask_i32gather_ps(_mm512_set1_ps(LOW), some, at, x, 4), at});
    }
    return keep_of(best, keep, which);
}

/* Of x (count, few), the `keep` greatest. */
ALWAYS int64_t greatest_of_few(const float *x, int64_t count, int64_t keep, int32_t *which) {
    Sixteen best;
    for (int64_t i = 0; i < count; i += 16)
        best = with_more(i, best, (Sixteen){_mm512_loadu_ps(x + i), _mm512_add_epi32(PLACES, _mm512_set1_epi32((int)i))});
    return keep_of(best, keep, which);
}

/* The greatest of each lane of x (count, a multiple of 16). */
ALWAYS __m512 tops_of(const float *x, int64_t count) {
    __m512 top = _mm512_loadu_ps(x);
    for (int64_t i = 16; i < count; i += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(x + i));
    return top;
}

/* The numbers of at most `keep` greatest of x (count, a multiple of 16), greatest first; x is used up. */
ALWAYS int64_t greatest(float *x, int64_t count, int64_t keep, int32_t *which) {
    if (keep > TILE) return greatest_in_turn(x, count, keep, which);
    int32_t who[count + TILE];
    return greatest_of(x, who, those_above(x, count, no_less(tops_of(x, count), keep), who), keep, which);
}

/* Entries of a token's row of distances' terms. */
ALWAYS __m512 terms_at(const float *far, int64_t R, __m512i bucket) {
    const __m512 first = _mm512_loadu_ps(far), second = _mm512_loadu_ps(far + (R > 16 ? 16 : 0));
    if (R <= 32) return _mm512_permutex2var_ps(first, bucket, second);
    if (R > 64) return _mm512_i32gather_ps(bucket, far, 4);
    const __m512 third = _mm512_loadu_ps(far + 32), fourth = _mm512_loadu_ps(far + (R > 48 ? 48 : 32));
    return _mm512_mask_mov_ps(_mm512_permutex2var_ps(first, bucket, second), _mm512_test_epi32_mask(bucket, _mm512_set1_epi32(32)),
                              _mm512_permutex2var_ps(third, bucket, fourth));
}

/* The bucket of the distance to a node's middle. */
ALWAYS int32_t bucket_of(const Search *a, int64_t own, int64_t node, int64_t span) {
    int64_t at = own - (node * span + (span - 1) / 2) + a->blocks;
    at = at < 0 ? 0 : at > 2 * a->blocks ? 2 * a->blocks : at;
    return a->bucket[at];
}

/* Products of a query and the children of four times four: lane 4 c + i is of child c of children[i]. They are kept as lines of
 * 64 bytes, of which each child has 16. */
ALWAYS __m512 products(const Number *query, const Number *const *children, int64_t lines) {
    __m512 sum[4];
    UNROLLED for (int i = 0; i < 4; i++) sum[i] = _mm512_setzero_ps();
    for (int64_t l = 0; l < lines; l++) {
        const __m512i some = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(query + l * FOURTH)));
        UNROLLED for (int i = 0; i < 4; i++) sum[i] = add_products(sum[i], some, _mm512_loadu_si512(children[i] + l * STEP));
    }
    const __m512 one = _mm512_add_ps(_mm512_unpacklo_ps(sum[0], sum[1]), _mm512_unpackhi_ps(sum[0], sum[1]));
    const __m512 other = _mm512_add_ps(_mm512_unpacklo_ps(sum[2], sum[3]), _mm512_unpackhi_ps(sum[2], sum[3]));
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(one), _mm512_castps_pd(other))),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(one), _mm512_castps_pd(other))));
}

/* Scores of a token's products with candidates, in place: with the distance's term and what is no candidate. Each lane's greatest. */
ALWAYS __m512 with_terms(float *x, int64_t count, const float *far, int64_t R, const int32_t *bucket, const float *bias) {
    __m512 top = _mm512_set1_ps(LOW);
    for (int64_t i = 0; i < count; i += 16) {
        const __m512 term = terms_at(far, R, _mm512_loadu_si512(bucket + i));
        const __m512 score = _mm512_add_ps(_mm512_add_ps(_mm512_loadu_ps(x + i), term), _mm512_loadu_ps(bias + i));
        _mm512_storeu_ps(x + i, score);
        top = _mm512_max_ps(top, score);
    }
    return top;
}

/* Describes a candidate of a level: its bucket, and whether it may be chosen. */
ALWAYS void describe(const Search *a, const Tree *t, int64_t level, int64_t span, int64_t own, int64_t node, int64_t at, Room *r) {
    int good = node >= 0 && node < a->nodes[level];
    if (good && a->causal) good = (node + 1) * span <= own - a->local;
    if (good && span == 1) {
        const int64_t away = own - node;
        good = node >= a->sinks && (away > a->local || (!a->causal && -away > a->local));
    }
    r->node[at] = (int32_t)node;
    r->bucket[at] = node < 0 ? 0 : bucket_of(a, own, node, span);
    r->bias[at] = good ? t->bias[level][node] : LOW;
}

ALWAYS void score_all(const int tiles, const Search *a, const Number *packed, int64_t count, const Room *r) {
    for (int64_t t = 0; t < a->width; t += TILE)
        for (int64_t n = 0; n < count; n += TILE)
            sums_of(tiles, r->query + t * a->features, a->features, packed + n * a->features, a->features, r->score + t * a->most + n, a->most);
}

/* The candidates that some token of a block wants most: greatest probabilities over all of them. */
ALWAYS int64_t best_of_block(const Search *a, int64_t g, int64_t n, int64_t count, int64_t keep, Room *r, int32_t *kept) {
    const int64_t W = a->width, R = up(a->distances, TILE), there = least(W, a->tokens - n * W);
    for (int64_t i = 0; i < count; i++) r->best[i] = r->bias[i];
    for (int64_t w = 0; w < there; w++) {
        if (a->hidden && a->hidden[g / a->heads * a->tokens + n * W + w]) continue;
        float *x = r->score + w * a->most;
        const __m512 top = with_terms(x, count, r->far + w * R, R, r->bucket, r->bias);
        __m512 sum = _mm512_setzero_ps();
        const __m512 most = _mm512_set1_ps(_mm512_reduce_max_ps(top)), scale = _mm512_set1_ps((float)a->scale * LOG2E);
        for (int64_t i = 0; i < count; i += 16) {
            const __m512 e = power_of_two(_mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), most), scale));
            sum = _mm512_add_ps(sum, e);
            _mm512_storeu_ps(x + i, e);
        }
        const __m512 share = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sum)), none = _mm512_set1_ps(NOBODY);
        for (int64_t i = 0; i < count; i += 16) {
            const __m512 best = _mm512_loadu_ps(r->best + i), now = _mm512_mul_ps(_mm512_loadu_ps(x + i), share);
            _mm512_storeu_ps(r->best + i, _mm512_mask_max_ps(best, _mm512_cmp_ps_mask(best, none, _CMP_GT_OQ), best, now));
        }
    }
    const int64_t found = greatest(r->best, count, keep, kept);
    for (int64_t i = 0; i < found; i++) kept[i] = r->node[kept[i]];
    return found;
}

ALWAYS void search_for_block(const int tiles, const Search *a, int64_t g, int64_t n, const Tree *t, Room *r) {
    const int64_t own = n + a->first, due = a->due[n], E = a->features, B = a->branching;
    int64_t span = 1;
    for (int64_t l = 1; l < a->levels; l++) span *= B;
    int64_t number = 0;
    int32_t *kept = r->kept;
    for (int64_t l = a->levels - 1; l >= 0; l--, span /= B) {
        const int64_t keep = l && due < a->beam ? a->beam : due;
        int64_t count;
        if (l == a->levels - 1) {
            count = up(a->nodes[l], TILE);
            for (int64_t i = 0; i < count; i++) describe(a, t, l, span, own, i < a->nodes[l] ? i : -1, i, r);
            score_all(tiles, a, t->tiles[l], count, r);
        } else {
            count = up(number * B, TILE);
            for (int64_t i = 0; i < count; i++) {
                const int64_t node = i < number * B ? kept[i / B] * B + i % B : -1;
                describe(a, t, l, span, own, node, i, r);
                memcpy(r->gathered + i * E, t->rows[l] + (node >= 0 && node < a->nodes[l] ? node : 0) * E, E * sizeof(Number));
            }
            pack_rows(r->gathered, E, count, count, E, r->packed);
            score_all(tiles, a, r->packed, count, r);
        }
        number = best_of_block(a, g, n, count, keep, r, kept);
    }
    int32_t *out = a->out + (g * ((a->tokens + a->width - 1) / a->width) + n) * a->choices;
    for (int64_t i = 0; i < a->choices; i++) out[i] = i < number ? kept[i] : -1;
}

/* Fours of a node's children, and lines of 64 bytes of one. */
static int64_t fours_of(const Search *a) { return (a->branching + 3) / 4; }
static int64_t lines_of(const Search *a) { return (a->content + FOURTH - 1) / FOURTH; }

/* Of each token of a block, the greatest of all that the search begins with. One step for all tokens, then the next, so that
 * a sort does not wait for the one before. */
ALWAYS void greatest_of_all(const Search *a, int64_t count, int64_t there, int64_t keep, Room *r, int64_t room) {
    const int64_t R = up(a->distances, TILE);
    if (!count) {
        memset(r->number, 0, there * sizeof *r->number);
        return;
    }
    for (int64_t w = 0; w < there; w++)
        _mm512_storeu_ps(r->top + w * TILE, with_terms(r->score + w * a->most, count, r->far + w * R, R, r->bucket, r->bias));
    if (keep > TILE) {
        for (int64_t w = 0; w < there; w++) r->number[w] = greatest_in_turn(r->score + w * a->most, count, keep, r->kept + w * room);
        return;
    }
    if (count <= FEW) {
        for (int64_t w = 0; w < there; w++) r->number[w] = greatest_of_few(r->score + w * a->most, count, keep, r->kept + w * room);
        return;
    }
    for (int64_t w = 0; w < there; w++) _mm512_storeu_ps(r->top + w * TILE, no_less(_mm512_loadu_ps(r->top + w * TILE), keep));
    for (int64_t w = 0; w < there; w++) {
        const int64_t some = those_above(r->score + w * a->most, count, _mm512_loadu_ps(r->top + w * TILE), r->node);
        r->number[w] = greatest_of(r->score + w * a->most, r->node, some, keep, r->kept + w * room);
    }
}

ALWAYS void search_for_tokens(const int tiles, const Search *a, int64_t g, int64_t n, const Tree *t, Room *r) {
    const int64_t own = n + a->first, due = a->due[n], E = a->features, B = a->branching, W = a->width, R = up(a->distances, TILE);
    const int64_t there = least(W, a->tokens - n * W), before = own > a->local ? own - a->local : 0;
    const int64_t fours = fours_of(a), lines = lines_of(a), wide = due > a->beam ? due : a->beam, room = up(wide + 1, 4);
    int64_t level = 0, span = 1;
    for (int64_t reach = a->roots; level < a->levels - 1 && before > reach; reach *= B) level++, span *= B;
    const int64_t begun = least(before / span, a->nodes[level]), all = up(begun, TILE);
    for (int64_t i = 0; i < all; i++) describe(a, t, level, span, own, i < begun ? i : -1, i, r);
    score_all(tiles, a, t->tiles[level], all, r);
    greatest_of_all(a, all, there, level ? wide : due, r, room);
    for (int64_t l = level - 1; l >= 0; l--) {
        span /= B;
        const int64_t edge = before / (span * B), until = least(before / span, a->nodes[l]);
        for (int64_t w = 0; w < there; w++) {
            int32_t *kept = r->kept + w * room;
            int64_t number = r->number[w];
            float *x = r->score;
            if (edge * B < until) kept[number++] = (int32_t)edge; /* what no complete parent covers; there is room for one more */
            for (int64_t p = number; p < up(number, 4); p++) kept[p] = 0; /* whose children count for nothing */
            const int64_t count = up(number * fours, 4) * 4, keep = l ? wide : due;
            const int at_once = keep <= TILE && count <= 4 * TILE; /* sorted where they are */
            const int64_t least_node = span > 1 ? 0 : a->sinks, middle = own + a->blocks - (span - 1) / 2;
            const __m512i few = number <= 16 ? _mm512_maskz_loadu_epi32(lanes(number), kept) : _mm512_setzero_si512();
            Sixteen best = {_mm512_set1_ps(LOW), _mm512_setzero_si512()};
            for (int64_t i = 0; i < count; i += 16) {
                const Number *children[4];
                UNROLLED for (int64_t j = 0; j < 4; j++) {
                    const int64_t four = i / 4 + j;
                    children[j] = t->fours[l] + (kept[four / fours] * fours + four % fours) * lines * STEP;
                }
                const __m512i of = _mm512_loadu_si512(r->parent + i), child = _mm512_loadu_si512(r->child + i);
                const __m512i parent = number <= 16 ? _mm512_permutexvar_epi32(of, few) : _mm512_i32gather_epi32(of, kept, 4);
                const __m512i node = _mm512_add_epi32(_mm512_mullo_epi32(parent, _mm512_set1_epi32((int)B)), child);
                const __mmask16 good = _mm512_cmplt_epi32_mask(of, _mm512_set1_epi32((int)number)) &
                                       _mm512_cmplt_epi32_mask(child, _mm512_set1_epi32((int)B)) &
                                       _mm512_cmplt_epi32_mask(node, _mm512_set1_epi32((int)until)) &
                                       _mm512_cmpge_epi32_mask(node, _mm512_set1_epi32((int)least_node));
                __m512i at = _mm512_sub_epi32(_mm512_set1_epi32((int)middle), _mm512_mullo_epi32(node, _mm512_set1_epi32((int)span)));
                at = _mm512_max_epi32(at, _mm512_setzero_si512()); /* no node that is good lies further away than there are blocks */
                const __m512i bucket = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), good, at, a->bucket, 4);
                __m512 score = _mm512_add_ps(products(r->query + w * E, children, lines), terms_at(r->far + w * R, R, bucket));
                if (t->gaps[l]) score = _mm512_add_ps(score, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), good, node, t->bias[l], 4));
                const Sixteen s = {_mm512_mask_mov_ps(_mm512_set1_ps(LOW), good, score), node};
                if (at_once) { best = with_more(i, best, s); continue; }
                _mm512_storeu_ps(x + i, s.x);
                _mm512_storeu_si512(r->node + i, node);
            }
            if (at_once) { r->number[w] = keep_of(best, keep, kept); continue; }
            r->number[w] = greatest(x, count, keep, kept);
            for (int64_t i = 0; i < r->number[w]; i++) kept[i] = r->node[kept[i]];
        }
    }
    for (int64_t w = 0; w < there; w++) {
        int32_t *out = a->out + (g * a->tokens + n * W + w) * a->choices;
        for (int64_t i = 0; i < a->choices; i += 16)
            _mm512_mask_storeu_epi32(out + i, lanes(a->choices - i),
                                     _mm512_mask_loadu_epi32(_mm512_set1_epi32(-1), lanes(r->number[w] - i), r->kept + w * room + i));
    }
}

ALWAYS void search_block(const int tiles, const Search *a, int64_t g, int64_t n, const Tree *t, Room *r) {
    const int64_t W = a->width, E = a->features, R = up(a->distances, TILE), there = least(W, a->tokens - n * W);
    const Number *q = a->q + g / a->heads * a->q_text + g % a->heads * a->q_head + n * W * a->q_row;
    memset(r->query, 0, W * E * sizeof(Number));
    for (int64_t i = 0; i < there; i++) memcpy(r->query + i * E, q + i * a->q_row, a->content * sizeof(Number));
    for (int64_t i = 0; i < W; i += TILE)
        for (int64_t d = 0; d < R; d += TILE)
            sums_of(tiles, r->query + i * E, E, t->distance + d * E, E, r->far + i * R + d, R);
    if (a->causal) search_for_tokens(tiles, a, g, n, t, r);
    else search_for_block(tiles, a, g, n, t, r);
}

static int64_t begins(const Search *a, int64_t level) { return up(least(a->nodes[level], a->roots), TILE); }

/* Whether a decoder's search goes down to a level. */
static int is_below(const Search *a, int64_t level) { return a->causal && level < a->levels - 1 && a->nodes[level] > a->roots; }

static void plant_fours(const Search *a, int64_t level, Tree *t) {
    const int64_t B = a->branching, E = a->features, lines = lines_of(a);
    Number *out = t->fours[level];
    for (int64_t n = 0; n < a->nodes[level + 1]; n++)
        for (int64_t four = 0; four < B; four += 4)
            for (int64_t l = 0; l < lines; l++)
                for (int64_t c = four; c < four + 4; c++, out += FOURTH) {
                    const int there = c < B && n * B + c < a->nodes[level];
                    const __m128i *row = (const __m128i *)(t->rows[level] + (n * B + c) * E + l * FOURTH);
                    _mm_storeu_si128((__m128i *)out, there ? _mm_loadu_si128(row) : _mm_setzero_si128());
                }
}

static void plant(const Search *a, int64_t g, Tree *t) {
    const int64_t E = a->features, C = a->content;
    for (int64_t l = 0; l < a->levels; l++) {
        const int64_t nodes = a->nodes[l];
        memset(t->rows[l], 0, up(nodes, TILE) * E * sizeof(Number));
        t->gaps[l] = 0;
        for (int64_t n = 0; n < nodes; n++) {
            memcpy(t->rows[l] + n * E, a->keys[l] + (g * nodes + n) * C, C * sizeof(Number));
            t->bias[l][n] = a->mass[l][g * nodes + n] > NOBODY ? 0.0f : LOW;
            t->gaps[l] |= t->bias[l][n] < 0;
        }
        pack_rows(t->rows[l], E, nodes, begins(a, l), E, t->tiles[l]);
        if (is_below(a, l)) plant_fours(a, l, t);
    }
    Number *rows = t->distance + up(a->distances, TILE) * E; /* room behind it */
    memset(rows, 0, a->distances * E * sizeof(Number));
    for (int64_t r = 0; r < a->distances; r++) memcpy(rows + r * E, a->r + (g % a->heads * a->distances + r) * C, C * sizeof(Number));
    pack_rows(rows, E, a->distances, up(a->distances, TILE), E, t->distance);
}

static int64_t tree_of(const Search *a, uint8_t *memory, Tree *t) {
    uint8_t *at = memory;
    for (int64_t l = 0; l < a->levels; l++) {
        t->rows[l] = cut(&at, up(a->nodes[l], TILE) * a->features * sizeof(Number));
        t->fours[l] = cut(&at, is_below(a, l) ? a->nodes[l + 1] * fours_of(a) * lines_of(a) * 64 : 0);
        t->tiles[l] = cut(&at, begins(a, l) * a->features * sizeof(Number));
        t->bias[l] = cut(&at, a->nodes[l] * 4);
    }
    t->gaps = cut(&at, LEVELS * 4);
    t->distance = cut(&at, 2 * up(a->distances, TILE) * a->features * sizeof(Number));
    return at - memory;
}

static int64_t room_of(const Search *a, uint8_t *memory, Room *r) {
    const int64_t W = a->width, E = a->features;
    uint8_t *at = memory;
    r->query = cut(&at, W * E * sizeof(Number));
    r->gathered = cut(&at, a->most * E * sizeof(Number));
    r->packed = cut(&at, a->most * E * sizeof(Number));
    r->far = cut(&at, W * up(a->distances, TILE) * 4);
    r->score = cut(&at, W * a->most * 4);
    r->best = cut(&at, a->most * 4);
    r->top = cut(&at, W * TILE * 4);
    r->node = cut(&at, (a->most + TILE) * 4);
    r->bucket = cut(&at, a->most * 4);
    r->parent = cut(&at, a->most * 4);
    r->child = cut(&at, a->most * 4);
    r->bias = cut(&at, a->most * 4);
    r->kept = cut(&at, (W + 1) * a->most * 4);
    r->number = cut(&at, W * 8);
    return at - memory;
}

/* 0, 1 if memory is short, 2 if the tree has too many levels. */
int deepseek_search(const Search *a) {
    if (a->levels > LEVELS) return 2;
    Tree none;
    Room nothing;
    const int64_t tree = tree_of(a, 0, &none), own = room_of(a, 0, &nothing), lots = least(a->groups, 8);
    uint8_t *memory = lots_of(tree * lots + own * a->threads);
    if (!memory) return 1;
    large_pages(a->out, a->groups * (a->causal ? a->tokens : (a->tokens + a->width - 1) / a->width) * a->choices * 4);
    const int64_t blocks = (a->tokens + a->width - 1) / a->width;
#pragma omp parallel num_threads(a->threads)
    {
        Room r;
        room_of(a, memory + tree * lots + own * omp_get_thread_num(), &r);
        for (int64_t i = 0; i < a->most; i++) {
            const int64_t four = i / 16 * 4 + i % 4, fours = fours_of(a);
            r.parent[i] = (int32_t)(four / fours), r.child[i] = (int32_t)(four % fours * 4 + i / 4 % 4);
        }
        if (a->tiles) tiles_on();
        for (int64_t from = 0; from < a->groups; from += lots) { /* memory for a few trees at a time */
            const int64_t some = least(lots, a->groups - from);
#pragma omp for schedule(dynamic, 1)
            for (int64_t g = 0; g < some; g++) {
                Tree t;
                tree_of(a, memory + tree * g, &t);
                plant(a, from + g, &t);
            }
#pragma omp for schedule(dynamic, 4)
            for (int64_t i = 0; i < some * blocks; i++) {
                Tree t;
                tree_of(a, memory + tree * (i / blocks), &t);
                if (a->tiles) search_block(1, a, from + i / blocks, i % blocks, &t, &r);
                else search_block(0, a, from + i / blocks, i % blocks, &t, &r);
            }
        }
        if (a->tiles) tiles_off();
    }
    free(memory);
    return 0;
}

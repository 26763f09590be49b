/* Threads that share the phases of a pass.
 *
 * A phase ends when its parts are done, not when all threads have arrived: one that the system has put aside keeps
 * nobody waiting unless it holds a part, and the others take what it does not. With a barrier of OpenMP each of a pass's
 * fifty phases may last a time slice on a machine that has something else to do too.
 */
#pragma once
#include <immintrin.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

typedef struct {
    _Alignas(64) atomic_llong next; /* part that nobody has taken */
    _Alignas(64) atomic_llong done; /* parts */
} Phase;

/* What a thread knows; all of a team start at the same phase, zeroed, and go through the same ones. */
typedef struct {
    Phase *phase;
    int64_t size;
    int taken; /* whether it holds a part */
} Team;

#define PARTS 4   /* of a phase, for each thread */
#define PATIENT 2000 /* looks at a clock's pace before a thread lets others run */

/* The next part of a phase of so many units, first to last; 0 when all are done, and the phase is over. */
static inline int take(Team *team, int64_t units, int64_t *first, int64_t *last) {
    if (team->size == 1) {
        *first = 0, *last = units;
        return team->taken = !team->taken;
    }
    Phase *now = team->phase;
    const int64_t parts = units < PARTS * team->size ? units : PARTS * team->size;
    if (team->taken) atomic_fetch_add_explicit(&now->done, 1, memory_order_release);
    const int64_t part = atomic_fetch_add_explicit(&now->next, 1, memory_order_relaxed);
    if ((team->taken = part < parts)) {
        *first = units * part / parts, *last = units * (part + 1) / parts;
        return 1;
    }
    for (int64_t looks = 0; atomic_load_explicit(&now->done, memory_order_acquire) < parts; looks++) {
        if (looks < PATIENT) _mm_pause();
        else sched_yield();
    }
    team->phase++;
    return 0;
}

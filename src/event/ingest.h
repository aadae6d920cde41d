/* SPDX-License-Identifier: Apache-2.0 */
/* ingest: what came in from applications and what was refused, counted by door and reason.
 *
 * Threads: any; counts are relaxed atomics. */
#ifndef FB_EVENT_INGEST_H
#define FB_EVENT_INGEST_H
#include "base/base.h"

#include <stdatomic.h>

enum ingest_via {
#define VIA(name, text) INGEST_##name,
#include "event/ingest.def"
#undef VIA
    INGEST_VIAS
};
enum ingest_refused {
#define REFUSED(name, text) INGEST_REFUSED_##name,
#include "event/ingest.def"
#undef REFUSED
    INGEST_REFUSED_COUNT
};

/* How a way in is. */
enum ingest_state { INGEST_OFF, INGEST_OPEN, INGEST_FAILING };

struct ingest_stats {
    _Atomic uint64_t events[INGEST_VIAS];  /* put into the queue */
    _Atomic uint64_t samples[INGEST_VIAS]; /* what they were made of: datagram lines, data points */
    _Atomic uint64_t repeated[INGEST_VIAS]; /* left out: they had come before */
    _Atomic uint64_t put_off[INGEST_VIAS];  /* times that sums waited because the queue was full */
    _Atomic uint64_t refused[INGEST_VIAS][INGEST_REFUSED_COUNT];
    enum ingest_state state[INGEST_VIAS]; /* this and the next: the brain's loop only */
    char error[320];                      /* of the one that is failing, "" none */
};

const char *ingest_state_name(enum ingest_state state); /* "off", "open", "failing" */
const char *ingest_via_name(enum ingest_via via);
const char *ingest_refused_name(enum ingest_refused refused);
static inline void ingest_count(struct ingest_stats *s, enum ingest_via via, uint64_t events,
                                uint64_t samples)
{
    atomic_fetch_add_explicit(&s->events[via], events, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->samples[via], samples, memory_order_relaxed);
}
static inline void ingest_repeat(struct ingest_stats *s, enum ingest_via via, uint64_t count)
{
    atomic_fetch_add_explicit(&s->repeated[via], count, memory_order_relaxed);
}
static inline void ingest_put_off(struct ingest_stats *s, enum ingest_via via)
{
    atomic_fetch_add_explicit(&s->put_off[via], 1, memory_order_relaxed);
}
static inline void ingest_refuse(struct ingest_stats *s, enum ingest_via via,
                                 enum ingest_refused refused, uint64_t count)
{
    atomic_fetch_add_explicit(&s->refused[via][refused], count, memory_order_relaxed);
}
#endif

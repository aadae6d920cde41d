/* SPDX-License-Identifier: Apache-2.0 */
/* history: one point per second and scope for the last ten minutes, and a heatmap of latencies.
 *
 * So that a dashboard that opens now shows what led here, without an external store.  A value that
 * facts do not vouch for is NAN, never 0.
 * Memory: HISTORY_SCOPES_MAX x (600 x 36 B + 600 x 24 x 2 B) = 3.2 MB when all are used; scopes
 * beyond that have none.  Threads: one at a time per struct history. */
#ifndef FB_OUTPUT_HISTORY_H
#define FB_OUTPUT_HISTORY_H
#include "analytics/facts.h"

#define HISTORY_SCOPES_MAX 64
#define HISTORY_POINTS_MAX 600 /* seconds */
#define HISTORY_BUCKETS 24

/* X(name, fact): columns of a point, 1 s window. */
#define HISTORY_COLUMNS(X)                                                                         \
    X(rate, RATE)                                                                                  \
    X(offered_rate, OFFERED_RATE)                                                                  \
    X(error_ratio, ERROR_RATIO)                                                                    \
    X(shed_ratio, SHED_RATIO)                                                                      \
    X(latency_p50, LATENCY_P50)                                                                    \
    X(latency_p99, LATENCY_P99)                                                                    \
    X(queue_wait_p99, QUEUE_WAIT_P99)                                                              \
    X(in_flight, IN_FLIGHT)                                                                        \
    X(limit, LIMIT)
enum history_column {
#define X(name, fact) HISTORY_##name,
    HISTORY_COLUMNS(X)
#undef X
        HISTORY_COLUMN_COUNT
};

struct history_series {
    struct fact_scope scope;
    float (*point)[HISTORY_COLUMN_COUNT]; /* HISTORY_POINTS_MAX rows; NULL: unused slot */
    uint16_t (*heat)[HISTORY_BUCKETS];
};
struct history {
    struct history_series series[HISTORY_SCOPES_MAX];
    uint64_t wall_s[HISTORY_POINTS_MAX];
    uint64_t count; /* points ever taken; the newest is (count - 1) % HISTORY_POINTS_MAX */
    uint64_t taken_us;
};

void history_init(struct history *h);
void history_fini(struct history *h);
/* Takes a point of every scope when a second has passed since the last one; true when it did. */
bool history_tick(struct history *h, const struct facts *facts, uint64_t wall_us);
const struct history_series *history_find(const struct history *h, struct fact_scope scope);
/* Upper bounds of the heat buckets in us, ascending; the last takes the rest. */
const double *history_bounds_us(void);
const char *history_column_name(unsigned column);
/* The scope is somebody else's from now on: it has no past. */
void history_forget(struct history *h, struct fact_scope scope);
/* Slot of the point that is <age> seconds old (0: newest); false when there is none. */
bool history_slot(const struct history *h, uint64_t age, uint32_t *slot);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* facts: what the events of the last 100 ms to 60 s add up to, per route, service, endpoint and
 * version.
 *
 * Pure: time comes in the tick events.  State is one block of memory without pointers inside
 * scopes, so that a snapshot is a copy.  A fact is `insufficient_data` below its n, `stale` when
 * its input stopped; it is never a zero that means "unknown". Threads: one at a time per struct
 * facts (the brain's loop, a replay, a simulation). */
#ifndef FB_ANALYTICS_FACTS_H
#define FB_ANALYTICS_FACTS_H
#include "analytics/sketch.h"
#include "event/event.h"

enum fact_id {
    FACT_NONE = 0,
#define FACT(name, id, unit, what) FACT_##name = id,
#include "analytics/facts.def"
#undef FACT
    FACT_END = 48
};
enum fact_window { FACT_100MS, FACT_1S, FACT_10S, FACT_60S, FACT_WINDOW_COUNT };
enum fact_state { FACT_OK, FACT_INSUFFICIENT_DATA, FACT_STALE };

struct fact {
    double value; /* NAN unless state is FACT_OK */
    uint64_t n;   /* samples behind it */
    uint64_t n_needed;
    enum fact_state state;
};
struct fact_row {
    const char *name; /* "latency_p99" */
    const char *unit, *what;
};
const struct fact_row *fact_row(uint16_t fact); /* never NULL; .name NULL when unknown */
uint16_t fact_by_name(struct span name);        /* FACT_NONE when unknown */
uint32_t fact_window_ms(enum fact_window window);
const char *fact_state_name(enum fact_state state);

/* A scope: EV_KIND_NONE with number 0 is everything together; for CPU_RATIO and MEMORY_RATIO 0 is
 * the host, 1 the supervisor, 2 the gateway, 3 the brain. */
struct fact_scope {
    enum ev_kind kind;
    uint16_t number;
};
/* Requests of one priority class only: class 0..3; FACT_ALL_CLASSES for all. */
#define FACT_ALL_CLASSES 0xff

struct facts;
/* Room for <scopes_max> scopes; a scope gets its 0.55 MiB of address space when it appears, of
 * which memory is backed where latencies fall: about 130 KiB for two decades of them.  NULL without
 * memory. */
struct facts *facts_new(uint32_t scopes_max);
void facts_free(struct facts *f);
/* The objective of a service: latency below <latency_us> counts as in time.  0: none. */
void facts_set_objective(struct facts *f, uint16_t service, uint64_t latency_us);
/* Any event, in log order.  A tick closes the 100 ms pane. */
void facts_feed(struct facts *f, const struct ev_head *ev);
struct fact facts_get(const struct facts *f, struct fact_scope scope, enum fact_id fact,
                      enum fact_window window);
/* By class, for services and everything: RATE, OFFERED_RATE, SHED_RATIO, LATENCY_*, IN_TIME_RATIO;
 * 1 s, 10 s, 60 s. */
struct fact facts_get_class(const struct facts *f, struct fact_scope scope, uint8_t class,
                            enum fact_id fact, enum fact_window window);
/* Any quantile of the upstream time of a scope with censored samples (Kaplan-Meier), in us. */
struct fact facts_upstream_quantile(const struct facts *f, struct fact_scope scope, double q,
                                    enum fact_window window);
/* Counts of answered requests per latency bucket of the last second, for the heatmap: <bounds_us>
 * ascending upper bounds of <count> buckets (the last one takes the rest). */
void facts_heat(const struct facts *f, struct fact_scope scope, const double *bounds_us,
                uint32_t *counts, uint32_t count);
/* What the last closed pane (100 ms) counted, for sums over nodes; false: no such scope yet. */
struct facts_pane {
    uint32_t ended, failed, shed, late; /* <late>: answered, but not within the objective */
};
bool facts_pane(const struct facts *f, struct fact_scope scope, struct facts_pane *pane,
                struct sketch *latency);
/* Scopes in use; returns how many were written. */
size_t facts_scopes(const struct facts *f, struct fact_scope *out, size_t max);
uint64_t facts_now_us(const struct facts *f); /* time of the last tick */
/* A snapshot; bytes are opaque, of this build's layout version. */
void facts_save(const struct facts *f, struct buf *out);
FB_MUST_USE
enum fb_code facts_load(struct facts *f, struct span bytes, struct fb_err *err);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: cumulative counters from the event stream, and their exposition.
 *
 * metrics_feed counts each sequenced event (about 20 ns for a request); metrics_write prints all
 * families in Prometheus text 0.0.4 or OpenMetrics 1.0 (with exemplars: the request id of the
 * newest request of each duration bucket).  Counters never go down while the process lives: process
 * CPU that restarts at 0 with a new gateway is added up. Cardinality: labels are names of the
 * configuration or rows of tables, never what a client sent. Memory: about 1 MiB, allocated once.
 * Threads: one at a time per struct metrics. */
#ifndef FB_OUTPUT_METRICS_H
#define FB_OUTPUT_METRICS_H
#include "analytics/custom.h"
#include "analytics/signal.h"
#include "event/event.h"
#include "event/ingest.h"
#include "knob/memfile.h"
#include "output/timeline.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM, METRIC_INFO };
enum metric_id {
#define METRIC(kind, id, ...) METRIC_ID_##id,
#include "output/metrics.def"
#undef METRIC
    METRIC_ID_COUNT
};
struct metric_row {
    const char *name, *labels, *most_series, *help;
    enum metric_kind kind;
};
const struct metric_row *metric_row(unsigned id);

#define METRIC_BUCKETS 12                   /* finite ones; the thirteenth is +Inf */
#define METRIC_SLOTS (KNOB_TARGETS_MAX + 1) /* the last one: no route, no service */
#define METRIC_CODE_CLASSES 6               /* 1xx .. 5xx, and "none": nothing was sent */
enum metric_result { METRIC_ANSWERED, METRIC_SHED, METRIC_FAILED, METRIC_RESULT_COUNT };

struct metric_exemplar {
    uint64_t request_id, wall_us;
    uint32_t total_us;
};
struct metric_histogram {
    uint64_t bucket[METRIC_BUCKETS + 1]; /* not cumulative here */
    uint64_t sum_us, count;
};
struct metric_traits { /* requests by what features did for them */
    uint64_t count[EV_TRAIT_COUNT];
};
/* The highest value of this span of METRIC_PEAK_US and of the one before it. */
#define METRIC_PEAK_US (10 * US_PER_S)
struct metric_peak {
    uint64_t span;
    uint8_t now, before;
};
struct metric_route {
    uint64_t code[METRIC_CODE_CLASSES];
    struct metric_histogram duration;
    uint64_t sent_bytes, received_bytes;
    uint64_t limited[2]; /* by a rate limit, by a quota */
    uint64_t hedges[2];  /* answered by the first send, by the second */
    uint64_t split_fallbacks;
    uint64_t cache[EV_CACHE_END];      /* requests by enum ev_cache */
    uint64_t stored, evicted, refused; /* summed over restarts of the gateway */
    struct ev_cache_use use;           /* last seen; type 0: none */
    struct metric_traits did;
    uint64_t plain_bytes, coded_bytes; /* of answers that were compressed on the way */
    uint64_t split;                    /* requests that a split chose a version for */
    struct metric_peak limit_used_pct;
    uint16_t service; /* of the last request; the name decides when there is one */
};
#define METRIC_SHED_REASONS 11
struct metric_service {
    uint64_t result[EV_CLASS_COUNT][METRIC_RESULT_COUNT];
    uint64_t shed[METRIC_SHED_REASONS]; /* by metrics_shed_reason */
    uint64_t retries, client_capped;
    struct metric_histogram wait;
    struct ev_gauge gauge; /* last seen; type 0: none */
    struct metric_traits did;
    uint64_t mirror[2];                      /* copies that it got as a mirror: answered, failed */
    uint64_t tcp[2], tcp_received, tcp_sent; /* passed connections: well, failed; bytes */
};
struct metric_endpoint {
    uint64_t code[METRIC_CODE_CLASSES];
    uint64_t failures;
    uint16_t service;
    uint16_t health_reason; /* of the last change of its state; 0: none seen */
    uint64_t checks[2];     /* active ones: passed, failed */
    uint32_t checks_row;    /* failed in a row */
    uint32_t check_us;      /* how long the last one took */
    uint16_t check_status;  /* of its answer; 0: none */
    struct ev_gauge gauge;  /* last seen; type 0: none */
};
struct metric_version {
    uint64_t code[METRIC_CODE_CLASSES];
    struct metric_histogram duration;
};
struct metric_process {
    uint64_t cpu_before_us; /* of earlier processes in this role */
    struct ev_resource last;
};
struct metrics {
    struct metric_route route[METRIC_SLOTS];
    struct metric_service service[METRIC_SLOTS];
    struct metric_endpoint endpoint[METRIC_SLOTS];
    struct ev_owners owners; /* of their numbers */
    struct metric_version version[KNOB_TARGETS_MAX];
    struct metric_exemplar (*exemplar)[METRIC_BUCKETS + 1]; /* METRIC_SLOTS rows */
    uint64_t ends[REASON_END];
    uint64_t protocol[EV_PROTOCOL_TCP + 1], tls[EV_TLS_13 + 1]; /* requests of clients */
    uint64_t grpc[2];                                           /* calls: ok, failed */
    uint64_t events[EV_TYPE_END];
    uint64_t lost[4]; /* REASON_LOSS_RING_FULL + i */
    uint64_t decisions[LOOP_COUNT][2];
    uint64_t verdicts[LOOP_COUNT][4];
    uint64_t reverts[LOOP_COUNT];
    struct metric_process process[4]; /* host, supervisor, gateway, brain */
    uint64_t ticks, tick_cpu_us;
    uint32_t tick_lag_us;
    uint64_t dropped; /* by live streams */
    uint64_t start_wall_us, wall_minus_mono_us;
    uint64_t now_us; /* of the last tick, stream time */
};

struct metrics *metrics_new(uint64_t start_wall_us); /* NULL without memory */
void metrics_free(struct metrics *m);
void metrics_feed(struct metrics *m, const struct ev_head *ev);
/* 0 .. 100, of METRIC_PEAK_US to twice that before the last tick. */
unsigned metrics_peak(const struct metrics *m, const struct metric_peak *p);
/* Its requests that a trait with a bit in <bits> was seen of; of several traits the sum. */
uint64_t metrics_did(const struct metric_traits *did, uint64_t bits);

/* The keys of stored data. */
struct metrics_keys {
    bool is_encrypted, is_ok;
    uint32_t key_id, keys, periods; /* <key_id> 0: none in use */
    uint64_t age_us, seals;         /* of the data key in use */
    uint64_t personal_bytes, rotations, erasures;
};
/* What is read at the moment of the scrape. */
struct metrics_view {
    const struct metrics *metrics;
    const struct memfile *memfile;
    const struct knob_book *book;
    const struct timeline *timeline;
    uint64_t log_bytes, log_lag_us;
    uint64_t compacted_segments, compacted_saved_bytes, compact_failures;
    uint64_t uncleared_segments, clear_failures;
    struct metrics_keys keys;
    bool is_log_up;
    uint32_t connections;
    const struct customs *customs;                                  /* NULL: none */
    bool (*signal)(void *ctx, uint32_t i, struct signal_view *out); /* NULL: none */
    void *signal_ctx;
    const struct curves *curves; /* of caches; NULL: none */
    const struct facts *facts;
    struct ingest_stats *ingest; /* NULL: none */
    uint64_t ingest_queued_bytes;
    const struct admin_connector *connectors; /* admin.h */
    uint32_t connector_count;
};
void metrics_write(const struct metrics_view *view, struct buf *out, bool is_openmetrics);
/* "0.005" ... "10" */
/* The reason of one slot of metric_service.shed; REASON_NONE: none. */
uint16_t metrics_shed_reason(unsigned slot);
const char *metrics_bound(unsigned bucket);
/* Does an Accept header prefer OpenMetrics? */
bool metrics_wants_openmetrics(struct span accept);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* facts_int: the state of facts, shared by facts.c (feed), facts_get.c (ask) and facts_save.c
 * (snapshot). */
#ifndef FB_ANALYTICS_FACTS_INT_H
#define FB_ANALYTICS_FACTS_INT_H
#include "analytics/facts.h"
#include "analytics/window.h"

#define FACTS_NUMBERS_MAX                                                                          \
    1024 /* routes, services, endpoints, versions each; as KNOB_TARGETS_MAX                        \
          */
#define FACTS_KINDS 5
#define FACTS_CLASSED_MAX 65 /* everything and the first 64 services have facts by class */
#define FACTS_RESOURCE_SCOPES 4

/* A gauge comes each 100 ms tick: ten missed ones mean that the gateway or the service is away. */
#define FACTS_GAUGE_STALE_US (1 * US_PER_S)
/* Nothing at all from any gateway thread for 2 s: a rate of zero would be a guess. */
#define FACTS_INPUT_STALE_US (2 * US_PER_S)
/* A resting learner is silent; after a minute its figures describe another load. */
#define FACTS_LEARNER_STALE_US (60 * US_PER_S)
#define FACTS_RESOURCE_STALE_US (10 * US_PER_S)

enum facts_count {
    COUNT_ENDED,        /* all request events */
    COUNT_SHED,         /* of these: refused */
    COUNT_SHED_AT_DOOR, /* of these: by the admission threshold */
    COUNT_ABORTED,      /* the client left first */
    COUNT_FAILED,
    COUNT_SENT,    /* touched an endpoint */
    COUNT_TIMEOUT, /* ran into the timeout of the route */
    COUNT_IN_TIME,
    COUNT_RETRIES,
    COUNT_HEDGED, /* sent a second time while the first send was under way */
    COUNT_BYTES,
    COUNT_LATENCY_N,
    COUNT_LATENCY_US,
    COUNT_GAUGES, /* panes with a gauge */
    COUNT_IN_FLIGHT,
    COUNT_LIMIT,
    COUNT_QUEUED,
    COUNT_CACHE_ASKED, /* of routes with a cache */
    COUNT_CACHE_HITS,  /* of these: answered from memory */
    COUNT_COUNT
};
enum facts_sketch { SKETCH_LATENCY, SKETCH_UPSTREAM, SKETCH_GIVEN_UP, SKETCH_QUEUE, SKETCH_COUNT };

/* One scope, or one class of a service.  Pointer-free; class slots end after the first sketch. */
struct slot {
    uint8_t kind, class;
    uint16_t number;
    uint32_t has_gauge; /* in the open pane */
    uint64_t last_request_us, last_gauge_us, learner_us;
    double learner_latency_us, learner_base_us, learner_ratio;
    uint64_t learner_samples, learner_base_samples;
    uint64_t fill[COUNT_COUNT];
    struct window_count count[COUNT_COUNT];
    struct window_sketch sketch[];
};
#define SLOT_HEAD_BYTES offsetof(struct slot, sketch)
#define SLOT_BYTES (SLOT_HEAD_BYTES + SKETCH_COUNT * sizeof(struct window_sketch))
#define SLOT_CLASS_BYTES (SLOT_HEAD_BYTES + sizeof(struct window_sketch))

struct facts_resource {
    uint64_t cpu_us, at_us, samples;
    double cpu_ratio, memory_ratio;
};

/* Everything besides the slots; saved as it is. */
struct facts_state {
    struct window_clock clock;
    uint64_t last_input_us;  /* newest event of a gateway thread */
    uint64_t scopes_refused; /* scopes that found no room */
    uint32_t slot_count, class_count;
    uint16_t slot_of[FACTS_KINDS][FACTS_NUMBERS_MAX]; /* index + 1, 0: none */
    uint16_t class_of[FACTS_NUMBERS_MAX];             /* of a service: first of four + 1 */
    uint16_t version_of[FACTS_NUMBERS_MAX];           /* of an endpoint: number + 1 */
    uint8_t is_version[FACTS_NUMBERS_MAX];            /* a name event made it known */
    uint64_t objective_us[FACTS_NUMBERS_MAX];         /* of a service */
    struct ev_owners owners;
    struct facts_resource resource[FACTS_RESOURCE_SCOPES];
};

/* Plain answers of one route, service, endpoint, version and class that came one behind the other:
 * added to each scope at once when the run ends, at the latest before a pane closes (facts_run.c).
 */
#define FACTS_RUN_MAX 256
#define FACTS_RUN_SCOPES 5
struct facts_run {
    bool is_open; /* the key and the slots below are of the last request */
    uint8_t class;
    uint16_t route, service, endpoint, version;
    uint32_t n;
    struct slot *scope[FACTS_RUN_SCOPES]; /* NULL: not of this kind */
    struct slot *class_slot[2];
    uint64_t last_us, sent_bytes, latency_us, in_time, queued_us;
    uint16_t latency[FACTS_RUN_MAX], upstream[FACTS_RUN_MAX], queue[FACTS_RUN_MAX]; /* buckets */
};

struct facts {
    struct facts_state s;
    struct facts_run *run; /* never NULL; what it holds is not yet in the slots */
    uint32_t scopes_max, classes_max;
    /* Allocated when a scope appears for the first time, kept until the end; NULL before. */
    struct slot **slot;       /* scopes_max, SLOT_BYTES each */
    struct slot **class_slot; /* classes_max, SLOT_CLASS_BYTES each */
};

static inline struct slot *facts_slot_at(const struct facts *f, uint32_t i)
{
    return f->slot[i];
}
static inline struct slot *facts_class_at(const struct facts *f, uint32_t i)
{
    return f->class_slot[i];
}
/* Takes <r> when it goes on where the last one was; false: it is to be counted by itself. */
bool facts_run_take(const struct facts *f, const struct ev_request *r);
/* <r> was counted by itself, and nothing is held: the next one like it may begin a run. */
void facts_run_begin(const struct facts *f, const struct ev_request *r);
void facts_run_end(const struct facts *f); /* counts what is held */
/* Makes sure that the first <scopes> and <classes> slots have memory; false without. */
bool facts_reserve(struct facts *f, uint32_t scopes, uint32_t classes);
#endif

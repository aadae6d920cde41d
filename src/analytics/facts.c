/* SPDX-License-Identifier: Apache-2.0 */
/* Feed: a request event is judged once (struct judged) and then counted in the open pane of up to
 * five scopes and two classes; a tick rolls every used scope.  The arrays for all scopes are
 * reserved at birth as zero pages, which cost nothing before a scope touches them. */
#include "analytics/facts_int.h"

#include "base/assert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What one request means for the counters; made once, added to each scope. */
struct judged {
    const struct ev_request *r;
    bool is_shed, is_at_door, is_aborted, is_failed, is_sent, is_timeout, is_in_time;
    bool is_latency, is_upstream, is_given_up;
    bool is_plain; /* none of the rare counters moves */
    uint32_t total_bucket, queue_bucket;
    uint32_t waited_us, waited_bucket; /* of the last scope */
};

static void feed_request(struct facts *f, const struct ev_request *r);
static void feed_gauge(struct facts *f, const struct ev_gauge *g);
static void feed_proposal(struct facts *f, const struct ev_proposal *p);
static void feed_resource(struct facts *f, const struct ev_resource *r);
static void feed_name(struct facts *f, const struct ev_name *n);
static void feed_tick(struct facts *f, uint64_t now_us);

struct facts *facts_new(uint32_t scopes_max)
{
    fb_assert(scopes_max > 0);
    fb_assert(scopes_max < EV_NONE);
    struct facts *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->scopes_max = scopes_max;
    f->classes_max = EV_CLASS_COUNT * fb_min_u32(FACTS_CLASSED_MAX, scopes_max);
    f->slot = calloc(scopes_max, sizeof *f->slot);
    f->class_slot = calloc(f->classes_max, sizeof *f->class_slot);
    f->run = calloc(1, sizeof *f->run);
    if (!f->slot || !f->class_slot || !f->run || !facts_reserve(f, 1, EV_CLASS_COUNT)) {
        facts_free(f);
        return NULL;
    }
    return f;
}

bool facts_reserve(struct facts *f, uint32_t scopes, uint32_t classes)
{
    fb_assert(scopes <= f->scopes_max);
    fb_assert(classes <= f->classes_max);
    for (uint32_t i = 0; i < scopes; i++) {
        if (f->slot[i])
            continue;
        f->slot[i] = calloc(1, SLOT_BYTES);
        if (!f->slot[i])
            return false;
    }
    for (uint32_t i = 0; i < classes; i++) {
        if (f->class_slot[i])
            continue;
        f->class_slot[i] = calloc(1, SLOT_CLASS_BYTES);
        if (!f->class_slot[i])
            return false;
    }
    return true;
}

void facts_free(struct facts *f)
{
    if (!f)
        return;
    for (uint32_t i = 0; f->slot && i < f->scopes_max; i++)
        free(f->slot[i]);
    for (uint32_t i = 0; f->class_slot && i < f->classes_max; i++)
        free(f->class_slot[i]);
    free(f->slot);
    free(f->class_slot);
    free(f->run);
    free(f);
}

void facts_set_objective(struct facts *f, uint16_t service, uint64_t latency_us)
{
    fb_assert(service < FACTS_NUMBERS_MAX);
    f->s.objective_us[service] = latency_us;
}

uint64_t facts_now_us(const struct facts *f)
{
    return f->s.clock.now_us;
}

void facts_feed(struct facts *f, const struct ev_head *ev)
{
    /* Decisions, outcomes and alerts are our own echo: a log with them folds to the same facts. */
    if (ev->type == EV_DECISION || ev->type == EV_OUTCOME || ev->type == EV_ALERT)
        return;
    if (ev->type != EV_REQUEST) {
        facts_run_end(f);
        f->run->is_open = false;
    }
    if (FB_UNLIKELY(!f->s.clock.is_started))
        window_start(&f->s.clock, ev->time_us);
    if (ev->origin < EV_ORIGIN_BRAIN)
        f->s.last_input_us = fb_max_u64(f->s.last_input_us, ev->time_us);
    switch (ev->type) {
    case EV_REQUEST:
        if (FB_LIKELY(facts_run_take(f, (const struct ev_request *)ev)))
            break;
        facts_run_end(f);
        feed_request(f, (const struct ev_request *)ev);
        facts_run_begin(f, (const struct ev_request *)ev);
        break;
    case EV_TICK:
        feed_tick(f, ev->time_us);
        break;
    case EV_GAUGE:
        feed_gauge(f, (const struct ev_gauge *)ev);
        break;
    case EV_PROPOSAL:
        feed_proposal(f, (const struct ev_proposal *)ev);
        break;
    case EV_RESOURCE:
        feed_resource(f, (const struct ev_resource *)ev);
        break;
    case EV_NAME:
        feed_name(f, (const struct ev_name *)ev);
        break;
    default:
        break;
    }
}

/* The slot of a scope, taken into use when it has none; NULL when the number is none or all room is
 * taken. */
static struct slot *slot_use(struct facts *f, uint8_t kind, uint16_t number)
{
    if (number >= FACTS_NUMBERS_MAX)
        return NULL;
    uint16_t at = f->s.slot_of[kind][number];
    if (FB_LIKELY(at))
        return facts_slot_at(f, at - 1U);
    if (f->s.slot_count == f->scopes_max || !facts_reserve(f, f->s.slot_count + 1, 0)) {
        f->s.scopes_refused++;
        return NULL;
    }
    struct slot *slot = facts_slot_at(f, f->s.slot_count++);
    slot->kind = kind;
    slot->class = FACT_ALL_CLASSES;
    slot->number = number;
    f->s.slot_of[kind][number] = (uint16_t)f->s.slot_count;
    return slot;
}

static void classes_add(struct facts *f, uint8_t kind, uint16_t number)
{
    for (uint8_t i = 0; i < EV_CLASS_COUNT; i++) {
        struct slot *slot = facts_class_at(f, f->s.class_count++);
        slot->kind = kind;
        slot->class = i;
        slot->number = number;
    }
}

/* The slot of one class of a service; the first four are those of everything. */
static struct slot *class_use(struct facts *f, uint16_t service, uint8_t class)
{
    if (service >= FACTS_NUMBERS_MAX || class >= EV_CLASS_COUNT)
        return NULL;
    uint16_t at = f->s.class_of[service];
    if (FB_LIKELY(at))
        return facts_class_at(f, at - 1U + class);
    uint32_t wanted = f->s.class_count + EV_CLASS_COUNT;
    if (wanted > f->classes_max || !facts_reserve(f, 0, wanted))
        return NULL;
    f->s.class_of[service] = (uint16_t)(f->s.class_count + 1);
    classes_add(f, EV_KIND_SERVICE, service);
    return facts_class_at(f, f->s.class_of[service] - 1U + class);
}

static struct judged judge(const struct facts *f, const struct ev_request *r)
{
    struct judged j = {.r = r};
    uint64_t objective_us = r->service < FACTS_NUMBERS_MAX ? f->s.objective_us[r->service] : 0;
    j.is_shed = ev_reason_is_shed(r->reason);
    j.is_at_door = r->reason == REASON_SHED_PRIORITY || r->reason == REASON_SHED_OWN_LOAD ||
                   r->reason == REASON_SHED_CAP || r->reason == REASON_SHED_ERRORS;
    j.is_aborted =
        !j.is_shed && (r->flags & EV_REQUEST_ABORTED || r->reason == REASON_CLIENT_GONE ||
                       r->reason == REASON_CLIENT_GONE_QUEUED);
    j.is_failed = !j.is_shed && !j.is_aborted && (r->flags & EV_REQUEST_FAILED);
    j.is_sent = !j.is_shed && r->endpoint != EV_NONE;
    j.is_timeout = r->reason == REASON_UPSTREAM_TIMEOUT;
    bool is_stream = r->flags & EV_REQUEST_STREAM;
    bool is_answered = !j.is_failed && !j.is_aborted &&
                       (r->reason == REASON_ANSWERED || r->reason == REASON_ANSWERED_LOCALLY ||
                        r->reason == REASON_MIRRORED || ev_reason_is_cached(r->reason));
    j.is_latency = is_answered && !is_stream;
    j.is_in_time = j.is_latency && (objective_us == 0 || r->total_us <= objective_us);
    /* fast errors look like speed: the upstream time learns from answers, and from waits given up
     * as "longer than this" */
    j.is_given_up = j.is_sent && (r->flags & EV_REQUEST_CENSORED) && !is_stream;
    j.is_upstream = j.is_sent && is_answered && !j.is_given_up && !is_stream;
    j.is_plain = !j.is_shed && !j.is_at_door && !j.is_aborted && !j.is_failed && !j.is_timeout &&
                 r->cache == EV_CACHE_OFF && !ev_reason_is_cached(r->reason) &&
                 !(r->flags & (EV_REQUEST_ATTEMPTS_MASK | EV_REQUEST_HEDGED));
    j.total_bucket = sketch_bucket(r->total_us);
    j.queue_bucket = r->queue_us ? sketch_bucket(r->queue_us) : 0;
    j.waited_us = r->upstream_us;
    j.waited_bucket = sketch_bucket(r->upstream_us);
    return j;
}

static void count_in(struct slot *slot, const struct judged *j)
{
    const struct ev_request *r = j->r;
    uint64_t *fill = slot->fill;
    slot->last_request_us = r->head.time_us;
    fill[COUNT_ENDED]++;
    fill[COUNT_SENT] += j->is_sent;
    fill[COUNT_IN_TIME] += j->is_in_time;
    fill[COUNT_BYTES] += r->sent_bytes;
    if (j->is_latency) {
        fill[COUNT_LATENCY_N]++;
        fill[COUNT_LATENCY_US] += r->total_us;
        window_add_bucket(&slot->sketch[SKETCH_LATENCY], j->total_bucket);
    }
    if (FB_LIKELY(j->is_plain))
        return;
    fill[COUNT_SHED] += j->is_shed;
    fill[COUNT_CACHE_ASKED] += r->cache != EV_CACHE_OFF;
    fill[COUNT_CACHE_HITS] += ev_reason_is_cached(r->reason);
    fill[COUNT_SHED_AT_DOOR] += j->is_at_door;
    fill[COUNT_ABORTED] += j->is_aborted;
    fill[COUNT_FAILED] += j->is_failed;
    fill[COUNT_TIMEOUT] += j->is_timeout;
    if (j->is_sent)
        fill[COUNT_RETRIES] += r->flags & EV_REQUEST_ATTEMPTS_MASK;
    fill[COUNT_HEDGED] += j->is_sent && r->flags & EV_REQUEST_HEDGED;
}

/* <since_us>: how long before the send of this answer the wait began. */
static void count_in_scope(struct slot *slot, struct judged *j, uint64_t since_us)
{
    if (!slot)
        return;
    count_in(slot, j);
    uint32_t waited_us = fb_sat_u32(since_us + j->r->upstream_us);
    if (FB_UNLIKELY(waited_us != j->waited_us)) {
        j->waited_us = waited_us;
        j->waited_bucket = sketch_bucket(waited_us);
    }
    if (j->is_upstream)
        window_add_bucket(&slot->sketch[SKETCH_UPSTREAM], j->waited_bucket);
    else if (j->is_given_up)
        window_add_bucket(&slot->sketch[SKETCH_GIVEN_UP], j->waited_bucket);
    if (j->is_sent)
        window_add_bucket(&slot->sketch[SKETCH_QUEUE], j->queue_bucket);
}

static void feed_request(struct facts *f, const struct ev_request *r)
{
    if (ev_reason_is_rule(r->reason))
        return; /* never asked of the service: neither demand nor fault nor a quick answer */
    struct judged j = judge(f, r);
    /* Sent twice: the route waited since the first send, the endpoint that answered since its own,
     * and the other one would have taken longer than this. */
    bool is_won = r->hedge == EV_HEDGE_WON;
    uint64_t since_us = is_won ? r->hedge_us : 0;
    bool is_mirror = ev_reason_is_mirror(r->reason); /* of its service alone: no client asked */
    if (!is_mirror) {
        count_in_scope(slot_use(f, EV_KIND_NONE, 0), &j, since_us);
        count_in_scope(slot_use(f, EV_KIND_ROUTE, r->route), &j, since_us);
    }
    count_in_scope(slot_use(f, EV_KIND_SERVICE, r->service), &j, since_us);
    if (r->endpoint < FACTS_NUMBERS_MAX) {
        count_in_scope(slot_use(f, EV_KIND_ENDPOINT, r->endpoint), &j, 0);
        uint16_t version = r->version;
        uint16_t named = f->s.version_of[r->endpoint];
        if (version == EV_NONE && named) /* by whoever does not say it: as the names say */
            version = (uint16_t)(named - 1);
        if (version < FACTS_NUMBERS_MAX && f->s.is_version[version])
            count_in_scope(slot_use(f, EV_KIND_VERSION, version), &j, 0);
    }
    if (r->flags & EV_REQUEST_HEDGED && r->hedge_endpoint < FACTS_NUMBERS_MAX && j.is_upstream) {
        uint64_t other_us = is_won ? (uint64_t)r->hedge_us + r->upstream_us
                                   : fb_sub_floor_u64(r->upstream_us, r->hedge_us);
        struct slot *slot = slot_use(f, EV_KIND_ENDPOINT, r->hedge_endpoint);
        if (slot)
            window_add(&slot->sketch[SKETCH_GIVEN_UP], fb_sat_u32(other_us));
    }
    if (r->class < EV_CLASS_COUNT) {
        if (FB_UNLIKELY(f->s.class_count == 0))
            classes_add(f, EV_KIND_NONE, 0);
        struct slot *slot = class_use(f, r->service, r->class);
        if (slot)
            count_in(slot, &j);
        if (!is_mirror)
            count_in(facts_class_at(f, r->class), &j);
    }
}

static void feed_gauge(struct facts *f, const struct ev_gauge *g)
{
    if (g->kind != EV_KIND_SERVICE && g->kind != EV_KIND_ENDPOINT)
        return;
    uint64_t queued = (uint64_t)g->queued_critical + g->queued_default + g->queued_degraded +
                      g->queued_best_effort;
    /* "everything" is the sum of the services */
    struct slot *slots[2] = {slot_use(f, g->kind, g->number),
                             g->kind == EV_KIND_SERVICE ? slot_use(f, EV_KIND_NONE, 0) : NULL};
    for (size_t i = 0; i < FB_COUNT(slots); i++) {
        struct slot *slot = slots[i];
        if (!slot)
            continue;
        slot->last_gauge_us = g->head.time_us;
        slot->has_gauge += i == 0 || slot->has_gauge == 0;
        slot->fill[COUNT_IN_FLIGHT] += g->in_flight;
        slot->fill[COUNT_LIMIT] += g->limit;
        slot->fill[COUNT_QUEUED] += queued;
    }
}

static void feed_proposal(struct facts *f, const struct ev_proposal *p)
{
    struct slot *slot = slot_use(f, EV_KIND_ENDPOINT, p->endpoint);
    if (!slot)
        return;
    slot->learner_us = p->head.time_us;
    slot->learner_latency_us = p->latency_us;
    slot->learner_base_us = p->base_us;
    slot->learner_ratio = p->ratio;
    slot->learner_samples = p->samples;
    slot->learner_base_samples = p->base_samples;
}

static void feed_resource(struct facts *f, const struct ev_resource *r)
{
    if (r->scope >= FACTS_RESOURCE_SCOPES)
        return;
    struct facts_resource *seen = &f->s.resource[r->scope];
    uint64_t now_us = r->head.time_us;
    /* counters: a ratio needs two readings, and a restarted process begins again at zero */
    if (seen->samples > 0 && now_us > seen->at_us && r->cpu_us >= seen->cpu_us && r->cores > 0) {
        seen->cpu_ratio = (double)(r->cpu_us - seen->cpu_us) /
                          ((double)(now_us - seen->at_us) * (double)r->cores);
        seen->samples++;
    } else {
        seen->cpu_ratio = 0;
        seen->samples = 1;
    }
    seen->memory_ratio =
        r->memory_total_bytes ? (double)r->memory_bytes / (double)r->memory_total_bytes : 0;
    seen->cpu_us = r->cpu_us;
    seen->at_us = now_us;
}

/* A fresh slot, of which only what is used has memory behind it; without memory the old one is
 * wiped. */
static void slot_renew(struct facts *f, uint8_t kind, uint16_t number)
{
    uint16_t at = f->s.slot_of[kind][number];
    if (!at)
        return;
    struct slot *fresh = calloc(1, SLOT_BYTES);
    if (fresh) {
        free(f->slot[at - 1U]);
        f->slot[at - 1U] = fresh;
    }
    struct slot *slot = facts_slot_at(f, at - 1U);
    if (!fresh)
        memset(slot, 0, SLOT_BYTES);
    slot->kind = kind;
    slot->class = FACT_ALL_CLASSES;
    slot->number = number;
}

static void feed_name(struct facts *f, const struct ev_name *n)
{
    if (n->number >= FACTS_NUMBERS_MAX)
        return;
    if (ev_owner_is_other(&f->s.owners, n))
        slot_renew(f, EV_KIND_ENDPOINT, n->number);
    if (n->kind == EV_KIND_VERSION)
        f->s.is_version[n->number] = !n->is_gone;
    if (n->kind == EV_KIND_ENDPOINT)
        f->s.version_of[n->number] =
            n->is_gone || n->version >= FACTS_NUMBERS_MAX ? 0 : (uint16_t)(n->version + 1);
}

static void roll(struct slot *slot, const struct window_clock *clock, uint32_t sketches)
{
    slot->fill[COUNT_GAUGES] = slot->has_gauge;
    slot->has_gauge = 0;
    for (uint32_t i = 0; i < COUNT_COUNT; i++) {
        window_roll_count(&slot->count[i], clock, slot->fill[i]);
        slot->fill[i] = 0;
    }
    for (uint32_t i = 0; i < sketches; i++)
        window_roll_sketch(&slot->sketch[i], clock);
}

static void close_pane(struct facts *f, uint64_t now_us)
{
    window_close(&f->s.clock, now_us);
    for (uint32_t i = 0; i < f->s.slot_count; i++)
        roll(facts_slot_at(f, i), &f->s.clock, SKETCH_COUNT);
    for (uint32_t i = 0; i < f->s.class_count; i++)
        roll(facts_class_at(f, i), &f->s.clock, 1);
}

/* The clock of a new boot: all times of the old one mean nothing here. */
static void clock_restart(struct facts *f, uint64_t now_us)
{
    uint64_t back_us = f->s.clock.now_us - now_us;
    for (uint32_t i = 0; i < f->s.slot_count; i++) {
        struct slot *slot = facts_slot_at(f, i);
        slot->last_request_us = slot->last_gauge_us = 0;
        slot->learner_us = fb_sub_floor_u64(slot->learner_us, back_us);
    }
    for (uint32_t i = 0; i < FACTS_RESOURCE_SCOPES; i++)
        f->s.resource[i] = (struct facts_resource){0};
    f->s.last_input_us = 0;
    /* empty panes push everything out; their length does not matter after the restart below */
    for (uint32_t i = 0; i <= WINDOW_ALL_PANES + 2 * WINDOW_FINE * WINDOW_SECS; i++)
        close_pane(f, f->s.clock.now_us);
    window_start(&f->s.clock, now_us);
}

static void feed_tick(struct facts *f, uint64_t now_us)
{
    struct window_clock *clock = &f->s.clock;
    if (now_us < clock->now_us) {
        clock_restart(f, now_us);
        return;
    }
    /* A late tick closes as many panes as passed: what came meanwhile falls into the first of them.
     */
    uint64_t panes = (now_us - clock->now_us + WINDOW_PANE_US / 2) / WINDOW_PANE_US;
    panes = fb_min_u64(fb_max_u64(panes, 1), WINDOW_ALL_PANES + WINDOW_FINE * WINDOW_SECS);
    uint64_t from_us = clock->now_us;
    for (uint64_t i = 1; i <= panes; i++)
        close_pane(f, from_us + (now_us - from_us) * i / panes);
}

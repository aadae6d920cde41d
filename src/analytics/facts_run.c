/* SPDX-License-Identifier: Apache-2.0 */
/* Runs: nearly all requests are plain answers, and under load many in a row are of the same scopes.
 * Their counters move together and their times fall into the same seven sketches, so the sums of
 * a run are added once per scope.  The order of additions changes nothing: all are of integers. */
#include "analytics/facts_int.h"

#include "base/assert.h"

/* Counted in the same way in all its scopes: see judge in facts.c. */
static bool is_plain_answer(const struct ev_request *r)
{
    return r->reason == REASON_ANSWERED && (r->flags & ~EV_REQUEST_REUSED) == 0 &&
           r->cache == EV_CACHE_OFF && r->hedge != EV_HEDGE_WON &&
           r->endpoint < FACTS_NUMBERS_MAX && r->class < EV_CLASS_COUNT;
}

bool facts_run_take(const struct facts *f, const struct ev_request *r)
{
    struct facts_run *u = f->run;
    if (!u->is_open || r->route != u->route || r->service != u->service ||
        r->endpoint != u->endpoint || r->version != u->version || r->class != u->class ||
        !is_plain_answer(r))
        return false;
    uint64_t objective_us = r->service < FACTS_NUMBERS_MAX ? f->s.objective_us[r->service] : 0;
    u->last_us = r->head.time_us;
    u->sent_bytes += r->sent_bytes;
    u->latency_us += r->total_us;
    u->in_time += objective_us == 0 || r->total_us <= objective_us;
    u->queued_us += r->queue_us;
    u->latency[u->n] = (uint16_t)sketch_bucket(r->total_us);
    u->upstream[u->n] = (uint16_t)sketch_bucket(r->upstream_us);
    u->queue[u->n] = r->queue_us ? (uint16_t)sketch_bucket(r->queue_us) : 0;
    if (++u->n == FACTS_RUN_MAX)
        facts_run_end(f);
    return true;
}

/* The slot of a scope that has one; false: it should have one, and found no room. */
static bool slot_of(const struct facts *f, uint8_t kind, uint16_t number, struct slot **slot)
{
    *slot = NULL;
    if (number >= FACTS_NUMBERS_MAX)
        return true;
    uint16_t at = f->s.slot_of[kind][number];
    if (at)
        *slot = facts_slot_at(f, at - 1U);
    return at != 0;
}

void facts_run_begin(const struct facts *f, const struct ev_request *r)
{
    struct facts_run *u = f->run;
    fb_assert(u->n == 0);
    u->is_open = false;
    if (!is_plain_answer(r) || r->service >= FACTS_NUMBERS_MAX || !f->s.class_of[r->service])
        return;
    uint16_t version = r->version, named = f->s.version_of[r->endpoint];
    if (version == EV_NONE && named)
        version = (uint16_t)(named - 1);
    if (version < FACTS_NUMBERS_MAX && !f->s.is_version[version])
        version = EV_NONE;
    if (!slot_of(f, EV_KIND_NONE, 0, &u->scope[0]) ||
        !slot_of(f, EV_KIND_ROUTE, r->route, &u->scope[1]) ||
        !slot_of(f, EV_KIND_SERVICE, r->service, &u->scope[2]) ||
        !slot_of(f, EV_KIND_ENDPOINT, r->endpoint, &u->scope[3]) ||
        !slot_of(f, EV_KIND_VERSION, version, &u->scope[4]))
        return;
    u->class_slot[0] = facts_class_at(f, f->s.class_of[r->service] - 1U + r->class);
    u->class_slot[1] = facts_class_at(f, r->class);
    u->route = r->route;
    u->service = r->service;
    u->endpoint = r->endpoint;
    u->version = r->version;
    u->class = r->class;
    u->is_open = true;
}

static void add_counts(struct slot *slot, const struct facts_run *u)
{
    uint64_t *fill = slot->fill;
    slot->last_request_us = u->last_us;
    fill[COUNT_ENDED] += u->n;
    fill[COUNT_SENT] += u->n;
    fill[COUNT_IN_TIME] += u->in_time;
    fill[COUNT_BYTES] += u->sent_bytes;
    fill[COUNT_LATENCY_N] += u->n;
    fill[COUNT_LATENCY_US] += u->latency_us;
}

static void add_buckets(struct window_sketch *w, const uint16_t *bucket, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        window_add_bucket(w, bucket[i]);
}

void facts_run_end(const struct facts *f)
{
    struct facts_run *u = f->run;
    if (u->n == 0)
        return;
    for (uint32_t i = 0; i < FACTS_RUN_SCOPES; i++) {
        struct slot *slot = u->scope[i];
        if (!slot)
            continue;
        add_counts(slot, u);
        add_buckets(&slot->sketch[SKETCH_LATENCY], u->latency, u->n);
        add_buckets(&slot->sketch[SKETCH_UPSTREAM], u->upstream, u->n);
        if (u->queued_us)
            add_buckets(&slot->sketch[SKETCH_QUEUE], u->queue, u->n);
        else
            window_add_many(&slot->sketch[SKETCH_QUEUE], 0, u->n);
    }
    for (uint32_t i = 0; i < FB_COUNT(u->class_slot); i++) {
        add_counts(u->class_slot[i], u);
        add_buckets(&u->class_slot[i]->sketch[SKETCH_LATENCY], u->latency, u->n);
    }
    u->n = 0;
    u->sent_bytes = u->latency_us = u->in_time = u->queued_us = 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "output/timeline.h"

#include "base/assert.h"

#include <stdlib.h>

static void feed_decision(struct timeline *t, const struct ev_decision *d, uint64_t offset);
static void feed_alert(struct timeline *t, const struct ev_alert *a, uint64_t offset);

bool timeline_init(struct timeline *t)
{
    *t = (struct timeline){0};
    t->entry = calloc(TIMELINE_MAX, sizeof *t->entry);
    return t->entry != NULL;
}

void timeline_fini(struct timeline *t)
{
    free(t->entry);
    *t = (struct timeline){0};
}

uint64_t timeline_wall_us(const struct timeline *t, uint64_t mono_us)
{
    return t->wall_minus_mono_us + mono_us;
}

static struct timeline_entry *find(const struct timeline *t, uint64_t decision_id)
{
    uint64_t kept = fb_min_u64(t->count, TIMELINE_MAX);
    for (uint64_t i = 0; i < kept; i++) {
        struct timeline_entry *e = &t->entry[(t->count - 1 - i) % TIMELINE_MAX];
        if (e->decision.decision_id == decision_id)
            return e;
    }
    return NULL;
}

void timeline_feed(struct timeline *t, const struct ev_head *ev, uint64_t offset)
{
    fb_assert(t->entry != NULL);
    switch (ev->type) {
    case EV_TICK:
        t->wall_minus_mono_us = ((const struct ev_tick *)ev)->wall_us - ev->time_us;
        break;
    case EV_DECISION:
        feed_decision(t, (const struct ev_decision *)ev, offset);
        break;
    case EV_OUTCOME: {
        struct timeline_entry *e = find(t, ((const struct ev_outcome *)ev)->decision_id);
        if (e) {
            e->outcome = *(const struct ev_outcome *)ev;
            e->has_outcome = true;
        }
        break;
    }
    case EV_ALERT:
        feed_alert(t, (const struct ev_alert *)ev, offset);
        break;
    default:
        break;
    }
}

static void feed_decision(struct timeline *t, const struct ev_decision *d, uint64_t offset)
{
    struct timeline_entry *e = NULL;
    /* Ids rise: only an id that is not new can be there already. */
    if (t->count > 0 && d->decision_id <= timeline_at(t, 0)->decision.decision_id)
        e = find(t, d->decision_id);
    if (!e)
        e = &t->entry[t->count++ % TIMELINE_MAX];
    *e = (struct timeline_entry){
        .decision = *d, .offset = offset, .wall_us = timeline_wall_us(t, d->head.time_us)};
}

static void feed_alert(struct timeline *t, const struct ev_alert *a, uint64_t offset)
{
    uint64_t wall_us = timeline_wall_us(t, a->head.time_us);
    uint64_t kept = fb_min_u64(t->alert_count, TIMELINE_ALERTS_MAX);
    for (uint64_t i = 0; i < kept; i++) { /* the end of one that stands, or its repetition */
        struct timeline_alert *x = &t->alert[(t->alert_count - 1 - i) % TIMELINE_ALERTS_MAX];
        if (x->over_us || x->alert.reason != a->reason || x->alert.target != a->target ||
            x->alert.target_kind != a->target_kind || x->alert.loop != a->loop)
            continue;
        if (a->is_over)
            x->over_us = wall_us;
        else
            x->alert = *a;
        return;
    }
    if (a->is_over)
        return;
    t->alert[t->alert_count++ % TIMELINE_ALERTS_MAX] =
        (struct timeline_alert){.alert = *a, .offset = offset, .wall_us = wall_us};
}

const struct timeline_entry *timeline_at(const struct timeline *t, uint64_t index)
{
    if (index >= fb_min_u64(t->count, TIMELINE_MAX))
        return NULL;
    return &t->entry[(t->count - 1 - index) % TIMELINE_MAX];
}

const struct timeline_entry *timeline_find(const struct timeline *t, uint64_t decision_id)
{
    return find(t, decision_id);
}

const struct timeline_alert *timeline_alert_at(const struct timeline *t, uint64_t index)
{
    if (index >= fb_min_u64(t->alert_count, TIMELINE_ALERTS_MAX))
        return NULL;
    return &t->alert[(t->alert_count - 1 - index) % TIMELINE_ALERTS_MAX];
}

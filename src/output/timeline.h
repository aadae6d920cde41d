/* SPDX-License-Identifier: Apache-2.0 */
/* timeline: the last decisions with their outcomes, and the alerts that still stand.
 *
 * A ring: the newest TIMELINE_MAX decisions are kept.  The wall clock of an entry is the mapping of
 * the last tick before it.  Pure; memory is allocated once.
 * Threads: one at a time per struct timeline. */
#ifndef FB_OUTPUT_TIMELINE_H
#define FB_OUTPUT_TIMELINE_H
#include "event/event.h"

#define TIMELINE_MAX 2048
#define TIMELINE_ALERTS_MAX 64

struct timeline_entry {
    struct ev_decision decision;
    struct ev_outcome outcome; /* of .decision_id, when has_outcome */
    bool has_outcome;
    uint64_t offset, wall_us;
};
struct timeline_alert {
    struct ev_alert alert;
    uint64_t offset, wall_us, over_us; /* over_us: wall clock of its end, 0 while it stands */
};
struct timeline {
    struct timeline_entry *entry; /* TIMELINE_MAX */
    uint64_t count;               /* ever added; the newest is entry[(count - 1) % TIMELINE_MAX] */
    struct timeline_alert alert[TIMELINE_ALERTS_MAX];
    uint64_t alert_count; /* ever added */
    uint64_t wall_minus_mono_us;
};

bool timeline_init(struct timeline *t); /* false without memory */
void timeline_fini(struct timeline *t);
/* Ticks, decisions, outcomes, alerts; ignores every other event.  A decision that is already there
 * (read back after a restart, then fed again) is replaced. */
void timeline_feed(struct timeline *t, const struct ev_head *ev, uint64_t offset);
uint64_t timeline_wall_us(const struct timeline *t, uint64_t mono_us);

/* Newest first: index 0 is the newest; NULL behind the oldest kept. */
const struct timeline_entry *timeline_at(const struct timeline *t, uint64_t index);
const struct timeline_entry *timeline_find(const struct timeline *t, uint64_t decision_id);
const struct timeline_alert *timeline_alert_at(const struct timeline *t, uint64_t index);
#endif

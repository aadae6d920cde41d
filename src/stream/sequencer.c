/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/sequencer.h"

#include "base/assert.h"

#include <stdlib.h>

/* Room that draining leaves to sequencer_put: 32 of the largest records. */
#define PUT_RESERVE_BYTES (8 * KIB)
/* Batches that wait for their acknowledgement: 20 ms of groups at a drain per millisecond, ten
 * times. When more wait, the newest marks are merged: released later, never too early. */
#define MARKS_MAX 256

struct mark {
    uint64_t offset; /* everything before <cursor> is below this offset */
    uint64_t cursor;
};

struct place {
    struct ring *ring;
    uint64_t cursor;              /* taken up to here */
    uint64_t ahead;               /* behind <peeked> */
    const struct ev_head *peeked; /* the next record, NULL: look again */
    struct mark mark[MARKS_MAX];
    uint32_t mark_first, mark_count;
};

struct origin {
    uint64_t last_us;
    uint32_t last_sequence;
    bool is_known;
    bool is_resumed; /* nothing seen yet since the brain started */
};

struct sequencer {
    struct batch batch;
    uint32_t place_count; /* places in use are below it */
    uint32_t brain_sequence;
    struct sequencer_stats stats;
    struct origin origin[256];
    struct place place[SEQUENCER_RINGS_MAX];
};

static bool take_run(struct sequencer *s, struct place *p, uint64_t until_us, uint32_t *left);
static bool take_record(struct sequencer *s, const struct ev_head *ev);
static void marks_put(struct sequencer *s);

struct sequencer *sequencer_new(const struct sequencer_conf *conf)
{
    fb_assert(conf->batch_bytes >= 4 * KIB);
    fb_assert(conf->batch_bytes <= 16 * MIB);
    struct sequencer *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->batch.cap = (size_t)conf->batch_bytes + PUT_RESERVE_BYTES;
    s->batch.cap &= ~(size_t)(EV_CELL_BYTES - 1);
    s->batch.bytes = aligned_alloc(EV_CELL_BYTES, s->batch.cap);
    if (!s->batch.bytes) {
        free(s);
        return NULL;
    }
    s->stats.next_offset = s->batch.first_offset = conf->next_offset;
    return s;
}

void sequencer_free(struct sequencer *s)
{
    if (!s)
        return;
    free(s->batch.bytes);
    free(s);
}

void sequencer_ring_set(struct sequencer *s, uint32_t place, struct ring *ring)
{
    fb_assert(place < SEQUENCER_RINGS_MAX);
    struct place *p = &s->place[place];
    *p = (struct place){.ring = ring};
    if (ring)
        p->cursor = p->ahead = ring_cursor(ring);
    s->place_count = fb_max_u32(s->place_count, place + 1);
}

void sequencer_save(const struct sequencer *s, struct sequencer_saved *saved)
{
    memset(saved, 0, sizeof *saved);
    for (int i = 0; i < 256; i++) {
        saved->origin[i].last_us = s->origin[i].last_us;
        saved->origin[i].last_sequence = s->origin[i].last_sequence;
        saved->origin[i].is_known = s->origin[i].is_known;
    }
    saved->origin[EV_ORIGIN_BRAIN].last_sequence = s->brain_sequence - 1;
    saved->origin[EV_ORIGIN_BRAIN].is_known = 1;
}

void sequencer_load(struct sequencer *s, const struct sequencer_saved *saved)
{
    for (int i = 0; i < 256; i++) {
        bool is_known = saved->origin[i].is_known != 0;
        s->origin[i] = (struct origin){.last_us = saved->origin[i].last_us,
                                       .last_sequence = saved->origin[i].last_sequence,
                                       .is_known = is_known,
                                       .is_resumed = is_known};
    }
    s->brain_sequence = saved->origin[EV_ORIGIN_BRAIN].last_sequence + 1;
}

void sequencer_resume(struct sequencer *s, const struct ev_head *ev)
{
    s->origin[ev->origin] = (struct origin){.last_us = ev->time_us,
                                            .last_sequence = ev->sequence,
                                            .is_known = true,
                                            .is_resumed = true};
    if (ev->origin == EV_ORIGIN_BRAIN)
        s->brain_sequence = ev->sequence + 1;
}

void sequencer_begin(struct sequencer *s)
{
    s->batch.len = 0;
    s->batch.count = 0;
    s->batch.first_offset = s->stats.next_offset;
    for (uint32_t i = 0; i < s->place_count; i++) {
        struct place *p = &s->place[i];
        /* The log is slow or degraded: analytics come first, a crash now would lose these. */
        if (!p->ring || p->cursor - ring_cursor(p->ring) <= p->ring->cells / 2)
            continue;
        ring_release(p->ring, p->cursor);
        p->mark_count = 0;
    }
}

/* The caller checked the room. */
static void batch_add(struct sequencer *s, const struct ev_head *ev)
{
    size_t bytes = (size_t)ev->cells * EV_CELL_BYTES;
    fb_assert(s->batch.len + bytes <= s->batch.cap);
    fb_assert(s->stats.next_offset == s->batch.first_offset + s->batch.count);
    memmove(s->batch.bytes + s->batch.len, ev, bytes);
    s->batch.len += bytes;
    s->batch.count++;
    s->stats.next_offset++;
    s->stats.events++;
}

static void batch_add_own(struct sequencer *s, const struct ev_head *ev)
{
    struct ev_head *copy = (void *)(s->batch.bytes + s->batch.len);
    batch_add(s, ev);
    copy->origin = EV_ORIGIN_BRAIN;
    copy->sequence = s->brain_sequence++;
}

bool sequencer_put(struct sequencer *s, const struct ev_head *ev)
{
    fb_assert(ev_is_valid(ev));
    if (s->batch.len + (size_t)ev->cells * EV_CELL_BYTES > s->batch.cap)
        return false;
    batch_add_own(s, ev);
    return true;
}

uint32_t sequencer_drain(struct sequencer *s, uint32_t events_max)
{
    uint32_t before = s->batch.count, left = events_max;
    bool has_room = true;
    while (left > 0 && has_room) {
        /* The ring with the oldest record, and how far it may run before another one is older. */
        struct place *oldest = NULL;
        uint64_t oldest_us = UINT64_MAX, until_us = UINT64_MAX;
        for (uint32_t i = 0; i < s->place_count; i++) {
            struct place *p = &s->place[i];
            if (p->ring && !p->peeked)
                p->peeked = ring_peek(p->ring, &p->ahead);
            if (!p->peeked)
                continue;
            uint64_t us = p->peeked->time_us;
            if (!oldest || us < oldest_us) {
                until_us = oldest ? oldest_us : UINT64_MAX;
                oldest = p;
                oldest_us = us;
            } else if (us < until_us) {
                until_us = us;
            }
        }
        if (!oldest)
            break;
        has_room = take_run(s, oldest, until_us, &left);
    }
    marks_put(s);
    return s->batch.count - before;
}

/* From one ring, while its records are not younger than <until_us>.  False when the batch is full.
 */
static bool take_run(struct sequencer *s, struct place *p, uint64_t until_us, uint32_t *left)
{
    bool is_first = true; /* a record of a broken clock must not stop the drain */
    while (*left > 0 && p->peeked && (is_first || p->peeked->time_us <= until_us)) {
        if (!take_record(s, p->peeked))
            return false;
        is_first = false;
        (*left)--;
        p->cursor = p->ahead;
        p->peeked = ring_peek(p->ring, &p->ahead);
    }
    return true;
}

/* Events lost before <ev>, or UINT32_MAX when the log has <ev> already. */
static uint32_t sequence_check(struct origin *o, const struct ev_head *ev)
{
    uint32_t ahead = ev->sequence - (o->last_sequence + 1);
    if (!o->is_known || ahead == 0)
        return 0;
    if (ahead < UINT32_C(1) << 31)
        return ahead;
    /* Behind: seen before when it is no younger than what was seen; else a new gateway counts anew.
     */
    return o->is_resumed && ev->time_us <= o->last_us ? UINT32_MAX : 0;
}

static void put_gap(struct sequencer *s, const struct origin *o, const struct ev_head *ev,
                    uint32_t lost)
{
    struct ev_gap gap = EV_INIT(GAP, gap, ev->time_us);
    gap.lost = lost;
    gap.from_us = o->last_us;
    gap.to_us = ev->time_us;
    gap.reason = o->is_resumed ? REASON_LOSS_BRAIN_AWAY : REASON_LOSS_RING_FULL;
    gap.source = ev->origin;
    batch_add_own(s, &gap.head);
    s->stats.gaps++;
    s->stats.lost += lost;
}

/* Its place is behind the batch already: it only has to be counted. */
static void batch_keep(struct sequencer *s, const struct ev_head *ev)
{
    fb_assert((const unsigned char *)ev == s->batch.bytes + s->batch.len);
    s->batch.len += (size_t)ev->cells * EV_CELL_BYTES;
    s->batch.count++;
    s->stats.next_offset++;
    s->stats.events++;
}

/* False when the batch has no room; the record then stays in the ring. */
static bool take_record(struct sequencer *s, const struct ev_head *shared)
{
    /* Copied first, then judged: the gateway could still write to its memory. */
    uint8_t cells = *(const volatile uint8_t *)&shared->cells;
    if (s->batch.len + (EV_CELLS_MAX + 1) * EV_CELL_BYTES > s->batch.cap - PUT_RESERVE_BYTES)
        return false;
    if (cells < 1 || cells > EV_CELLS_MAX) {
        s->stats.invalid++;
        return true;
    }
    struct ev_head *ev = (void *)(s->batch.bytes + s->batch.len);
    memcpy(ev, shared, (size_t)cells * EV_CELL_BYTES);
    if (ev->cells != cells || !ev_is_valid(ev) || ev->origin >= EV_ORIGIN_BRAIN) {
        s->stats.invalid++;
        return true;
    }
    struct origin *o = &s->origin[ev->origin];
    uint32_t lost = sequence_check(o, ev);
    if (lost == UINT32_MAX) {
        s->stats.repeated++;
        return true;
    }
    if (lost > 0) { /* the gap stands before it */
        union ev_any copy;
        memcpy(&copy, ev, (size_t)cells * EV_CELL_BYTES);
        put_gap(s, o, &copy.head, lost);
        ev = (void *)(s->batch.bytes + s->batch.len);
        memcpy(ev, &copy, (size_t)cells * EV_CELL_BYTES);
    }
    batch_keep(s, ev);
    *o = (struct origin){.last_us = ev->time_us, .last_sequence = ev->sequence, .is_known = true};
    return true;
}

/* Remembers how far each ring was taken at the present offset. */
static void marks_put(struct sequencer *s)
{
    for (uint32_t i = 0; i < s->place_count; i++) {
        struct place *p = &s->place[i];
        if (!p->ring)
            continue;
        struct mark *last =
            p->mark_count ? &p->mark[(p->mark_first + p->mark_count - 1) % MARKS_MAX] : NULL;
        uint64_t marked = last ? last->cursor : ring_cursor(p->ring);
        if (marked == p->cursor)
            continue;
        if (p->mark_count == MARKS_MAX)
            p->mark_count--; /* merged with the newest */
        fb_assert(p->mark_count < MARKS_MAX);
        p->mark[(p->mark_first + p->mark_count++) % MARKS_MAX] =
            (struct mark){s->stats.next_offset, p->cursor};
    }
}

const struct batch *sequencer_batch(const struct sequencer *s)
{
    return &s->batch;
}

void sequencer_release(struct sequencer *s, uint64_t offset)
{
    for (uint32_t i = 0; i < s->place_count; i++) {
        struct place *p = &s->place[i];
        uint64_t cursor = 0;
        while (p->mark_count > 0 && p->mark[p->mark_first].offset <= offset) {
            cursor = p->mark[p->mark_first].cursor;
            p->mark_first = (p->mark_first + 1) % MARKS_MAX;
            p->mark_count--;
        }
        fb_assert(cursor <= p->cursor);
        if (cursor)
            ring_release(p->ring, cursor);
    }
}

void sequencer_stats_read(const struct sequencer *s, struct sequencer_stats *stats)
{
    *stats = s->stats;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/queue.h"

#include "base/assert.h"
#include "reflex/fair.h"
#include "reflex/gate.h"

_Static_assert(QUEUE_BUCKETS == FAIR_USERS, "users have one place in both");

/* Service rate is smoothed over about four of these: 400 ms, well under the shed loop's 500 ms x 2.
 */
static const uint64_t rate_period_us = 100 * US_PER_MS;
/* Oldest first again when the whole class could be served within this share of the longest wait.
 * Below 0.9, a closed loop of clients that fills 80 % of the bound would be shed for ever, see
 * doc/design/balance.md. */
static const double calm_share = 0.9;
/* Newest first from here on: clearly more than can be served.  At 97 % load a queue at exactly the
 * bound lost 60 critical requests at once to the change of order; oldest first it loses a few. */
static const double over_share = 1.2;
/* So many of one user that wait are no flood, whatever their share. */
static const uint32_t bunch_min = 4;
/* Deadlines looked at per call: 8192 waiting are seen within 128 calls, 640 ms at one call per
 * tick. */
static const uint32_t sweep_looks = 64;

static uint16_t bucket_of(const struct gate_ticket *t);
static bool is_within(const struct queue *q, const struct queue_class *c, double share);
static struct gate_ticket *next_of(const struct queue *q, struct queue_class *c);
static struct gate_ticket *last_of(const struct queue_class *c, struct gate_ticket *t);
static void bucket_push(struct queue_class *c, struct gate_ticket *t);
static void bucket_remove(struct queue_class *c, struct gate_ticket *t);
static void ring_insert(struct queue_class *c, uint16_t b);
static void ring_remove(struct queue_class *c, uint16_t b);

void queue_init(struct queue *q, uint64_t now_us)
{
    *q = (struct queue){.capacity = 1, .period_us = now_us};
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++) {
        struct queue_class *c = &q->classes[i];
        c->turn = EV_NONE;
        for (uint32_t b = 0; b < QUEUE_BUCKETS; b++)
            c->buckets[b].next = c->buckets[b].prev = EV_NONE;
    }
}

void queue_set(struct queue *q, uint32_t capacity, uint64_t wait_max_us, bool is_adaptive)
{
    fb_assert(capacity >= 1);
    q->capacity = capacity;
    q->wait_max_us = wait_max_us;
    q->is_adaptive = is_adaptive;
    if (!is_adaptive)
        for (uint32_t i = 0; i < EV_CLASS_COUNT; i++)
            q->classes[i].is_newest_first = false;
}

struct gate_ticket *queue_put(struct queue *q, struct gate_ticket *t, uint8_t class,
                              uint64_t now_us)
{
    fb_assert(class < EV_CLASS_COUNT);
    struct gate_ticket *victim = NULL;
    if (q->length >= q->capacity) {
        uint8_t lowest = EV_CLASS_COUNT - 1;
        while (lowest > class && q->classes[lowest].length == 0)
            lowest--;
        victim = last_of(&q->classes[lowest], lowest == class ? t : NULL);
        if (victim == t)
            return t;
        queue_remove(q, victim);
    }
    struct queue_class *c = &q->classes[class];
    t->queue_class = class;
    t->queued_us = now_us;
    t->next = NULL;
    t->prev = c->newest;
    if (c->newest)
        c->newest->next = t;
    else
        c->oldest = t;
    c->newest = t;
    c->length++;
    q->length++;
    bucket_push(c, t);
    return victim;
}

void queue_remove(struct queue *q, struct gate_ticket *t)
{
    struct queue_class *c = &q->classes[t->queue_class];
    fb_assert(c->length > 0);
    fb_assert(q->length > 0);
    if (q->sweep == t)
        q->sweep = t->next;
    if (t->prev)
        t->prev->next = t->next;
    else
        c->oldest = t->next;
    if (t->next)
        t->next->prev = t->prev;
    else
        c->newest = t->prev;
    t->next = t->prev = NULL;
    c->length--;
    q->length--;
    bucket_remove(c, t);
}

struct gate_ticket *queue_take(struct queue *q)
{
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++) {
        struct queue_class *c = &q->classes[i];
        if (c->length == 0)
            continue;
        struct gate_ticket *t = next_of(q, c);
        c->taken++;
        queue_remove(q, t);
        return t;
    }
    return NULL;
}

/* All of the class could be served within <share> of the longest wait at its present rate. */
static bool is_within(const struct queue *q, const struct queue_class *c, double share)
{
    return (double)c->length < share * (double)q->wait_max_us * c->taken_per_us;
}

/* Users in turn, in overload the newest first.  While nobody has to lose, every second one is the
 * oldest of all once that has waited a quarter of the bound: with 17 equal users at 97 % load those
 * whose requests came in a bunch waited 250 ms beside a mean of 40, and 3 % were refused. */
static struct gate_ticket *next_of(const struct queue *q, struct queue_class *c)
{
    uint64_t oldest_us = fb_sub_floor_u64(q->now_us, c->oldest->queued_us);
    bool is_old_due = q->is_adaptive && !c->is_newest_first && (c->taken & 1) != 0;
    if (is_old_due && oldest_us > q->wait_max_us / 4 && is_within(q, c, over_share)) {
        /* Not for a user with much of all that waits: his wait is of his own making. */
        uint32_t own = c->buckets[bucket_of(c->oldest)].length;
        if (own <= bunch_min || own <= c->length / 4)
            return c->oldest;
    }
    uint16_t b = c->turn;
    fb_assert(b < QUEUE_BUCKETS);
    c->turn = c->buckets[b].next;
    return c->is_newest_first ? c->buckets[b].newest : c->buckets[b].oldest;
}

struct gate_ticket *queue_take_expired(struct queue *q, uint64_t now_us)
{
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++) {
        struct queue_class *c = &q->classes[i];
        struct gate_ticket *t = c->oldest;
        if (!t || queue_verdict(q, t, now_us) == REASON_NONE)
            continue;
        bool is_late = fb_sub_floor_u64(now_us, t->queued_us) >= q->wait_max_us;
        if (q->is_adaptive && is_late && !is_within(q, c, over_share))
            c->is_newest_first = true;
        queue_remove(q, t);
        return t;
    }
    /* Deadlines are not in order of arrival: a slow walk finds those in the middle. */
    for (uint32_t look = 0; look < sweep_looks && q->sweep; look++) {
        struct gate_ticket *t = q->sweep;
        q->sweep = t->next;
        if (t->deadline_us <= now_us) {
            queue_remove(q, t);
            return t;
        }
    }
    return NULL;
}

enum ev_reason queue_verdict(const struct queue *q, const struct gate_ticket *t, uint64_t now_us)
{
    if (t->deadline_us <= now_us)
        return REASON_SHED_DEADLINE;
    if (fb_sub_floor_u64(now_us, t->queued_us) >= q->wait_max_us)
        return REASON_SHED_QUEUE_WAIT;
    return REASON_NONE;
}

bool queue_is_overloaded(const struct queue *q, uint64_t now_us)
{
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++) {
        const struct queue_class *c = &q->classes[i];
        if (c->is_newest_first)
            return true;
        if (c->oldest && fb_sub_floor_u64(now_us, c->oldest->queued_us) > q->wait_max_us / 4)
            return true;
    }
    return false;
}

void queue_tick(struct queue *q, uint64_t now_us)
{
    q->now_us = now_us;
    if (!q->sweep)
        for (uint32_t i = 0; i < EV_CLASS_COUNT && !q->sweep; i++)
            q->sweep = q->classes[i].oldest;
    uint64_t passed_us = fb_sub_floor_u64(now_us, q->period_us);
    if (passed_us < rate_period_us)
        return;
    q->period_us = now_us;
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++) {
        struct queue_class *c = &q->classes[i];
        c->taken_per_us += 0.25 * ((double)c->taken / (double)passed_us - c->taken_per_us);
        c->taken = 0;
        if (c->length == 0 || is_within(q, c, calm_share))
            c->is_newest_first = false;
        for (uint16_t b = 0; b < QUEUE_BUCKETS; b++)
            if (c->buckets[b].length > c->buckets[c->longest].length)
                c->longest = b;
    }
}

/* Who leaves a full class, <t> (may be NULL) being about to join it: the newest of the user with
 * the most that wait, else the newest of all.  Otherwise one user could fill the queue and keep all
 * others out. */
static struct gate_ticket *last_of(const struct queue_class *c, struct gate_ticket *t)
{
    const struct queue_bucket *most = &c->buckets[c->longest];
    uint32_t own = t ? c->buckets[bucket_of(t)].length : 0;
    if (most->newest && most->length > own + 1)
        return most->newest;
    return t ? t : c->newest;
}

/* ---- buckets of one class ---- */

static uint16_t bucket_of(const struct gate_ticket *t)
{
    return fair_place(t->key_hash, t->queue_row);
}

static void bucket_push(struct queue_class *c, struct gate_ticket *t)
{
    uint16_t at = bucket_of(t);
    struct queue_bucket *b = &c->buckets[at];
    bool was_empty = b->newest == NULL;
    t->peer_next = NULL;
    t->peer_prev = b->newest;
    if (b->newest)
        b->newest->peer_next = t;
    else
        b->oldest = t;
    b->newest = t;
    b->length++;
    if (b->length > c->buckets[c->longest].length)
        c->longest = at;
    if (was_empty)
        ring_insert(c, at);
}

static void bucket_remove(struct queue_class *c, struct gate_ticket *t)
{
    uint16_t at = bucket_of(t);
    struct queue_bucket *b = &c->buckets[at];
    if (t->peer_prev)
        t->peer_prev->peer_next = t->peer_next;
    else
        b->oldest = t->peer_next;
    if (t->peer_next)
        t->peer_next->peer_prev = t->peer_prev;
    else
        b->newest = t->peer_prev;
    t->peer_next = t->peer_prev = NULL;
    b->length--;
    if (!b->oldest)
        ring_remove(c, at);
}

/* Oldest first: a user who comes back waits for his turn, behind all others.  Newest first: he is
 * next. */
static void ring_insert(struct queue_class *c, uint16_t at)
{
    struct queue_bucket *b = &c->buckets[at];
    if (c->turn == EV_NONE) {
        b->next = b->prev = at;
        c->turn = at;
        return;
    }
    struct queue_bucket *first = &c->buckets[c->turn];
    b->next = c->turn;
    b->prev = first->prev;
    c->buckets[b->prev].next = at;
    first->prev = at;
    if (c->is_newest_first)
        c->turn = at;
}

static void ring_remove(struct queue_class *c, uint16_t at)
{
    struct queue_bucket *b = &c->buckets[at];
    if (b->next == at) {
        c->turn = EV_NONE;
    } else {
        c->buckets[b->prev].next = b->next;
        c->buckets[b->next].prev = b->prev;
        if (c->turn == at)
            c->turn = b->next;
    }
    b->next = b->prev = EV_NONE;
}

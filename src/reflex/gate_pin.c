/* SPDX-License-Identifier: Apache-2.0 */
/* Sticky sessions: a ticket that names its endpoint goes there, or waits a while for it.
 *
 *   pinned -> endpoint has room ----------------------------> in flight
 *          -> full: waits at it, by class and arrival ------> in flight
 *                   \-- too long, or it is out of use -------> the common way, on another endpoint
 *          -> unknown, out of use, tried, list full --------> the common way
 *
 * A quarter of the longest wait: what then goes elsewhere can still wait there and be in time. */
#include "base/assert.h"
#include "reflex/admit.h"
#include "reflex/gate_int.h"

static const uint64_t wait_part = 4;
/* Per endpoint: more would wait too long anyway, and a list is walked to insert. */
static const uint32_t waiting_max = 256;

static struct endpoint *endpoint_of(const struct gate *g, const struct gate_ticket *t);
static bool is_usable(const struct gate *g, const struct endpoint *ep);
static void enqueue(struct gate *g, struct endpoint *ep, struct gate_ticket *t, uint64_t now_us);
static struct gate_ticket *look_at(struct gate *g, struct endpoint *ep, uint64_t now_us);

enum gate_pin_answer gate_pin_place(struct gate *g, struct gate_ticket *t, uint64_t now_us)
{
    struct endpoint *ep = endpoint_of(g, t);
    if (!ep || !is_usable(g, ep) || (t->attempts > 0 && gate_was_tried(t, ep->index)))
        return GATE_PIN_NONE;
    if (gate_endpoint_has_room(g, ep) && ep->pin_count == 0) {
        gate_start(g, t, ep, now_us);
        return GATE_PIN_SENT;
    }
    ep->spill_us = now_us;
    if (g->conf.queue_wait_max_us == 0 || ep->pin_count == waiting_max)
        return GATE_PIN_NONE;
    enqueue(g, ep, t, now_us);
    return GATE_PIN_WAITS;
}

struct gate_ticket *gate_pin_next(struct gate *g, uint64_t now_us)
{
    for (uint32_t i = 0; i < g->count && g->pin_count > 0; i++) {
        if (!g->endpoints[i]->pin_first)
            continue;
        struct gate_ticket *t = look_at(g, g->endpoints[i], now_us);
        if (t)
            return t;
    }
    return NULL;
}

void gate_pin_remove(struct gate *g, struct gate_ticket *t)
{
    struct endpoint *ep = gate_endpoint_at(g, t->endpoint);
    fb_assert(t->is_at_pin);
    fb_assert(ep->pin_count > 0);
    if (t->prev)
        t->prev->next = t->next;
    else
        ep->pin_first = t->next;
    if (t->next)
        t->next->prev = t->prev;
    else
        ep->pin_last = t->prev;
    t->next = t->prev = NULL;
    t->is_at_pin = false;
    ep->pin_count--;
    g->pin_count--;
    g->pin_queued[t->queue_class]--;
    if (ep->is_leaving)
        gate_endpoint_forget(g, ep);
}

static struct endpoint *endpoint_of(const struct gate *g, const struct gate_ticket *t)
{
    for (uint32_t i = 0; i < g->count; i++)
        if (g->endpoints[i]->place.pin == t->pin)
            return g->endpoints[i];
    return NULL;
}

/* Of whatever tier: a session that began at a spare endpoint stays there. */
static bool is_usable(const struct gate *g, const struct endpoint *ep)
{
    return !ep->is_leaving && !ep->is_draining && !gate_is_out(ep) &&
           eject_allows(&g->eject, &ep->eject);
}

static void enqueue(struct gate *g, struct endpoint *ep, struct gate_ticket *t, uint64_t now_us)
{
    struct gate_ticket *before = ep->pin_last;
    t->queue_class =
        (uint8_t)fb_min_u32(t->class + (t->attempts > 0 ? 1u : 0u), EV_CLASS_COUNT - 1);
    while (before && before->queue_class > t->queue_class)
        before = before->prev;
    t->prev = before;
    t->next = before ? before->next : ep->pin_first;
    if (t->next)
        t->next->prev = t;
    else
        ep->pin_last = t;
    if (before)
        before->next = t;
    else
        ep->pin_first = t;
    t->state = GATE_QUEUED;
    t->is_at_pin = true;
    t->endpoint = ep->index;
    t->queued_us = now_us;
    ep->pin_count++;
    g->pin_count++;
    g->pin_queued[t->queue_class]++;
}

/* The first in line, and everybody who has waited too long: he may stand behind it. */
static struct gate_ticket *look_at(struct gate *g, struct endpoint *ep, uint64_t now_us)
{
    bool is_ok = is_usable(g, ep);
    for (struct gate_ticket *t = ep->pin_first; t; t = t->next) {
        bool is_over = deadline_is_over(t->deadline_us, now_us);
        bool is_late =
            fb_sub_floor_u64(now_us, t->queued_us) >= g->conf.queue_wait_max_us / wait_part;
        if (is_ok && !is_over && !is_late)
            continue;
        gate_pin_remove(g, t);
        t->state = is_over ? GATE_ENDED : GATE_NEW;
        t->reason = is_over ? REASON_SHED_DEADLINE : REASON_NONE;
        t->pin = 0;
        return t;
    }
    /* A slot belongs to the more important who waits for any. */
    struct gate_ticket *t = ep->pin_first;
    if (!t || !gate_endpoint_has_room(g, ep))
        return NULL;
    for (uint32_t i = 0; i < t->queue_class; i++)
        if (g->queue.classes[i].length > 0)
            return NULL;
    gate_pin_remove(g, t);
    gate_start(g, t, ep, now_us);
    return t;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Copies: the second one of a request in flight, and those for a mirror. */
#include "base/assert.h"
#include "reflex/admit.h"
#include "reflex/gate_int.h"

#include <string.h>

static void look(const struct gate *g, const struct gate_ticket *first, struct hedge_seen *seen,
                 uint64_t now_us);

enum gate_answer gate_hedge(struct gate *g, struct gate_ticket *t, const struct gate_ticket *first,
                            uint64_t now_us)
{
    fb_assert(t->state == GATE_NEW);
    fb_assert(first->state == GATE_IN_FLIGHT);
    struct hedge_seen seen = {.is_limiting = g->queue.length > 0 || g->shed_threshold < ADMIT_ALL};
    look(g, first, &seen, now_us);
    enum hedge_answer answer = hedge_ask(&g->hedge, &seen, now_us);
    if (answer == HEDGE_NO || (answer == HEDGE_QUEUE && g->conf.queue_wait_max_us == 0))
        return GATE_SHED;
    memcpy(t->tried, first->tried, sizeof t->tried);
    t->attempts = first->attempts;
    t->endpoint = EV_NONE;
    t->is_hedge = true;
    if (answer == HEDGE_SEND) {
        struct endpoint *ep = gate_choose(g, t, now_us);
        if (!ep || gate_was_tried(first, ep->index)) { /* the room is where zones keep it out */
            hedge_refund(&g->hedge);
            t->attempts = 0; /* as new: it may be asked again */
            return GATE_SHED;
        }
        gate_start(g, t, ep, now_us);
        return GATE_SEND;
    }
    /* It is as old as its first copy: in the queue it has the class of that one, not of a retry. */
    struct gate_ticket *victim = queue_put(&g->queue, t, t->class, now_us);
    if (victim == t) {
        hedge_refund(&g->hedge);
        t->attempts = 0;
        return GATE_SHED;
    }
    t->state = GATE_QUEUED;
    if (victim)
        gate_end_waiting(g, victim, REASON_SHED_QUEUE_FULL);
    return GATE_WAIT;
}

bool gate_send_spare(struct gate *g, struct gate_ticket *t, uint64_t now_us)
{
    fb_assert(t->state == GATE_NEW);
    t->endpoint = EV_NONE;
    if (g->queue.length > 0 || g->shed_threshold < ADMIT_ALL || !gate_has_worthy_room(g, now_us))
        return false;
    struct endpoint *ep = gate_choose(g, t, now_us);
    if (!ep)
        return false;
    gate_start(g, t, ep, now_us);
    return true;
}

static void look(const struct gate *g, const struct gate_ticket *first, struct hedge_seen *seen,
                 uint64_t now_us)
{
    uint16_t version = gate_version_for(g, first);
    for (uint32_t i = 0; i < g->count; i++) {
        const struct endpoint *ep = g->endpoints[i];
        bool is_stalled = balance_is_stalled(&ep->seat, now_us);
        if (ep->index == first->endpoint)
            seen->is_stalled = is_stalled && !g->conf.is_long;
        if (!gate_is_chosen_from(g, ep) || gate_was_tried(first, ep->index) || is_stalled ||
            ep->eject.state == EV_HEALTH_HALF_OPEN || (version && ep->version != version))
            continue;
        seen->has_other = true;
        seen->has_room |= gate_endpoint_has_room(g, ep);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* hedge: a request that waits longer than its route mostly does is sent to a second endpoint too;
 * who answers first answers the client.
 *
 *   first (has the client) --delay--> second (a clone, nobody's)
 *      its answer comes first: the second goes on alone until its endpoint is through
 *      the second's comes first: they change places, what goes on alone is the first attempt
 *      it fails: it takes the place of the second, which is on its way already
 *
 * Changing places moves what belongs to an attempt (ticket, connection, head) and leaves what
 * belongs to the client, so that whoever wants the answer finds it where it was.  The one that goes
 * on alone is counted by its endpoint's limit until the work is done: an endpoint works on what it
 * was sent, whether anybody waits or not. */
#include "base/assert.h"
#include "gateway/gateway_int.h"

/* Asked again when there was no room: a slot is free for a few ms only. */
#define ASK_AGAIN_MIN_US (5 * US_PER_MS)
#define ASK_AGAIN_MAX_US (50 * US_PER_MS)
/* One of ten is held out, so that the gain is measured and not claimed. */
#define CONTROL_SHARE 10

static void change_places(struct request *a, struct request *b);
static void note(struct request *req, const struct request *two);
static void part(struct request *req);

void hedge_arm(struct request *req)
{
    struct worker *w = req->worker;
    req->hedge_at_us = 0;
    if (!req->client || req->twin || req->ticket.attempts != 1 || req->body || !req->is_in_done ||
        req->is_upgrade || req->is_stream || req->ticket.pin != 0 ||
        req->protocol == EV_PROTOCOL_TCP || req->gen->conf->p.upstream_hedge_pct == 0 ||
        (req->method != HTTP1_GET && req->method != HTTP1_HEAD && req->method != HTTP1_OPTIONS))
        return;
    uint16_t number = req->gen->route_numbers[req->route];
    const struct conf_route *route = &req->gen->conf->routes[req->route];
    const struct knob_table *knobs = w->gw->mem->knobs;
    if (route->hedge == CONF_HEDGE_OFF || number == EV_NONE ||
        w->static_age_us > req->gen->conf->p.gateway_safe_after * US_PER_MS)
        return;
    double delay_ms = knob_version(knobs, KNOB_HEDGE_DELAY_MS, number) > 0
                          ? knob_read(knobs, KNOB_HEDGE_DELAY_MS, number)
                          : (double)route->hedge_delay_ms;
    if (delay_ms <= 0)
        return;
    if (req->request_id % CONTROL_SHARE == 0) {
        req->hedge = EV_HEDGE_CONTROL;
        return;
    }
    req->hedge = EV_HEDGE_ARMED;
    req->hedge_at_us = req->sent_us + (uint64_t)(delay_ms * 1e3);
}

void hedge_due(struct request *req)
{
    struct worker *w = req->worker;
    uint64_t now_us = loop_now_us(w->loop);
    uint64_t waited_us = fb_sub_floor_u64(now_us, req->sent_us);
    req->hedge_at_us = 0;
    if (req->twin || !req->client || req->client->is_broken || !req->is_ticket_live)
        return;
    struct request *two = request_clone(req, false);
    enum gate_answer a = two ? service_hedge(two, req) : GATE_SHED;
    if (a == GATE_SHED) {
        if (two)
            request_free(two);
        req->hedge_at_us =
            now_us + fb_max_u64(ASK_AGAIN_MIN_US, fb_min_u64(waited_us / 4, ASK_AGAIN_MAX_US));
        return;
    }
    req->twin = two;
    two->twin = req;
    two->phase = REQUEST_QUEUED;
    if (a == GATE_SEND)
        upstream_start(two);
}

/* The queue gave the second copy back. */
void hedge_granted(struct request *two)
{
    if (two->is_ticket_live) {
        upstream_start(two);
        return;
    }
    two->phase = REQUEST_OVER;
    request_free(two);
}

/* <req> has the head of an answer, and nothing of it was passed on.  True: the request that <up>
 * serves now has the client. */
void hedge_settle(struct request *req)
{
    struct request *two = req->twin;
    if (!two)
        return;
    if (req->client) { /* the first was faster */
        note(req, two);
        part(req);
        hedge_drop(two);
        return;
    }
    part(req);
    two->hedge = EV_HEDGE_WON;
    two->hedge_us = fb_sat_u32(fb_sub_floor_u64(req->sent_us, two->sent_us));
    two->hedge_endpoint = two->ep_number;
    two->hedge_generation = two->ep_generation;
    change_places(req, two); /* <req> is now what was sent first */
    hedge_drop(req);
}

bool hedge_takes_over(struct request *req)
{
    struct request *two = req->twin;
    if (!two || !req->client)
        return false;
    if (two->phase == REQUEST_QUEUED) /* a queue is no better than a retry */
        return false;
    part(req);
    req->hedge = EV_HEDGE_WON;
    req->hedge_us = fb_sat_u32(fb_sub_floor_u64(two->sent_us, req->sent_us));
    req->hedge_endpoint = req->ep_number;
    req->hedge_generation = req->ep_generation;
    change_places(req, two);
    two->phase = REQUEST_OVER;
    fb_assert(two->up == NULL);
    fb_assert(!two->is_ticket_live);
    request_free(two);
    request_arm(req);
    return true;
}

/* The client is gone, or answered: the second copy, if there is one, goes on alone or ends. */
void hedge_leave(struct request *req)
{
    struct request *two = req->twin;
    if (!two)
        return;
    part(req);
    if (req->is_silent) { /* the copy itself ended */
        note(two, req);
        return;
    }
    note(req, two);
    hedge_drop(two);
}

/* Nobody waits for <two> any more.  What its endpoint has got it works on, and that is counted. */
void hedge_drop(struct request *two)
{
    switch ((enum request_phase)two->phase) {
    case REQUEST_QUEUED:
        if (!service_cancel(two))
            return; /* a grant is on its way: forward_granted ends it */
        break;
    case REQUEST_AWAITING:
        if (two->head_sent == two->head->to)
            return;
        upstream_close(two->up);
        break;
    case REQUEST_CONNECTING:
    case REQUEST_ANSWERING:
    case REQUEST_TUNNEL:
        upstream_close(two->up);
        break;
    case REQUEST_HELD:
    case REQUEST_COLLAPSED:
    case REQUEST_GUARDED:
    case REQUEST_BACKOFF:
    case REQUEST_LEFT:
    case REQUEST_OVER:
        break;
    }
    two->phase = REQUEST_OVER;
    if (two->is_ticket_live)
        service_done(two, GATE_ABANDONED);
    request_free(two);
}

/* What became of the second copy of <req>, that lost. */
static void note(struct request *req, const struct request *two)
{
    bool was_sent = two->ep_number != EV_NONE;
    req->hedge = was_sent ? EV_HEDGE_LOST : EV_HEDGE_ARMED;
    req->hedge_us = was_sent ? fb_sat_u32(fb_sub_floor_u64(two->sent_us, req->sent_us)) : 0;
    req->hedge_endpoint = two->ep_number;
    req->hedge_generation = two->ep_generation;
}

static void part(struct request *req)
{
    struct request *two = req->twin;
    req->twin = NULL;
    two->twin = NULL;
}

#define SWAP(type, field)                                                                          \
    do {                                                                                           \
        type was = a->field;                                                                       \
        a->field = b->field;                                                                       \
        b->field = was;                                                                            \
    } while (0)

/* Both tickets are out of the queue: nobody else knows where they lie. */
static void change_places(struct request *a, struct request *b)
{
    fb_assert(a->ticket.state != GATE_QUEUED);
    fb_assert(b->ticket.state != GATE_QUEUED);
    SWAP(struct gate_ticket, ticket);
    SWAP(uint8_t, ticket.attempts); /* a second copy is no retry */
    SWAP(struct endpoint *, ep);
    SWAP(struct upstream *, up);
    SWAP(struct chunk *, head);
    SWAP(uint64_t, sent_us);
    SWAP(uint64_t, first_byte_us);
    SWAP(uint64_t, active_us);
    SWAP(uint64_t, timeout_us);
    SWAP(uint32_t, upstream_us);
    SWAP(uint32_t, head_sent);
    SWAP(uint32_t, head_base);
    SWAP(uint16_t, in_flight);
    SWAP(uint16_t, ep_number);
    SWAP(uint32_t, ep_generation);
    SWAP(uint16_t, ep_version);
    SWAP(uint8_t, phase);
    SWAP(uint8_t, outcome);
    SWAP(bool, is_ticket_live);
    SWAP(bool, is_first_byte_told);
    SWAP(bool, is_reused);
    SWAP(bool, is_failed);
    SWAP(bool, is_censored);
    if (a->up)
        a->up->req = a;
    if (b->up)
        b->up->req = b;
    request_arm(a);
    request_arm(b);
}

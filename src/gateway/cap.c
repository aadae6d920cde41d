/* SPDX-License-Identifier: Apache-2.0 */
/* cap: the most requests in hand at once, per route and per service, of all and of one client,
 * where the configuration says so.
 *
 * In hand is from its route until its endpoint is done with it, waiting included, whether the
 * client is still there or not.  Exact over all threads; counts live by number and by client, so a
 * reload keeps them.  What was taken is given back when the request ends, in request_free; of a
 * request that was left, places of all clients when its endpoint is thought to be done (leave.c).
 * What it has of its client's is handed to the question of it that goes on (authz_question.c). */
#include "base/assert.h"
#include "gateway/gateway_int.h"
#include "gateway/holds.h"

static bool take(_Atomic uint32_t *count, uint32_t most)
{
    if (atomic_fetch_add_explicit(count, 1, memory_order_relaxed) < most)
        return true;
    atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
    return false;
}

static void give(_Atomic uint32_t *count)
{
    uint32_t was = atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
    fb_assert(was > 0);
}

static _Atomic uint32_t *of_route(const struct request *req)
{
    uint16_t number = req->gen->route_numbers[req->route];
    return number < KNOB_TARGETS_MAX ? &req->worker->gw->route_in_hand[number] : NULL;
}

bool cap_prepare(struct gw *gw, const struct conf *conf)
{
    bool is_wanted = false;
    for (size_t i = 0; i < conf->route_count; i++)
        is_wanted |= conf->routes[i].caps.count > 0;
    for (size_t i = 0; i < conf->service_count; i++)
        is_wanted |= conf->services[i].caps.count > 0;
    if (is_wanted && !gw->holds)
        gw->holds = holds_new(conf->p.limits_rate_keys);
    return !is_wanted || gw->holds;
}

static bool take_clients(struct request *req, const struct http1_head *head,
                         const struct conf_caps *caps, uint32_t *places)
{
    struct worker *w = req->worker;
    struct gw *gw = w->gw;
    for (uint8_t i = 0; i < caps->count && gw->holds; i++) {
        const struct conf_cap *cap = &caps->at[i];
        uint64_t key = who_hash(req, head, &cap->who, gw->key_seed ^ cap->id);
        switch (holds_take(gw->holds, key, cap->most, &places[i])) {
        case HOLDS_TAKEN:
            req->held |= HELD_CLIENT;
            break;
        case HOLDS_UNCOUNTED:
            atomic_fetch_add_explicit(&gw->caps_uncounted, 1, memory_order_relaxed);
            break;
        case HOLDS_REFUSED:
            w->cap_status = cap->status;
            return false;
        }
    }
    return true;
}

/* The caps of one client come first: who has too much himself is told so. */
uint16_t cap_take(struct request *req, const struct http1_head *head)
{
    const struct conf_route *r =
        req->route == ROUTE_NONE ? NULL : &req->gen->conf->routes[req->route];
    const struct conf_service *sv = request_conf(req);
    uint16_t reason = REASON_NONE;
    if ((r && !take_clients(req, head, &r->caps, req->held_places)) ||
        !take_clients(req, head, &sv->caps, req->held_places + CONF_CAPS_MAX))
        reason = REASON_CLIENT_CAPPED;
    _Atomic uint32_t *route = r && r->concurrency && !reason ? of_route(req) : NULL;
    if (route) {
        if (take(route, r->concurrency))
            req->held |= HELD_ROUTE;
        else
            reason = REASON_SHED_CAP;
    }
    if (sv->concurrency && !reason) {
        if (take(&req->sv->in_hand, sv->concurrency))
            req->held |= HELD_SERVICE;
        else
            reason = REASON_SHED_CAP;
    }
    if (reason && req->held)
        cap_give(req, HELD_ALL);
    return reason;
}

void cap_give(struct request *req, uint8_t what)
{
    what &= req->held;
    if (what & HELD_ROUTE)
        give(of_route(req));
    if (what & HELD_SERVICE)
        give(&req->sv->in_hand);
    for (size_t i = 0; what & HELD_CLIENT && i < FB_COUNT(req->held_places); i++)
        if (req->held_places[i]) {
            holds_give(req->worker->gw->holds, req->held_places[i]);
            req->held_places[i] = 0;
        }
    req->held &= (uint8_t)~what;
}

void cap_hand_over(struct request *from, struct request *to)
{
    fb_assert(!to->held);
    to->held = from->held & HELD_CLIENT;
    from->held &= (uint8_t)~HELD_CLIENT;
    memcpy(to->held_places, from->held_places, sizeof to->held_places);
    memset(from->held_places, 0, sizeof from->held_places);
}

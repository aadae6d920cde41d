/* SPDX-License-Identifier: Apache-2.0 */
/* cap: the most requests in hand at once, per route and per service, where the configuration says
 * so.
 *
 * In hand is from its route until its endpoint is done with it, waiting included, whether the
 * client is still there or not.  Exact over all threads; counts live by number, so a reload keeps
 * them. */
#include "base/assert.h"
#include "gateway/gateway_int.h"

enum { HELD_ROUTE = 1, HELD_SERVICE = 2 };

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

bool cap_take(struct request *req)
{
    const struct conf_route *r = &req->gen->conf->routes[req->route];
    uint32_t most = req->gen->conf->services[r->service].concurrency;
    _Atomic uint32_t *route = r->concurrency ? of_route(req) : NULL;
    if (route && !take(route, r->concurrency))
        return false;
    req->held = route ? HELD_ROUTE : 0;
    if (most && !take(&req->sv->in_hand, most)) {
        cap_give(req);
        return false;
    }
    if (most)
        req->held |= HELD_SERVICE;
    return true;
}

void cap_give(struct request *req)
{
    if (req->held & HELD_ROUTE)
        give(of_route(req));
    if (req->held & HELD_SERVICE)
        give(&req->sv->in_hand);
    req->held = 0;
}

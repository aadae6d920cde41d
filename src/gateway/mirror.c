/* SPDX-License-Identifier: Apache-2.0 */
/* mirror: a share of the requests once more, to another service, whose answers nobody gets.
 *
 * After the client's request is over, so that it costs no client a microsecond; only while the
 * mirror's service has room and nobody waits there, so that it never adds to overload; only with a
 * body that was kept anyway (up to 16 KiB).  The copy is marked by X-Mirror, its event is no
 * request of the route, and its failures are the mirror's. */
#include "base/assert.h"
#include "gateway/gateway_int.h"

static bool is_wanted(struct request *req, const struct conf_mirror *m);
static bool put_mark(struct request *two);

void mirror_request(struct request *req)
{
    if (req->route == ROUTE_NONE || !req->ep)
        return;
    const struct conf_mirror *m = &req->gen->conf->routes[req->route].mirror;
    if (m->pct <= 0 || !is_wanted(req, m))
        return;
    struct request *two = request_clone(req, true);
    req->traits |= EV_TRAIT_BIT(NOT_COPIED); /* until it is */
    if (!two)
        return;
    uint64_t now_us = loop_now_us(two->worker->loop);
    two->sv = req->gen->services[m->service];
    two->is_silent = false;
    two->is_own = two->is_mirror = true;
    two->start_us = now_us;
    two->deadline_us = UINT64_MAX;
    two->request_id = worker_request_id(two->worker);
    two->ticket = (struct gate_ticket){.arrive_us = now_us,
                                       .deadline_us = UINT64_MAX,
                                       .key_hash = req->ticket.key_hash,
                                       .place_hash = req->ticket.place_hash,
                                       .class = EV_CLASS_BEST_EFFORT};
    if (!put_mark(two) || !service_mirror(two)) {
        two->phase = REQUEST_OVER;
        two->is_silent = true; /* it was never sent */
        request_free(two);
        return;
    }
    req->traits ^= EV_TRAIT_BIT(NOT_COPIED) | EV_TRAIT_BIT(COPIED);
    upstream_start(two);
}

static bool is_wanted(struct request *req, const struct conf_mirror *m)
{
    struct worker *w = req->worker;
    const struct conf_service *mine = &req->gen->conf->services[m->service];
    bool is_plain =
        request_conf(req)->protocol == CONF_PROTOCOL_HTTP1 && mine->protocol == CONF_PROTOCOL_HTTP1;
    if (req->is_silent || req->is_own || req->is_upgrade || req->is_stream || w->is_draining ||
        req->protocol == EV_PROTOCOL_TCP || !req->head)
        return false;
    /* a body in part, or framed for another protocol, would be another request */
    if (req->body && (!req->is_replayable || !req->is_in_done || req->is_aborted || !is_plain))
        return false;
    if (!req->body && req->in.payload_bytes > 0)
        return false;
    return rng_unit(&w->rng) * 100 < m->pct;
}

/* The head has room for the fields of an attempt, and some more. */
static bool put_mark(struct request *two)
{
    static const char mark[] = "X-Mirror: 1\r\n";
    struct chunk *h = two->head;
    if (chunk_room(h) < sizeof mark - 1 + CHUNK_SLACK_BYTES / 2)
        return false;
    memcpy(h->at + h->to, mark, sizeof mark - 1);
    h->to += (uint32_t)(sizeof mark - 1);
    two->head_base = h->to;
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* h2_cancel: a client leaves before the answer of an HTTP/2 endpoint has begun.
 *
 * RST_STREAM(CANCEL) goes out at once: gRPC servers end the call, and what it calls in turn.  But
 * the reset also ends what we hear of the work, and an endpoint may go on with it all the same, so
 * its slot is not free yet (CVE-2023-44487: else a client that only resets has any number of
 * requests at work).  It stays taken, with the limiter and with the client's connection, for twice
 * the time that this endpoint takes for an answer. */
#include "gateway/h2_upstream.h"

#include "base/assert.h"

/* Nothing is known yet of the endpoint: longer than most answers take, shorter than a time-out. */
#define HOLD_UNKNOWN_US (1 * US_PER_S)
/* Twice the mean covers nine of ten answers of a service with a usual spread. */
#define HOLD_LATENCIES 2.0

static uint64_t usual_us(struct endpoint *ep)
{
    struct service *sv = ep->sv;
    struct gate_endpoint_view view;
    bool is_known = false;
    spin_lock(&sv->lock);
    if (!atomic_load_explicit(&ep->is_gone, memory_order_relaxed))
        is_known = gate_endpoint_view(sv->gate, ep->index, &view) && view.has_answered;
    spin_unlock(&sv->lock);
    return is_known ? (uint64_t)(view.latency_us * HOLD_LATENCIES) : HOLD_UNKNOWN_US;
}

bool h2u_cancel(struct request *req)
{
    struct upstream *up = req->up;
    fb_assert(req->phase == REQUEST_AWAITING);
    if (up->kind != UPSTREAM_H2)
        return false;
    struct h2u_stream *st = (struct h2u_stream *)up;
    if (st->id == 0 || st->is_gone || st->is_ended)
        return false;
    uint64_t now_us = loop_now_us(up->worker->loop);
    h2_client_reset(st->conn->session, st->id);
    st->is_gone = true;
    st->why = H2_GONE_RESET;
    loop_defer(up->worker->loop, &st->conn->job);
    req->is_cancelled = true;
    req->deadline_us = fb_min_u64(req->deadline_us, now_us + usual_us(req->ep));
    request_arm(req);
    return true;
}

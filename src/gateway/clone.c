/* SPDX-License-Identifier: Apache-2.0 */
/* clone: a second request to an endpoint with the bytes of one that is under way.
 *
 * It has no client and no event of its own.  It lives among the worker's orphans: a request that
 * goes on for the sake of what counts it. */
#include "base/assert.h"
#include "gateway/gateway_int.h"

static struct chunk *copy_chunk(struct worker *w, const struct chunk *from, uint32_t bytes,
                                uint32_t slack);

struct request *request_clone(struct request *req, bool with_body)
{
    struct worker *w = req->worker;
    struct request *two = slab_take(&w->requests);
    if (!two)
        return NULL;
    *two = (struct request){.worker = w,
                            .gen = req->gen,
                            .sv = req->sv,
                            .timer = {.on_due = forward_timer},
                            .start_us = req->start_us,
                            .deadline_us = req->deadline_us,
                            .request_id = req->request_id,
                            .trace_hi = req->trace_hi,
                            .trace_lo = req->trace_lo,
                            .route = req->route,
                            .ep_number = EV_NONE,
                            .ep_version = EV_NONE,
                            .grpc_status = EV_NONE,
                            .peer_text_bytes = req->peer_text_bytes,
                            .method = req->method,
                            .version_minor = req->version_minor,
                            .attempt_in = req->attempt_in,
                            .protocol = req->protocol,
                            .tls = req->tls,
                            .is_forwarded = req->is_forwarded,
                            .is_https = req->is_https,
                            .tls_cipher = req->tls_cipher,
                            .is_in_done = true,
                            .is_replayable = true,
                            .is_silent = true};
    memcpy(two->peer_text, req->peer_text, req->peer_text_bytes);
    two->ticket = (struct gate_ticket){.arrive_us = req->ticket.arrive_us,
                                       .deadline_us = req->ticket.deadline_us,
                                       .key_hash = req->ticket.key_hash,
                                       .place_hash = req->ticket.place_hash,
                                       .wanted = req->ticket.wanted,
                                       .class = req->ticket.class,
                                       .is_idempotent = req->ticket.is_idempotent};
    two->head_base = req->head_base;
    two->head = copy_chunk(w, req->head, req->head_base, 2 * CHUNK_SLACK_BYTES);
    if (with_body && req->body)
        two->body = copy_chunk(w, req->body, req->body->to, 0);
    if (!two->head || (with_body && req->body && !two->body)) {
        chunk_give(&w->chunks, two->head);
        chunk_give(&w->chunks, two->body);
        slab_give(&w->requests, two);
        return NULL;
    }
    req->gen->use[w->index].requests++;
    w->request_count++;
    request_adopt(two);
    return two;
}

static struct chunk *copy_chunk(struct worker *w, const struct chunk *from, uint32_t bytes,
                                uint32_t slack)
{
    struct chunk *to = chunk_take(&w->chunks, bytes + slack);
    if (!to)
        return NULL;
    memcpy(to->at, from->at, bytes);
    to->from = 0;
    to->to = bytes;
    return to;
}

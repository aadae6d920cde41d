/* SPDX-License-Identifier: Apache-2.0 */
/* tcp: connections that are passed through as they are (listen.protocol: tcp).
 *
 * A connection is one request without a head: it waits at the gate of its service, is connected to
 * an endpoint, to another one when that fails, and is a tunnel from then on.  Unlike a WebSocket it
 * keeps its place in the limit until it ends: connections are what such an endpoint has few of.
 * Nothing is read from the client before its endpoint is there. */
#include "base/assert.h"
#include "gateway/gateway_int.h"

#include <xxhash.h>

bool tcp_begin(struct client *c)
{
    struct worker *w = c->worker;
    const struct http1_head none = {.framing = HTTP1_BODY_NONE, .version_minor = 1};
    if (c->is_closing) {
        client_close(c);
        return false;
    }
    c->is_closing = true; /* there is one request only */
    c->is_first = false;
    struct service *sv = c->listener->service;
    struct request *req = sv ? request_open(c, &none) : NULL;
    if (!req) {
        report_refused(w, sv ? REASON_SHED_OVERLOAD : REASON_NO_ENDPOINT, 0, c->since_us, 0);
        client_close(c);
        return false;
    }
    req->sv = sv;
    req->protocol = EV_PROTOCOL_TCP;
    req->is_keep_alive = false;
    req->is_replayable = false;
    req->is_stream = true;
    req->ticket.arrive_us = req->start_us;
    req->ticket.deadline_us = UINT64_MAX;
    req->ticket.class = EV_CLASS_DEFAULT;
    req->ticket.key_hash =
        XXH3_64bits_withSeed(req->peer_text, req->peer_text_bytes, w->gw->key_seed) | 1;
    if (request_conf(req)->balance == CONF_BALANCE_HASH) /* the address is all that there is */
        req->ticket.place_hash = XXH3_64bits(req->peer_text, req->peer_text_bytes) | 1;
    uint16_t refused = cap_take(req, &none);
    if (refused)
        forward_refuse(req, refused);
    else
        forward_arrive(req);
    return true;
}

void tcp_connected(struct request *req)
{
    struct upstream *up = req->up;
    uint64_t now_us = loop_now_us(req->worker->loop);
    req->first_byte_us = now_us;
    req->upstream_us = fb_sat_u32(fb_sub_floor_u64(now_us, req->sent_us));
    req->is_answered = true; /* from here on nothing can be tried elsewhere */
    if (up->owes_proxy) {
        up->owes_proxy = false;
        up->is_broken |= !proxied_write(up->handle.fd, req, request_conf(req)->proxy_version);
    }
    req->phase = REQUEST_TUNNEL;
    req->active_us = now_us;
    service_first_byte(req);
    request_arm(req);
}

void tcp_refuse(struct request *req, uint16_t reason)
{
    req->reason = reason;
    req->status = 0;
    req->is_answered = true;
    req->is_out_done = true;
    req->client->is_cut = true; /* there is no way to say why in a protocol that we do not know */
}

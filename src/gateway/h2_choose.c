/* SPDX-License-Identifier: Apache-2.0 */
/* h2_choose: services with `protocol: auto`, whose endpoints choose HTTP/2 or HTTP/1.1 by ALPN.
 *
 *   not known --handshake offers both--> h2: streams of that connection
 *                                    \-> HTTP/1.1: the first request takes the connection over
 *
 * While the first handshake is under way all requests wait on its connection: an endpoint of HTTP/2
 * gets one connection, and not one per request.  What was chosen is asked again now and then, on a
 * connection that is opened anyway, so that an endpoint that learns HTTP/2 is noticed. */
#include "base/assert.h"
#include "gateway/h2_upstream.h"

/* An endpoint that changes its mind is replaced or restarted, which takes about as long. */
#define CHOICE_HOLDS_US (60 * US_PER_S)

/* A connection of HTTP/2 that is known to carry WebSockets. */
static bool has_connect(const struct request *req, const struct pool *pool)
{
    uint64_t key = request_pool_key(req);
    for (const struct h2u_conn *conn = pool->h2; conn; conn = conn->next)
        if (conn->phase == H2U_OPEN && conn->client_key == key &&
            h2_client_has_connect(conn->session))
            return true;
    return false;
}

bool h2u_is_for(const struct request *req)
{
    const struct worker *w = req->worker;
    const struct pool *pool = &req->ep->pools[w->index];
    switch (request_conf(req)->protocol) {
    case CONF_PROTOCOL_HTTP1:
        return false;
    case CONF_PROTOCOL_H2:
    case CONF_PROTOCOL_H2C:
        return true;
    case CONF_PROTOCOL_AUTO:
        break;
    }
    if (req->is_upgrade)
        return req->is_websocket && has_connect(req, pool);
    if (pool->h2 || pool->http1_us == 0)
        return true;
    return !pool->first && loop_now_us(w->loop) - pool->http1_us >= CHOICE_HOLDS_US;
}

void h2u_fall_back(struct h2u_conn *conn)
{
    struct worker *w = conn->worker;
    struct link link = conn->link;
    const struct link *ready = &link;
    fb_assert(conn->phase == H2U_CONNECTING);
    conn->ep->pools[w->index].http1_us = loop_now_us(w->loop);
    loop_remove(w->loop, &conn->handle);
    conn->link.tls = NULL;
    conn->phase = H2U_LOST;
    while (conn->streams) {
        struct h2u_stream *st = conn->streams;
        struct request *req = st->up.req;
        struct client *c = request_waiter(req);
        upstream_close(&st->up);
        upstream_start_http1(req, ready);
        ready = NULL;
        if (c)
            client_run(c);
    }
    fb_assert(ready == NULL);
}

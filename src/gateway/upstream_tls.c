/* SPDX-License-Identifier: Apache-2.0 */
/* upstream_tls: TLS on connections to endpoints; the handshake is a part of connecting. */
#include "base/assert.h"
#include "gateway/blame.h"
#include "io/tls.h"

#include <errno.h>

struct tls_client *request_tls(const struct request *req)
{
    const struct generation *gen = req->gen;
    return gen->tls_out[request_conf(req) - gen->conf->services];
}

bool request_is_shut(const struct request *req)
{
    struct tls_client *t = request_tls(req);
    return t && tls_client_is_shut(t);
}

uint64_t request_pool_key(const struct request *req)
{
    /* A connection in the pool holds a reference, so no other client can have its address. */
    return proxied_key(req, request_conf(req)) ^ (uint64_t)(uintptr_t)request_tls(req);
}

enum tls_step upstream_secure(struct upstream *up, uint16_t *reason)
{
    struct request *req = up->req;
    *reason = REASON_UPSTREAM_TLS;
    if (up->owes_proxy) { /* it comes before the first byte of TLS */
        up->owes_proxy = false;
        if (!proxied_write(up->handle.fd, req, request_conf(req)->proxy_version))
            return TLS_FAILED;
    }
    bool is_new = up->link.tls == NULL;
    if (is_new)
        up->link.tls = tls_connect(request_tls(req), up->link.fd, req->ep->host);
    if (is_new && up->link.tls && request_conf(req)->protocol == CONF_PROTOCOL_AUTO)
        tls_offer(up->link.tls, "http/1.1"); /* its protocol was asked on another connection */
    enum tls_step step = request_secure(req, &up->link, reason);
    if (step == TLS_OK)
        up->can_read = true; /* what came behind the handshake lies in TLS, not in the socket */
    return step;
}

enum tls_step request_secure(struct request *req, struct link *link, uint16_t *reason)
{
    *reason = REASON_UPSTREAM_TLS;
    if (!link->tls)
        link->tls = tls_connect(request_tls(req), link->fd, req->ep->host);
    if (!link->tls) {
        *reason = REASON_SHED_OVERLOAD;
        return TLS_FAILED;
    }
    enum tls_step step = tls_handshake(link->tls);
    if (step != TLS_FAILED)
        return step;
    *reason = blame_handshake(req, link->tls);
    blame_say(req->worker, req->ep, link, *reason);
    return TLS_FAILED;
}

bool upstream_is_quiet(struct upstream *up)
{
    char byte;
    return up->link.tls && !up->has_ended && !up->is_broken && link_peek(&up->link, &byte, 1) < 0 &&
           errno == EAGAIN;
}

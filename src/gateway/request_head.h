/* SPDX-License-Identifier: Apache-2.0 */
/* request_head: what an endpoint is told of the client, for heads that are written elsewhere too.
 *
 * Threads: the worker's. */
#ifndef FB_GATEWAY_REQUEST_HEAD_H
#define FB_GATEWAY_REQUEST_HEAD_H
#include "gateway/gateway_int.h"

/* Fields that are written anew, whatever the client sent. */
#define REQUEST_HEAD_OWN                                                                           \
    (HTTP1_SKIP(HOST) | HTTP1_SKIP(X_REQUEST_ID) | HTTP1_SKIP(TRACEPARENT) |                       \
     HTTP1_SKIP(X_FORWARDED_FOR) | HTTP1_SKIP(X_FORWARDED_PROTO) | HTTP1_SKIP(X_FORWARDED_HOST) |  \
     HTTP1_SKIP(X_FORWARDED_PORT) | HTTP1_SKIP(X_REAL_IP) | HTTP1_SKIP(FORWARDED) |                \
     HTTP1_SKIP(X_CLIENT_CERT_SUBJECT))
/* Via, who and where the client is, the request's number and its trace.  <is_always_x>:
 * X-Forwarded-* whatever gateway.forwarded says. */
void request_head_put_client(struct request *req, const struct http1_head *head,
                             struct http1_out *w, bool is_always_x);
#endif

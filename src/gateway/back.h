/* SPDX-License-Identifier: Apache-2.0 */
/* back: the addresses that an endpoint names, as its client knows them (`map_back`).
 *
 * An endpoint behind `rewrite: { strip_prefix }` or `host` says where things lie as it sees them.
 * Location, Content-Location, Refresh, and Path and Domain of Set-Cookie are turned back; what
 * names another host, what is relative, and what already has the prefix stays byte for byte.
 * Threads: the worker's.  Memory: one small chunk per request of such a route, from back_note on.
 */
#ifndef FB_GATEWAY_BACK_H
#define FB_GATEWAY_BACK_H
#include "gateway/rules.h"

/* Keeps what the answer needs of the request; false without memory. */
FB_MUST_USE
bool back_note(struct request *req, const struct rules_where *at);
struct back_note {
    const struct conf_rules *rules;
    const struct conf_service *sv;
    struct span host; /* as the client wrote it, with its port; "" HTTP/1.0 */
    bool is_stripped; /* of strip_prefix */
    bool is_https;    /* the client came so */
};
/* True: it was one of those fields, and is written. */
bool back_write(const struct back_note *b, struct span name, struct span value,
                struct http1_out *w);
bool back_put(const struct request *req, struct span name, struct span value, struct http1_out *w);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* rules: what a route refuses, answers by itself, or changes on the way (conf.h: struct
 * conf_rules).
 *
 * Routes, caches, balance and events see the request as the client made it; only what the endpoint
 * gets and what the client gets is changed.  A cache keeps what the endpoint said.
 * All of it is called only for routes that have rules.  Threads: the worker's.  Memory: none but
 * the chunk of a redirect's target, which goes with the request. */
#ifndef FB_GATEWAY_RULES_H
#define FB_GATEWAY_RULES_H
#include "gateway/gateway_int.h"

/* rate.c: the client that a trusted proxy before us names; false: none. */
bool who_forwarded(const struct request *req, const struct http1_head *head, struct sock_addr *out);
/* proxied.c: 16 bytes, IPv4 as ::ffff:a.b.c.d. */
void proxied_address(const struct sock_addr *a, unsigned char out[16]);

/* Of the client, 16 bytes as above: what a proxy of ours before us says counts. */
void rules_address(const struct request *req, const struct http1_head *head, unsigned char out[16]);

/* As the client sees it: what a trusted proxy before us says counts. */
bool rules_is_https(const struct request *req, const struct http1_head *head);

struct rules_where {
    const struct http1_head *head;
    struct span host, target, path; /* in normal form */
};

/* 0: go on; else the reason of the answer: refused, redirected, or answered. */
uint16_t rules_answer(struct request *req, const struct rules_where *at);
/* The answer of a redirect or a fixed one; after rules_answer. */
void rules_say(struct request *req);
/* For the endpoint: marks fields that go away, and puts into <w> the *target, if it changes, and
 * the fields that come in addition.  Else the reason why it is refused. */
FB_MUST_USE
uint16_t rules_request(struct request *req, const struct rules_where *at, struct http1_out *w,
                       struct span *target, struct span *fields);
/* One {word}, or <text> for CONF_VAR_NONE. */
void rules_put_var(const struct request *req, const struct rules_where *at, enum conf_var var,
                   struct span text, struct http1_out *w);
/* rewrite.c: `rewrite: { pattern, to }`, and $1 in `redirect.to`; 0 or why it is refused. */
FB_MUST_USE
uint16_t rewrite_target(struct request *req, const struct rules_where *at, struct http1_out *w,
                        struct span *target);
FB_MUST_USE
uint16_t rewrite_put_location(struct request *req, const struct rules_where *at,
                              struct http1_out *w);
static inline const struct conf_rules *rules_of(const struct request *req)
{
    return req->route == ROUTE_NONE ? NULL : req->gen->conf->routes[req->route].rules;
}
/* Does `strip_prefix` take something from it? */
bool rules_strips(const struct conf_rules *rules, struct span path);
/* For the client: <head>'s fields but <skip> and those that are set or taken away. */
void rules_put_kept(const struct request *req, const struct http1_head *head, uint64_t skip,
                    struct http1_out *w);
bool rules_keeps(const struct conf_rules *rules, struct span name);
/* Those that are set and added; <is_ours>: but what an answer of foldback says itself. */
void rules_put_set(const struct request *req, bool is_ours, struct http1_out *w);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* place_int: the endpoint and the version that a request belongs to; a part of gateway_int.h.
 *
 * Threads: the worker of the request. */
#ifndef FB_GATEWAY_PLACE_INT_H
#define FB_GATEWAY_PLACE_INT_H

/* ---- sticky.c: sessions that stay at one endpoint ---- */
void sticky_sync(struct service *sv);
uint64_t sticky_pin(const struct endpoint *ep);
void sticky_ticket(struct request *req, const struct http1_head *head);
void sticky_answer(struct request *req, uint16_t status, struct http1_out *w);

/* ---- place.c: the endpoint that a request belongs to ---- */
void place_ticket(struct request *req, const struct http1_head *head, struct span target,
                  struct span path);
uint64_t place_identity(const struct endpoint *ep); /* for consistent hashing */
/* Value of a cookie or of a query parameter; an empty span without address: there is none. */
struct span place_cookie(const struct http1_head *head, struct span name);
struct span place_query(struct span target, struct span name);

/* ---- split.c: versions ---- */
struct split_route;
bool split_compile(struct generation *gen, struct gw *gw); /* false without memory */
void split_free(struct generation *gen);
void split_ticket(struct request *req, const struct http1_head *head);
void split_note(struct endpoint *ep); /* its version has changed */
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* hedge: may a request that waits long for its answer be sent to a second endpoint as well?
 *
 * Two cases.  A slow answer: only into room that nobody else wants, while the service is far from
 * its limits.  A stalled endpoint (it completes nothing): what it holds is moved, also past a queue
 * that others wait in, because a slot there does no work.  Both pay from one bucket that earns a
 * share of the requests, so that twice the work is a small share of all work whatever happens.
 *
 * Holds always: hedges <= 1 + pct % of the requests.  Pure.  Threads: any, one at a time. */
#ifndef FB_REFLEX_HEDGE_H
#define FB_REFLEX_HEDGE_H
#include "base/base.h"

struct hedge {
    double pct; /* of the requests, 0: none */
    double tokens, recent;
    double reserve;     /* tokens that slow answers leave to what stalled endpoints hold */
    double utilisation; /* of the limits, smoothed over 10 s */
    uint64_t recent_us, utilisation_us;
    uint64_t sent; /* since the start */
};

/* What is true of the service and the request at this moment. */
struct hedge_seen {
    bool is_stalled;  /* its endpoint has requests and completes none */
    bool has_other;   /* another healthy endpoint, not tried and not stalled */
    bool has_room;    /* and it may take one more */
    bool is_limiting; /* requests wait, or some are refused at the door */
};

enum hedge_answer {
    HEDGE_NO,   /* not now; worth asking again a little later */
    HEDGE_SEND, /* one token is spent */
    HEDGE_QUEUE /* one token is spent; it waits for room as other requests do */
};

void hedge_init(struct hedge *h, double pct, uint64_t now_us);
void hedge_set_pct(struct hedge *h, double pct);
/* A request arrived. */
void hedge_earn(struct hedge *h, uint64_t now_us);
/* Every 100 ms: requests in flight and what the endpoints may hold. */
void hedge_tick(struct hedge *h, uint32_t in_flight, uint32_t limit, uint64_t now_us);
/* What was asked for was not sent after all. */
void hedge_refund(struct hedge *h);
enum hedge_answer hedge_ask(struct hedge *h, const struct hedge_seen *seen, uint64_t now_us);
#endif

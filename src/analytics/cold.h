/* SPDX-License-Identifier: Apache-2.0 */
/* cold: what the endpoints of a route would get if its cache were empty, and for how long.
 *
 * After a purge or a restart all that memory answers now goes to the endpoints.  As the cache
 * fills, its miss-ratio curve tells how much of that is left:
 *
 *   fetches per second at fill b = asked x (1 - hits(b) / requests), at most what is spare
 *   d(fill) / dt                 = fetches per second x bytes of an answer
 *
 * <Spare> is what the limits of the endpoints let through beyond their load without this route: the
 * cold-cache guard fetches no faster after a paced purge.  Request collapsing is left out, so the
 * first second is told higher than it will be.
 * Pure.  Threads: any. */
#ifndef FB_ANALYTICS_COLD_H
#define FB_ANALYTICS_COLD_H
#include "analytics/curve.h"
#include "analytics/facts.h"

struct cold_seen {
    double spared_per_s;   /* requests of the route that memory answers now */
    double fetched_per_s;  /* those that go to endpoints now */
    double service_per_s;  /* all that these endpoints get now */
    double capacity_per_s; /* what their limits let through; NAN: not known */
    double used_bytes, entries;
};
struct cold_view {
    double now_per_s, cold_per_s; /* from the route, to endpoints: now, with an empty cache */
    double capacity_per_s;        /* NAN: not known */
    double load_ratio; /* all that the endpoints would get / what they can take; NAN: not known */
    double refill_s; /* until 90 % of the hits are back, no faster than is spare; INFINITY: never */
};
/* False: the curve or the rates do not allow a word yet. */
bool cold_predict(const struct curves *c, uint16_t route, const struct cold_seen *seen,
                  struct cold_view *out);
/* The same with everything taken from facts of the last minute. */
bool cold_look(const struct curves *c, const struct facts *f, const struct ev_cache_use *use,
               uint16_t service, struct cold_view *out);
#endif

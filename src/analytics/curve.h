/* SPDX-License-Identifier: Apache-2.0 */
/* curve: how many requests of a route a cache of any size would answer, from a sample of its keys.
 *
 * SHARDS (FAST'15) with a fixed number of samples and bytes instead of objects: a key is in the
 * sample when its hash is below a threshold, so each reuse of a sampled key is seen.  The reuse
 * distance is the bytes of the distinct keys asked for in between, itself included, divided by the
 * rate of the sample; a cache that large would have answered.  When there are too many keys the
 * threshold is halved.  The requests that the sample missed or has too many of, known from the
 * event's count, are put into the first bin (the paper's adjustment).
 *
 * A few very hot keys distort a sampled curve: one that is in the sample counts 2^shift times, one
 * that is not is missed (Carra, Neglia: Efficient miss ratio curve computation for heterogeneous
 * content popularity, ATC'20).  So the CURVE_HOT hottest are kept apart and exact: the gateway
 * tells how often they are asked for, the gap between two requests is known from that, and their
 * distance is what was used within such a gap.
 *
 * Counts fade by curves_fade, so that the curve follows the traffic.
 * Holds always: at most CURVE_KEYS keys;  a key has one place in the order.
 * Pure.  Memory: about 350 KiB per route at its first sample, CURVES_MAX routes at most; others
 * have no curve. Threads: one at a time. */
#ifndef FB_ANALYTICS_CURVE_H
#define FB_ANALYTICS_CURVE_H
#include "analytics/pack.h"
#include "event/event.h"

#define CURVE_KEYS 8192u
#define CURVE_HOT 64u
#define CURVES_MAX 32u
#define CURVE_SAMPLES_MIN 1000u /* before, a curve says nothing */
/* Bins of an eighth of an octave from 64 KiB to 64 GiB. */
#define CURVE_BINS 160u

struct curves;
struct curves *curves_new(void); /* NULL without memory */
void curves_free(struct curves *c);
void curves_feed(struct curves *c, const struct ev_cache_sample *s);
/* All counts become <factor> of themselves, 0..1. */
void curves_fade(struct curves *c, double factor);
void curves_forget(struct curves *c, uint16_t route);

struct curve_view {
    double requests;  /* faded: seen by the cache */
    double origin_us; /* mean of what the endpoint takes for one */
    uint64_t samples; /* all that came */
    uint32_t keys;
};
/* False: nothing is known of this route. */
bool curve_view(const struct curves *c, uint16_t route, struct curve_view *out);
/* Of <requests>, those that a cache of <bytes> would have answered. */
double curve_hits(const struct curves *c, uint16_t route, double bytes);

void curves_save(const struct curves *c, struct buf *out);
bool curves_load(struct curves *c, struct unpack *u); /* false: damaged; then it is empty */
#endif

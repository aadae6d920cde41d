/* SPDX-License-Identifier: Apache-2.0 */
/* load: what endpoints say of their own load, as a factor on their weight.
 *
 * Capacity = requests per second / utilisation, errors counted as utilisation (as the client-side
 * weighted round robin of gRPC, gRFC A58, does it): an endpoint that is half as busy at the same
 * rate gets twice the share.  The factor is relative to the mean of those that report, bounded, and
 * moves over seconds; without a fresh report it goes back to 1.
 *
 * Pure.  Threads: any, one at a time per struct. */
#ifndef FB_REFLEX_LOAD_H
#define FB_REFLEX_LOAD_H
#include "base/base.h"

#define LOAD_STALE_US (10 * US_PER_S)

struct load_report {
    double utilisation;      /* 0..1, above 1 when it is overcommitted; negative: not said */
    double per_s, err_per_s; /* requests and errors; negative: not said */
    uint64_t at_us;          /* 0: never */
};
struct load {
    struct load_report last;
    double factor; /* 1 is even */
};
void load_init(struct load *l);
bool load_is_fresh(const struct load *l, uint64_t now_us);
/* Every 100 ms, for all endpoints of a service; <picks_per_s>: what we sent to each. */
void load_tick(struct load *const *of, const double *picks_per_s, uint32_t n, uint64_t now_us);
#endif

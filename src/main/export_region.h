/* SPDX-License-Identifier: Apache-2.0 */
/* export_region: `events export --region`: what a sink of that region may get, and nothing else.
 *
 * The rule is that of guard/region.h, by the configuration that the log has at its end, as sinks go
 * by the one that runs: a service that got a region yesterday has it for all of its events.  What
 * comes while a follower reads changes it.
 * Threads: one at a time. */
#ifndef FB_MAIN_EXPORT_REGION_H
#define FB_MAIN_EXPORT_REGION_H
#include "event/filter.h"
#include "main/fold.h"
#include "main/log_names.h"

struct export_region {
    const char *name; /* NULL: all may pass */
    struct fold fold; /* of the configuration only */
    uint64_t known;   /* what is older than this offset is in <fold> */
};
/* FB_E_NOT_FOUND: the log has no configuration, FB_E_CONFIG: one without regions, FB_E_DAMAGED: a
 * hole may have held the newest one. */
FB_MUST_USE
enum fb_code export_region_begin(struct export_region *r, const struct log_place *place,
                                 struct fb_err *err);
/* <types> of a scan that feeds; 0: all. */
uint64_t export_region_types(const struct export_region *r, uint64_t types);
void export_region_feed(struct export_region *r, const struct ev_head *ev, uint64_t offset);
bool export_region_may_pass(const struct export_region *r, const struct ev_head *ev,
                            const struct filter_names *names);
void export_region_fini(struct export_region *r);
#endif

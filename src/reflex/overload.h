/* SPDX-License-Identifier: Apache-2.0 */
/* overload: what foldback gives up, in order, before it runs out of something itself.
 *
 * Each resource has a target, a share of what there is.  Below it nothing happens.  Between target
 * and all of it lies a ladder 0..1; the highest resource decides:
 *
 *   0      TRIM    free memory and free connections to endpoints go back to the system
 *   0.15   SHORT   idle client connections close, the oldest first; answers end their connection
 *   0.30   REFUSE  requests are refused, lowest class first and in it first of who asks more than
 *                  others (reflex/fair.h), by a threshold as in reflex/admit.h:
 *                  512 lets all in, 384 no best effort, 256 no degraded, 128 (at 0.9) critical only
 *   0.90   PAUSE   new connections wait in the kernel
 *
 * Up at once, down by at most 0.2 per second: what was just freed is not given away again.
 * CPU time is different: more of it used is not nearer to a wall, and what is refused costs little.
 * So its place on the ladder is an integral: it rises while the threads are busier than the target
 * and falls while they are clearly less busy, and ends below PAUSE.  A full event ring loses events
 * and no request, so it ends below SHORT: a dead brain must not cost traffic.
 *
 * Holds always: critical requests are never refused here.
 * Pure.  Threads: any, one at a time per struct. */
#ifndef FB_REFLEX_OVERLOAD_H
#define FB_REFLEX_OVERLOAD_H
#include "base/base.h"

enum overload_resource {
    OVERLOAD_MEMORY,
    OVERLOAD_DESCRIPTORS,
    OVERLOAD_CPU,
    OVERLOAD_RING,
    OVERLOAD_RESOURCES
};
enum overload_stage {
    OVERLOAD_NONE,
    OVERLOAD_TRIM,
    OVERLOAD_SHORT,
    OVERLOAD_REFUSE,
    OVERLOAD_PAUSE
};

struct overload_conf {
    double target[OVERLOAD_RESOURCES]; /* share, 0..1; 1: only when all of it is used */
};
/* Zeroed at the start. */
struct overload {
    double place[OVERLOAD_RESOURCES]; /* on the ladder, 0..1 */
    uint64_t last_us;
};
struct overload_verdict {
    enum overload_stage stage;
    enum overload_resource cause; /* the highest; of no meaning at stage NONE */
    uint32_t threshold;           /* 128..512, see reflex/admit.h */
    double place;                 /* of the cause */
};

/* <used>: share of each resource that is in use now, 0..1 and more.  Call about each 100 ms. */
struct overload_verdict overload_step(struct overload *o, const struct overload_conf *conf,
                                      const double used[OVERLOAD_RESOURCES], uint64_t now_us);
/* How long an idle connection may stay when memory or descriptors are at <place>; UINT64_MAX: as
 * configured. */
uint64_t overload_idle_us(double place);
const char *overload_resource_name(uint32_t resource); /* "memory" */
const char *overload_stage_name(uint32_t stage);       /* "refuse" */
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* region: which events may go where.
 *
 * An event is of the region of its route, else of its service (endpoint, version), as the
 * configuration has it (conf/parse_region.c refuses one that contradicts itself).  Events about
 * nothing of a region (ticks, resources) may go anywhere.  What nobody can place, while regions are
 * configured, stays in the node's own region: the configuration, custom events, alerts and
 * decisions that tell the figures of a signal (which custom events make), and events about a number
 * whose name is not known.  A service with a region is served by a node of it, so what is told of
 * its signals stays in that region.
 *
 * A sink calls region_may_pass for each event that it reads, before it keeps a byte of it:
 *
 *   struct region_book book = {.conf = conf, .names = {lookup, ctx}};
 *   if (!region_may_pass(&book, ev, connector->region)) ...left out...
 *
 * Pure: names and configuration come in.  Threads: any; a book may be shared while its conf and
 * names may. */
#ifndef FB_GUARD_REGION_H
#define FB_GUARD_REGION_H
#include "conf/conf.h"
#include "event/filter.h"

struct region_book {
    const struct conf *conf;
    struct filter_names names; /* number -> name, "" unknown */
};
/* Does any service or route carry a region?  Then ask for each event; else all may pass. */
bool region_is_used(const struct conf *conf);
/* "" when it is of none; NULL when nobody can say. */
const char *region_of(const struct region_book *book, const struct ev_head *ev);
/* May <ev> go to a sink in region <sink> ("" when it has none)? */
bool region_may_pass(const struct region_book *book, const struct ev_head *ev, const char *sink);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* wants: which events a sink or handler gets.  Pure.  Threads: any. */
#ifndef FB_STREAM_CONNECTORS_WANTS_H
#define FB_STREAM_CONNECTORS_WANTS_H
#include "conf/conf.h"
#include "event/filter.h"

/* By type and filter; regions are another question (guard/region.h). */
static inline bool wants_event(const struct conf_connector *c, const struct filter *filter,
                               const struct ev_head *ev, const struct filter_names *names)
{
    return (c->events >> ev->type & 1) && filter_matches(filter, ev, NULL, names);
}
#endif

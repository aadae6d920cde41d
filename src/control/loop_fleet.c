/* SPDX-License-Identifier: Apache-2.0 */
/* The fleet's controller decided elsewhere (src/fleet); here its word becomes a decision of this
 * node, in its log, with its evidence, under the same pins and modes as any other. */
#include "control/arbiter.h"

#include <math.h>
#include <stdio.h>

static struct fact seen(double value)
{
    return (struct fact){.value = value,
                         .n = 1,
                         .n_needed = 1,
                         .state = isnan(value) ? FACT_INSUFFICIENT_DATA : FACT_OK};
}

void loop_fleet_feed(struct engine *e, const struct ev_fleet_share *s)
{
    if (s->route >= KNOB_TARGETS_MAX)
        return;
    struct move m;
    move_init(&m, e, KNOB_FLEET_SHARE_PCT, s->route);
    m.d.to = (double)s->share_ppm / 1e4;
    m.d.reason = REASON_FLEET_SHARE;
    m.d.cause_us = s->head.time_us;
    m.is_reflex = true; /* the sum over all nodes holds only when each does as it was told */
    struct fact own = seen(s->own_per_s), all = seen(s->all_per_s);
    move_evidence(&m, 0, FACT_OFFERED_RATE, fact_window_ms(FACT_1S), &own);
    move_evidence(&m, 1, FACT_OFFERED_RATE, fact_window_ms(FACT_1S), &all);
    m.d.threshold2 = s->limit_per_s;
    snprintf(m.d.note, sizeof m.d.note, "%u nodes, by node %016llx", (unsigned)s->nodes,
             (unsigned long long)s->controller);
    arbiter_submit(e, &m);
}

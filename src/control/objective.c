/* SPDX-License-Identifier: Apache-2.0 */
/* objective: says once when a service misses its objective over a minute, and once when it is met
 * again.
 *
 *   met --in time below the quantile, 200 requests--> missed --at or above it for the same
 * window--> met
 *
 * For people: loops work against facts, not against this alert. */
#include "control/control_int.h"

#include <stdio.h>

/* Below this a single slow request would be a miss at 99 %. */
static const uint64_t samples_min = 200;

static void tell(struct engine *e, uint16_t service, const struct fact *seen, bool is_over)
{
    struct ev_alert a = EV_INIT(ALERT, alert, e->s.now_us);
    double wanted = e->s.objective[service];
    a.head.origin = EV_ORIGIN_BRAIN;
    a.reason = REASON_ALERT_OBJECTIVE_MISSED;
    a.target = service;
    a.target_kind = EV_KIND_SERVICE;
    a.loop = EV_LOOP_NONE;
    a.severity = 1;
    a.is_over = is_over;
    a.value = seen->value;
    a.threshold = wanted;
    snprintf(a.text, sizeof a.text,
             "%s: %.2f %% of %llu requests of the last minute were answered in time; the objective "
             "is %g %%.",
             engine_name(e, EV_KIND_SERVICE, service), seen->value * 100,
             (unsigned long long)seen->n, wanted * 100);
    control_emit(e, &a.head);
}

void objective_run(struct engine *e)
{
    for (uint16_t i = 0; i < e->s.top[EV_KIND_SERVICE]; i++) {
        if (!e->s.name[EV_KIND_SERVICE][i].is_used || e->s.objective[i] <= 0)
            continue;
        struct fact seen =
            facts_get(e->facts, control_scope(EV_KIND_SERVICE, i), FACT_IN_TIME_RATIO, FACT_60S);
        if (seen.state != FACT_OK || seen.n < samples_min)
            continue;
        bool is_missed = seen.value < e->s.objective[i];
        if (is_missed == (e->s.is_missed[i] != 0))
            continue;
        e->s.is_missed[i] = is_missed ? 1 : 0;
        tell(e, i, &seen, !is_missed);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* anomaly: says once when a signal is not as usual, and once when it is again.
 *
 *   usual --the last minute is off by six standard errors and a fifth, five looks in a row-->
 * unusual unusual --within a tenth, or three standard errors, for half a minute--> usual unusual
 * --half an hour--> usual: this is the new normal
 *
 * Usual is the ratio of the nine minutes before the last one; it stands still while the signal is
 * unusual.  A signal with a direction is only told for the worse.  For people: no loop moves. */
#include "control/control_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define RECENT_S 60
/* Six: with one look a second and 32 signals less than one false alarm in ten years by chance;
 * what is not chance (a ratio that wanders) is in the scatter, and in the fifth. */
#define Z_MIN 6.0
#define CHANGE_MIN 0.2
#define Z_CALM 3.0
#define ODD_S 5
#define CALM_S 30
#define UNUSUAL_S_MAX 1800

static bool is_bad(const struct signal *g, double change)
{
    return g->conf.better == SIGNAL_HIGHER  ? change < 0
           : g->conf.better == SIGNAL_LOWER ? change > 0
                                            : true;
}

static const char *per(const struct signal *g)
{
    bool is_rate = g->conf.value == SIGNAL_RATE || g->conf.value == SIGNAL_SUM;
    return !is_rate ? "" : g->conf.service[0] ? " per request" : "/s";
}

static void tell(struct engine *e, uint32_t i, const struct signal_sum *recent, bool is_over)
{
    const struct signal *g = signals_at(e->signals, i);
    const struct signal_base *usual = &e->s.guard[i].normal.base;
    struct ev_alert a = EV_INIT(ALERT, alert, e->s.now_us);
    double now = recent->r > 0 ? recent->x / recent->r : NAN;
    a.head.origin = EV_ORIGIN_BRAIN;
    a.reason = REASON_ALERT_SIGNAL_UNUSUAL;
    a.target = (uint16_t)i;
    a.target_kind = EV_KIND_NONE;
    a.loop = EV_LOOP_NONE;
    a.severity = 1;
    a.is_over = is_over;
    a.value = now;
    a.threshold = usual->ratio;
    if (is_over)
        snprintf(a.text, sizeof a.text, "%s: as usual again, or for so long that it is usual now.",
                 g->conf.name);
    else if (signal_is_quantile(g))
        snprintf(a.text, sizeof a.text,
                 "%s: %.3g %% of the last minute were above %.4g; usual are %.3g %%.", g->conf.name,
                 now * 100, g->level, usual->ratio * 100);
    else
        snprintf(a.text, sizeof a.text, "%s: %.4g%s in the last minute; usual is %.4g (%+.0f %%).",
                 g->conf.name, now, per(g), usual->ratio, (now / usual->ratio - 1) * 100);
    control_emit(e, &a.head);
}

static void end(struct engine *e, uint32_t i, const struct signal_sum *recent)
{
    tell(e, i, recent, true);
    memset(&e->s.guard[i].normal, 0, sizeof e->s.guard[i].normal);
    if (e->s.guard[i].watch.state == WATCH_OFF)
        signals_hold(e->signals, i, false);
}

static void look_for_end(struct engine *e, uint32_t i, const struct signal_sum *recent)
{
    const struct signal *g = signals_at(e->signals, i);
    struct signal_normal *n = &e->s.guard[i].normal;
    struct signal_seen seen = signal_compare(g, &n->base, recent);
    bool is_calm = recent->r > 0 && (fabs(seen.change) < CHANGE_MIN / 2 || fabs(seen.z) < Z_CALM ||
                                     !is_bad(g, seen.change));
    n->calm_s = is_calm ? n->calm_s + 1 : 0;
    if (n->calm_s >= CALM_S || signals_now_s(e->signals) - n->since_s >= UNUSUAL_S_MAX)
        end(e, i, recent);
}

static void look(struct engine *e, uint32_t i, const struct signal_sum *recent)
{
    const struct signal *g = signals_at(e->signals, i);
    struct signal_guard *guard = &e->s.guard[i];
    uint64_t now_s = signals_now_s(e->signals);
    struct signal_base base;
    uint64_t to_s = fb_sub_floor_u64(now_s, RECENT_S);
    bool is_odd = false;
    if (guard->watch.state != WATCH_HARMED && /* which is told already */
        signal_base(e->signals, g, fb_sub_floor_u64(now_s, SIGNAL_SECONDS), to_s, &base)) {
        struct signal_seen seen = signal_compare(g, &base, recent);
        is_odd = recent->r > 0 && fabs(seen.z) >= Z_MIN && fabs(seen.change) >= CHANGE_MIN &&
                 is_bad(g, seen.change);
    }
    guard->normal.odd_s = is_odd ? guard->normal.odd_s + 1 : 0;
    if (guard->normal.odd_s < ODD_S)
        return;
    guard->normal = (struct signal_normal){.base = base, .since_s = now_s};
    signals_hold(e->signals, i, true);
    tell(e, i, recent, false);
}

void anomaly_run(struct engine *e)
{
    uint64_t now_s = signals_now_s(e->signals);
    for (uint32_t i = 0; i < SIGNALS_MAX && e->signals->used; i++) {
        const struct signal *g = signals_at(e->signals, i);
        if (!g)
            continue;
        struct signal_sum recent =
            signal_sum(e->signals, g, fb_sub_floor_u64(now_s, RECENT_S), now_s);
        if (e->s.guard[i].normal.since_s > 0)
            look_for_end(e, i, &recent);
        else
            look(e, i, &recent);
    }
}

/* ---- what people see ---- */

/* The ratio in the unit of the value: at the load of the last minute. */
static double in_unit(const struct engine *e, const struct signal *g, double ratio)
{
    uint64_t now_s = signals_now_s(e->signals);
    bool is_rate = g->conf.value == SIGNAL_RATE || g->conf.value == SIGNAL_SUM;
    if (signal_is_quantile(g))
        return g->level;
    if (!is_rate || !g->conf.service[0])
        return ratio;
    struct signal_sum recent = signal_sum(e->signals, g, fb_sub_floor_u64(now_s, RECENT_S), now_s);
    return ratio * recent.r / RECENT_S;
}

bool engine_signal(const struct engine *e, uint32_t i, struct signal_view *out)
{
    const struct signal *g = signals_at(e->signals, i);
    if (!g)
        return false;
    const struct signal_guard *guard = &e->s.guard[i];
    uint64_t now_s = signals_now_s(e->signals);
    struct signal_base base = guard->watch.base;
    bool is_known = guard->watch.state != WATCH_OFF;
    *out = (struct signal_view){.signal = g,
                                .now = signal_shown(e->signals, g, 10),
                                .minute = signal_shown(e->signals, g, RECENT_S),
                                .usual = NAN,
                                .change = NAN,
                                .age_s = fb_sub_floor_u64(now_s, g->last_s)};
    if (!is_known && guard->normal.since_s > 0) {
        base = guard->normal.base;
        is_known = true;
    }
    if (!is_known)
        is_known = signal_base(e->signals, g, fb_sub_floor_u64(now_s, SIGNAL_SECONDS),
                               fb_sub_floor_u64(now_s, RECENT_S), &base);
    struct signal_sum recent = signal_sum(e->signals, g, fb_sub_floor_u64(now_s, RECENT_S), now_s);
    if (is_known) {
        out->usual = in_unit(e, g, base.ratio);
        if (recent.r > 0 && base.ratio != 0)
            out->change = signal_is_quantile(g) ? out->minute / out->usual - 1
                                                : recent.x / recent.r / base.ratio - 1;
    }
    out->state = guard->watch.state == WATCH_HARMED    ? SIGNAL_STATE_HARMED
                 : guard->normal.since_s > 0           ? SIGNAL_STATE_UNUSUAL
                 : guard->watch.state == WATCH_LOOKING ? SIGNAL_STATE_WATCHED
                 : !is_known                           ? SIGNAL_STATE_INSUFFICIENT
                                                       : SIGNAL_STATE_OK;
    return true;
}

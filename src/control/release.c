/* SPDX-License-Identifier: Apache-2.0 */
/* release loop, each second: did a signal get worse since new versions got a larger share?
 *
 *   off --share rises, or a deploy marker; a minute is known--> looking --quarter of an hour--> off
 *   looking --e-value > 100 x signals, and more than change_min--> harmed: share back, alert
 *   harmed --the last minute is as before, or a quarter of an hour--> off
 *
 * The first 10 s do not count: caches are cold.  What is seen is divided by the share of users that
 * changed version: 1 % fewer orders with a tenth of the users is 10 % fewer of theirs.  e > 100
 * (per signal that looks) bounds the false alarms to one release in a hundred, whenever one looks.
 * A deploy marker has no share to take back: it is told only.
 * When the events of a signal say which version they are of, the new one is compared with the old
 * one at the same time instead: what happens to everybody is no harm of the release, and a small
 * share is not thinned by the other users.  Requests are counted for the whole service, so this is
 * only while all its splits have the same share. */
#include "base/assert.h"
#include "control/arbiter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BASE_S 540
#define SETTLE_S 10
#define LOOK_S 900
#define SUM_S_MIN 20
#define E_MIN 100.0
#define RECENT_S 60
/* Loops move knobs all day, each is judged once and within seconds: ten times surer than a release,
 * and as large as the verifier asks of other quantities. */
#define MOVE_E_MIN 1000.0
#define MOVE_CHANGE_MIN 0.2
/* The share of a route moved by less than this: rounding, no step. */
#define SHARE_STEP_MIN 0.01

/* A rate or sum of a service is taken per request; without a service it is per second, and falls
 * with the traffic of the evening. */
static bool is_of(const struct signal *g, uint16_t service)
{
    if (g->conf.better == SIGNAL_NONE)
        return false;
    return g->conf.service[0] ? service == EV_NONE || g->service == service
                              : g->conf.value != SIGNAL_RATE && g->conf.value != SIGNAL_SUM;
}

static void stop(struct engine *e, uint32_t i)
{
    memset(&e->s.guard[i].watch, 0, sizeof e->s.guard[i].watch);
    signals_hold(e->signals, i, false);
    signals_sides(e->signals, i, 0, 0, 0);
}

/* A route whose share people say. */
static bool is_split(struct engine *e, uint16_t route)
{
    const struct knob_layer *layer = control_layer(e, KNOB_SPLIT_PCT, route);
    return layer->is_used && (layer->is_configured || layer->is_pinned);
}

/* Have all splits of its service the share of <route>?  A pin may move one of them alone. */
static bool is_one_share(struct engine *e, uint16_t route)
{
    const struct name_cell *names = e->s.name[EV_KIND_ROUTE];
    double share = control_value(e, KNOB_SPLIT_PCT, route);
    for (uint16_t r = 0; r < e->s.top[EV_KIND_ROUTE]; r++)
        if (names[r].is_used && names[r].parent == names[route].parent && is_split(e, r) &&
            fabs(control_value(e, KNOB_SPLIT_PCT, r) - share) >= SHARE_STEP_MIN)
            return false;
    return true;
}

void release_forget(struct engine *e, uint32_t i)
{
    fb_assert(i < SIGNALS_MAX);
    memset(&e->s.guard[i], 0, sizeof e->s.guard[i]);
}

/* A step of a release that is under way already is compared with the time before its first step. */
static void begin(struct engine *e, uint32_t i, uint16_t route, double from, double to)
{
    const struct signal *g = signals_at(e->signals, i);
    struct signal_watch *w = &e->s.guard[i].watch;
    uint64_t now_s = signals_now_s(e->signals);
    bool is_chain = w->state == WATCH_LOOKING && w->route == route;
    bool has_sides = route != EV_NONE && signal_knows_old(e->signals, g) && is_one_share(e, route);
    struct signal_base base = w->base;
    if (w->state == WATCH_HARMED)
        return;
    /* the old version beside it says what is usual, though nobody knew before */
    if (!is_chain && !signal_base(e->signals, g, fb_sub_floor_u64(now_s, BASE_S), now_s, &base) &&
        !has_sides)
        return;
    double first = is_chain ? w->from : from;
    *w = (struct signal_watch){.base = base,
                               .from = first,
                               .to = to,
                               .since_s = now_s,
                               .next_s = now_s + SETTLE_S,
                               .route = route,
                               .state = WATCH_LOOKING};
    w->sum.spread = NAN;
    signals_hold(e->signals, i, true);
    signals_sides(e->signals, i, has_sides ? now_s : 0, from, to);
}

static void begin_all(struct engine *e, uint16_t service, uint16_t route, double from, double to)
{
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        const struct signal *g = signals_at(e->signals, i);
        if (g && is_of(g, service))
            begin(e, i, route, from, to);
    }
}

static void end_all(struct engine *e, uint16_t route)
{
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        const struct signal_watch *w = &e->s.guard[i].watch;
        if (w->state == WATCH_LOOKING && w->route == route)
            stop(e, i);
    }
}

void release_marker(struct engine *e, const struct ev_custom *marker)
{
    char whose[40];
    uint16_t service = EV_NONE;
    if (e->signals->used == 0 || !custom_is_deploy(marker->name, whose))
        return;
    for (uint16_t i = 0; whose[0] && i < e->s.top[EV_KIND_SERVICE]; i++)
        if (e->s.name[EV_KIND_SERVICE][i].is_used &&
            strcmp(e->s.name[EV_KIND_SERVICE][i].name, whose) == 0)
            service = i;
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        const struct signal *g = signals_at(e->signals, i);
        /* a split that is looked at says more than a marker beside it */
        bool has_split =
            e->s.guard[i].watch.state != WATCH_OFF && e->s.guard[i].watch.route != EV_NONE;
        if (g && !has_split && is_of(g, service))
            begin(e, i, EV_NONE, 0, 100);
    }
}

/* Shares that people changed since the last look. */
static void look_at_routes(struct engine *e)
{
    for (uint16_t r = 0; r < e->s.top[EV_KIND_ROUTE]; r++) {
        if (!is_split(e, r))
            continue;
        double now = control_value(e, KNOB_SPLIT_PCT, r);
        double was = (double)e->s.split_seen[r] - 1;
        e->s.split_seen[r] = (float)(now + 1);
        if (was < 0 || fabs(now - was) < SHARE_STEP_MIN)
            continue;
        if (now > was)
            begin_all(e, e->s.name[EV_KIND_ROUTE][r].parent, r, was, now);
        else
            end_all(e, r);
    }
}

/* ---- judge ---- */

static double per_version(const struct signal_watch *w, double change)
{
    return change / fmax((w->to - w->from) / 100, SHARE_STEP_MIN / 100);
}

/* How much worse it is for those who got the new version. */
static double change_of(const struct engine *e, const struct signal *g,
                        const struct signal_watch *w, const struct signal_seen *seen)
{
    double change = seen->change;
    if (w->by_version)
        return change;
    if (signal_is_quantile(g))
        change = signal_shown(e->signals, g, RECENT_S) / g->level - 1;
    return per_version(w, change);
}

/* Signals that look at the same step and have something to compare with: each could be wrong. */
static uint32_t count_looking(const struct engine *e, uint16_t route)
{
    uint32_t looking = 0;
    for (uint32_t k = 0; k < SIGNALS_MAX; k++) {
        const struct signal_watch *w = &e->s.guard[k].watch;
        looking +=
            w->state == WATCH_LOOKING && w->route == route && (w->by_version || w->base.r > 0);
    }
    return looking;
}

static bool is_harm(const struct engine *e, uint32_t i, struct signal_seen *seen)
{
    const struct signal *g = signals_at(e->signals, i);
    const struct signal_watch *w = &e->s.guard[i].watch;
    uint32_t looking = fb_max_u32(1, count_looking(e, w->route));
    *seen = w->by_version ? signal_compare_sides(g) : signal_compare(g, &w->base, &w->sum);
    double change = change_of(e, g, w, seen);
    bool is_worse = g->conf.better == SIGNAL_HIGHER ? change < 0 : change > 0;
    return w->sum.seconds >= SUM_S_MIN && seen->log_e > log(E_MIN * looking) && is_worse &&
           fabs(change) >= g->conf.change_min;
}

/* The last minute of a side may have had no request. */
static double ratio(double x, double r)
{
    return r > 0 ? x / r : 0;
}

/* What it is, and what it should be. */
static void values_of(const struct signal *g, const struct signal_watch *w, double *is, double *was)
{
    const struct signal_sides *b = &g->sides;
    *is = w->by_version ? ratio(b->x[SIGNAL_NEW], b->r[SIGNAL_NEW]) : w->sum.x / w->sum.r;
    *was = w->by_version ? ratio(b->x[SIGNAL_OLD], b->r[SIGNAL_OLD]) : w->base.ratio;
}

static void say_values(const struct signal *g, const struct signal_watch *w, char *out, size_t room)
{
    double is, was;
    values_of(g, w, &is, &was);
    bool is_rate = g->conf.value == SIGNAL_RATE || g->conf.value == SIGNAL_SUM;
    const char *per = !is_rate ? "" : g->conf.service[0] ? " per request" : "/s";
    if (signal_is_quantile(g) && w->by_version)
        snprintf(out, room,
                 "the share above %.4g is %.3g %% with the new version, %.3g %% with the old",
                 g->level, is * 100, was * 100);
    else if (signal_is_quantile(g))
        snprintf(out, room, "the share above %.4g went from %.3g %% to %.3g %%", g->level,
                 was * 100, is * 100);
    else if (w->by_version)
        snprintf(out, room, "%.4g%s with the new version and %.4g with the old one", is, per, was);
    else
        snprintf(out, room, "went from %.4g to %.4g%s", was, is, per);
}

static void tell(struct engine *e, uint32_t i, bool is_over, uint64_t decision_id)
{
    const struct signal *g = signals_at(e->signals, i);
    const struct signal_watch *w = &e->s.guard[i].watch;
    struct ev_alert a = EV_INIT(ALERT, alert, e->s.now_us);
    char values[112];
    a.head.origin = EV_ORIGIN_BRAIN;
    a.reason = REASON_ALERT_SIGNAL_HARMED;
    a.target = (uint16_t)i;
    a.target_kind = EV_KIND_NONE;
    a.loop = LOOP_RELEASE;
    a.severity = 2;
    a.is_over = is_over;
    a.decision_id = decision_id;
    values_of(g, w, &a.value, &a.threshold);
    say_values(g, w, values, sizeof values);
    unsigned after_s = (unsigned)(w->next_s - w->since_s);
    struct buf text;
    buf_init(&text, 512);
    if (is_over && w->by_version)
        buf_printf(
            &text,
            "%s: the share is back, the new version as good as the old one, or the release a "
            "quarter of an hour old.",
            g->conf.name);
    else if (is_over)
        buf_printf(&text, "%s: as before, or the release is a quarter of an hour old.",
                   g->conf.name);
    else if (w->route == EV_NONE)
        buf_printf(&text, "%s: %s in the %u s after a deploy.", g->conf.name, values, after_s);
    else
        buf_printf(&text, "%s: %s in the %u s after %.40s got %g %%; %s.", g->conf.name, values,
                   after_s, engine_name(e, EV_KIND_ROUTE, w->route), w->to,
                   decision_id ? "the share went back" : "the share stays");
    snprintf(a.text, sizeof a.text, "%s", buf_str(&text));
    buf_fini(&text);
    control_emit(e, &a.head);
}

/* Pinned shares stay: a pin wins, and the alert says so. */
static uint64_t take_back(struct engine *e, uint32_t i, const struct signal_seen *seen)
{
    const struct signal *g = signals_at(e->signals, i);
    const struct signal_watch *w = &e->s.guard[i].watch;
    double is, was;
    values_of(g, w, &is, &was);
    double n = w->by_version ? g->sides.r[SIGNAL_NEW] : w->sum.r;
    struct fact after = {.value = is, .n = (uint64_t)fmin(n, 4e9), .state = FACT_OK};
    struct move m;
    move_init(&m, e, KNOB_SPLIT_PCT, w->route);
    m.d.to = w->from;
    m.d.reason = w->by_version ? REASON_RELEASE_VERSION_HARMED : REASON_RELEASE_HARMED;
    m.is_protective = true;
    move_evidence(&m, 0, FACT_SIGNAL, (uint32_t)(w->next_s - w->since_s) * 1000, &after);
    m.d.threshold1 = was;
    m.d.value2 = change_of(e, g, w, seen); /* beside the evidence: it is no fact of its own */
    m.d.value3 = fmin(exp(seen->log_e), 1e9);
    m.d.threshold2 = E_MIN;
    snprintf(m.d.note, sizeof m.d.note, "%s", g->conf.name);
    uint64_t before_id = e->s.decision_id;
    bool is_moved = arbiter_submit(e, &m);
    if (is_moved)
        e->s.split_seen[w->route] = (float)(w->from + 1);
    return is_moved && e->s.decision_id != before_id ? e->s.decision_id : 0;
}

static void harmed(struct engine *e, uint32_t i, const struct signal_seen *seen)
{
    struct signal_watch *w = &e->s.guard[i].watch;
    uint16_t route = w->route;
    uint64_t decision_id = route == EV_NONE ? 0 : take_back(e, i, seen);
    w->state = WATCH_HARMED;
    w->over_s = signals_now_s(e->signals) + LOOK_S;
    tell(e, i, false, decision_id);
    if (decision_id)
        end_all(e, route);  /* the others have nothing left to look at */
    else if (w->by_version) /* the share stays: is each minute from now on as bad? */
        signals_sides(e->signals, i, w->next_s, 0, 0);
}

static void look(struct engine *e, uint32_t i)
{
    const struct signal *g = signals_at(e->signals, i);
    struct signal_watch *w = &e->s.guard[i].watch;
    uint64_t now_s = signals_now_s(e->signals);
    struct signal_seen seen;
    if (now_s <= w->next_s)
        return;
    signal_sum_more(e->signals, g, w->next_s, now_s, &w->sum);
    w->sum.spread = signal_sum(e->signals, g, w->since_s + SETTLE_S, now_s).spread;
    w->next_s = now_s;
    if (g->sides.step_s > 0 && !is_one_share(e, w->route))
        signals_sides(e->signals, i, 0, 0, 0); /* a pin: what was counted is of no use any more */
    w->by_version = signal_has_sides(g);
    if (is_harm(e, i, &seen))
        harmed(e, i, &seen);
    else if (now_s - w->since_s > LOOK_S)
        stop(e, i);
}

static bool is_as_good(const struct signal *g, const struct signal_seen *seen)
{
    bool is_worse = g->conf.better == SIGNAL_HIGHER ? seen->change < 0 : seen->change > 0;
    return !is_worse || fabs(seen->change) < g->conf.change_min / 2;
}

/* What it was before says nothing of a harm that was seen beside the old version: all users
 * together never were worse, or are for another reason. */
static bool is_over_beside(struct engine *e, uint32_t i)
{
    const struct signal *g = signals_at(e->signals, i);
    const struct signal_watch *w = &e->s.guard[i].watch;
    const struct signal_sides *b = &g->sides;
    uint64_t now_s = signals_now_s(e->signals);
    if (control_value(e, KNOB_SPLIT_PCT, w->route) < w->from + SHARE_STEP_MIN)
        return now_s - w->next_s > RECENT_S;
    if (b->from_s == 0 || now_s < b->from_s + RECENT_S)
        return false;
    if (!signal_sides_are_known(g))
        return false; /* too few in a minute, or none that says its version: time ends it */
    struct signal_seen seen = signal_compare_sides(g);
    if (is_as_good(g, &seen))
        return true;
    signals_sides(e->signals, i, now_s, 0, 0);
    return false;
}

static bool is_over_since(struct engine *e, uint32_t i)
{
    const struct signal *g = signals_at(e->signals, i);
    const struct signal_watch *w = &e->s.guard[i].watch;
    uint64_t now_s = signals_now_s(e->signals);
    struct signal_sum recent = signal_sum(e->signals, g, fb_sub_floor_u64(now_s, RECENT_S), now_s);
    struct signal_seen seen = signal_compare(g, &w->base, &recent);
    return now_s - w->next_s > RECENT_S && recent.r > 0 && is_as_good(g, &seen);
}

static void wait_for_end(struct engine *e, uint32_t i)
{
    const struct signal_watch *w = &e->s.guard[i].watch;
    bool is_back = w->by_version ? is_over_beside(e, i) : is_over_since(e, i);
    if (!is_back && signals_now_s(e->signals) < w->over_s)
        return;
    tell(e, i, true, 0);
    stop(e, i);
}

void release_run(struct engine *e)
{
    look_at_routes(e);
    for (uint32_t i = 0; i < SIGNALS_MAX && e->signals->used; i++) {
        uint8_t state = e->s.guard[i].watch.state;
        if (state == WATCH_LOOKING)
            look(e, i);
        else if (state == WATCH_HARMED)
            wait_for_end(e, i);
    }
}

/* ---- moves of other loops: the verifier asks ---- */

const struct signal *release_harmed(const struct engine *e, uint16_t service, uint64_t from_us,
                                    struct signal_base *base, struct signal_sum *sum)
{
    uint64_t from_s = from_us / US_PER_S, now_s = signals_now_s(e->signals);
    for (uint32_t i = 0; i < SIGNALS_MAX && e->signals->used; i++) {
        const struct signal *g = signals_at(e->signals, i);
        /* while a release is looked at, it is the likelier cause */
        if (!g || !g->conf.service[0] || g->service != service || g->conf.better == SIGNAL_NONE ||
            e->s.guard[i].watch.state != WATCH_OFF ||
            !signal_base(e->signals, g, fb_sub_floor_u64(from_s, BASE_S), from_s, base))
            continue;
        *sum = signal_sum(e->signals, g, from_s + 1, now_s);
        struct signal_seen seen = signal_compare(g, base, sum);
        if (sum->r > 0 && seen.log_e > log(MOVE_E_MIN) &&
            fabs(seen.change) >= fmax(g->conf.change_min, MOVE_CHANGE_MIN))
            return g;
    }
    return NULL;
}

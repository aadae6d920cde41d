/* SPDX-License-Identifier: Apache-2.0 */
/* Signals: figures of applications that loops listen to. */
#include "output/admin_int.h"

#define RUN(name) void api_run_##name(struct api_call *c)
#define API(method, path, run, ...) RUN(run);
#include "output/api.def"
#undef API

/* Ten minutes in steps of ten seconds, oldest first; null where nothing is known. */
#define POINT_S 10

static void put_points(struct json *j, const struct signals *all, const struct signal *g)
{
    uint64_t now_s = signals_now_s(all);
    json_key(j, "points");
    json_array_begin(j);
    for (uint64_t ago = SIGNAL_SECONDS; ago >= POINT_S; ago -= POINT_S) {
        uint64_t from_s = fb_sub_floor_u64(now_s, ago);
        struct signal_sum sum = signal_sum(all, g, from_s, from_s + POINT_S);
        if (sum.r > 0)
            json_f64(j, sum.x / sum.r);
        else
            json_nil(j);
    }
    json_array_end(j);
}

static void put_signal(struct json *j, const struct signal_view *v)
{
    const struct signal *g = v->signal;
    json_key_str(j, "name", g->conf.name);
    json_key_str(j, "event", g->conf.event);
    json_key_str(j, "value", signal_value_name(g->conf.value));
    json_key_str(j, "service", g->conf.service);
    json_key_str(j, "better", signal_better_name(g->conf.better));
    json_key_f64(j, "harm", g->conf.change_min);
    json_key_str(j, "unit", signal_unit(g));
    json_key_f64(j, "now", v->now);
    json_key_f64(j, "minute", v->minute);
    json_key_f64(j, "usual", v->usual);
    json_key_f64(j, "change", v->change);
    json_key_str(j, "state", signal_state_name(v->state));
    json_key(j, "age_s");
    if (g->total)
        json_u64(j, v->age_s);
    else
        json_nil(j);
    json_key_u64(j, "total", g->total);
}

void put_signals(struct json *j, const struct admin *a, bool with_points)
{
    struct signal_view v;
    json_array_begin(j);
    for (uint32_t i = 0; a->source.signal && i < SIGNALS_MAX; i++) {
        if (!a->source.signal(a->source.ctx, i, &v))
            continue;
        json_object_begin(j);
        put_signal(j, &v);
        if (with_points && a->source.signals)
            put_points(j, a->source.signals, v.signal);
        json_object_end(j);
    }
    json_array_end(j);
}

RUN(signals)
{
    json_object_begin(&c->j);
    json_key(&c->j, "signals");
    put_signals(&c->j, c->admin, true);
    json_key_u64(&c->j, "signals_max", SIGNALS_MAX);
    json_object_end(&c->j);
}

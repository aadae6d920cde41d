/* SPDX-License-Identifier: Apache-2.0 */
/* The fold: feed, configuration by name, snapshot.  What decides is in loop_*.c, arbiter.c and
 * verifier.c. */
#include "control/engine.h"

#include "analytics/pack.h"
#include "base/assert.h"
#include "control/control_int.h"
#include "control/verifier.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Changes with the layout of anything in struct engine_state, or of what is saved behind it. */
#define ENGINE_LAYOUT UINT64_C(0x0007314743424c46) /* "FLBCG1", 7 */
#define ENGINE_SCOPES 1024

static void feed_name(struct engine *e, const struct ev_name *n);
static void feed_tick(struct engine *e, const struct ev_tick *t);

struct engine *engine_new(void)
{
    struct engine *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->facts = facts_new(ENGINE_SCOPES);
    e->curves = curves_new();
    e->customs = customs_new();
    e->signals = signals_new();
    if (!e->facts || !e->curves || !e->customs || !e->signals) {
        engine_free(e);
        return NULL;
    }
    e->s.mode = EV_MODE_ACT;
    return e;
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    if (e->facts)
        facts_free(e->facts);
    curves_free(e->curves);
    customs_free(e->customs);
    signals_free(e->signals);
    free(e->targets);
    free(e);
}

void control_emit(struct engine *e, const struct ev_head *ev)
{
    struct engine_out *out = e->out;
    /* what the engine says a replay compares: an alert of it needs a row that says so */
    fb_assert(ev->type != EV_ALERT ||
              ev_reason_row(((const struct ev_alert *)ev)->reason)->kind == REASON_KIND_DERIVED);
    if (!out)
        return;
    if (out->count == out->max) {
        out->dropped++;
        return;
    }
    memcpy(&out->at[out->count++], ev, (size_t)ev->cells * EV_CELL_BYTES);
}

/* ---- configuration ---- */

/* What configuration says of a target; endpoints answer to the name of their service. */
static const struct engine_target *target_of(const struct engine *e, enum ev_kind kind,
                                             uint16_t number)
{
    const char *name = engine_name(e, kind, number);
    if (kind == EV_KIND_ENDPOINT)
        name = engine_name(e, EV_KIND_SERVICE, e->s.name[kind][number].parent);
    for (size_t i = 0; i < e->target_count && name[0]; i++)
        if (e->targets[i].kind == kind && strcmp(e->targets[i].name, name) == 0)
            return &e->targets[i];
    return NULL;
}

static void configure_knob(struct engine *e, uint16_t knob, uint16_t target,
                           const struct engine_target *t)
{
    struct knob_setting set = {
        .configured = NAN, .min = NAN, .max = NAN, .mode = (enum ev_mode)e->s.mode};
    if (t)
        set = t->knob[knob];
    struct knob_layer *layer = control_layer(e, knob, target);
    struct cell *cell = &e->s.cell[knob][target];
    double was = control_value(e, knob, target);
    bool is_known = layer->is_used;
    /* an operator's mode outlives a reload that does not change the configured one */
    enum ev_mode wanted = set.mode;
    if (is_known && cell->mode_configured == (uint8_t)wanted)
        set.mode = (enum ev_mode)layer->mode;
    cell->mode_configured = (uint8_t)wanted;
    if (!knob_configure(&e->book, (enum knob_id)knob, target, &set))
        return;
    verifier_forget(e, knob, target);
    if (e->s.change_count < CONTROL_CHANGES_MAX) {
        struct change *c = &e->s.change[e->s.change_count++];
        c->from = was;
        c->knob = knob;
        c->target = target;
    }
}

static void apply_to(struct engine *e, enum ev_kind kind, uint16_t number)
{
    const struct engine_target *t = target_of(e, kind, number);
    for (uint16_t knob = 0; knob < KNOB_COUNT; knob++)
        if (knob_row(knob)->kind == kind)
            configure_knob(e, knob, number, t);
    if (kind == EV_KIND_SERVICE) {
        facts_set_objective(e->facts, number, t ? t->latency_us : 0);
        e->s.objective[number] = t && t->latency_us > 0 ? t->latency_quantile : 0;
    }
}

void control_apply_config(struct engine *e, enum ev_kind kind, uint16_t number)
{
    apply_to(e, kind, number);
    if (kind != EV_KIND_SERVICE)
        return;
    for (uint16_t i = 0; i < e->s.top[EV_KIND_ENDPOINT]; i++) {
        const struct name_cell *n = &e->s.name[EV_KIND_ENDPOINT][i];
        if (n->is_used && n->parent == number)
            apply_to(e, EV_KIND_ENDPOINT, i);
    }
}

static void configure_signals(struct engine *e, const struct engine_conf *conf)
{
    struct signal_conf was[SIGNALS_MAX];
    for (uint32_t i = 0; i < SIGNALS_MAX; i++)
        was[i] = e->signals->place[i].conf;
    signals_configure(e->signals, conf->signals, conf->signal_count);
    for (uint32_t i = 0; i < SIGNALS_MAX; i++)
        if (!signal_conf_is_same(&was[i], &e->signals->place[i].conf))
            release_forget(e, i);
    for (uint16_t i = 0; i < e->s.top[EV_KIND_SERVICE]; i++)
        if (e->s.name[EV_KIND_SERVICE][i].is_used)
            signals_service(e->signals, e->s.name[EV_KIND_SERVICE][i].name, i, false);
    for (uint16_t i = 0; i < e->s.top[EV_KIND_VERSION]; i++)
        if (e->s.name[EV_KIND_VERSION][i].is_used)
            signals_version(e->signals, e->s.name[EV_KIND_VERSION][i].name, i, false);
}

void engine_configure(struct engine *e, const struct engine_conf *conf)
{
    struct engine_target *copy = NULL;
    if (conf->target_count > 0) {
        copy = calloc(conf->target_count, sizeof *copy);
        if (!copy)
            return; /* the configuration before stays in force */
        memcpy(copy, conf->targets, conf->target_count * sizeof *copy);
    }
    free(e->targets);
    e->targets = copy;
    e->target_count = conf->target_count;
    e->s.config_hash = conf->config_hash;
    e->s.mode = conf->mode;
    configure_signals(e, conf);
    for (uint16_t kind = EV_KIND_ROUTE; kind < CONTROL_KINDS; kind++)
        for (uint16_t i = 0; i < e->s.top[kind]; i++)
            if (e->s.name[kind][i].is_used)
                apply_to(e, (enum ev_kind)kind, i);
}

/* ---- the fold ---- */

void engine_feed(struct engine *e, const struct ev_head *ev, struct engine_out *out)
{
    e->out = out;
    facts_feed(e->facts, ev);
    customs_feed(e->customs, ev);
    signals_feed(e->signals, ev);
    switch (ev->type) {
    case EV_REQUEST: {
        const struct ev_request *r = (const struct ev_request *)ev;
        if (FB_UNLIKELY(signals_is_counting(e->signals)))
            signals_count_request(e->signals, r);
        loop_shed_feed(e, r);
        loop_timeout_feed(e, r);
        loop_retry_feed(e, r);
        loop_hedge_feed(e, r);
        break;
    }
    case EV_CUSTOM:
        release_marker(e, (const struct ev_custom *)ev);
        break;
    case EV_CACHE_SAMPLE:
        loop_cache_feed(e, (const struct ev_cache_sample *)ev);
        break;
    case EV_PROPOSAL:
        loop_limit_feed(e, (const struct ev_proposal *)ev);
        break;
    case EV_GAUGE:
        loop_limit_gauge(e, (const struct ev_gauge *)ev);
        break;
    case EV_NAME:
        feed_name(e, (const struct ev_name *)ev);
        break;
    case EV_COMMAND:
        command_feed(e, (const struct ev_command *)ev);
        break;
    case EV_FLEET_SHARE:
        loop_fleet_feed(e, (const struct ev_fleet_share *)ev);
        break;
    case EV_TICK:
        feed_tick(e, (const struct ev_tick *)ev);
        break;
    default:
        break; /* decisions, outcomes and alerts are our own echo */
    }
    e->out = NULL;
}

/* A number that now means something else takes nothing over from what it meant before. */
static void forget_target(struct engine *e, enum ev_kind kind, uint16_t number)
{
    for (uint16_t knob = 0; knob < KNOB_COUNT; knob++) {
        if (knob_row(knob)->kind != kind)
            continue;
        memset(control_layer(e, knob, number), 0, sizeof(struct knob_layer));
        memset(&e->s.cell[knob][number], 0, sizeof(struct cell));
    }
    if (kind == EV_KIND_ENDPOINT) {
        memset(&e->s.limit[number], 0, sizeof e->s.limit[number]);
        e->s.is_drained[number] = 0;
        e->s.drain_until_us[number] = 0;
    } else if (kind == EV_KIND_SERVICE) {
        memset(&e->s.shed[number], 0, sizeof e->s.shed[number]);
    } else if (kind == EV_KIND_ROUTE) {
        memset(&e->s.timeout[number], 0, sizeof e->s.timeout[number]);
        curves_forget(e->curves, number);
        memset(&e->s.hedge[number], 0, sizeof e->s.hedge[number]);
        e->s.split_seen[number] = 0;
    }
}

static void feed_name(struct engine *e, const struct ev_name *n)
{
    if (n->kind == EV_KIND_NONE || n->kind >= CONTROL_KINDS || n->number >= KNOB_TARGETS_MAX)
        return;
    struct name_cell *cell = &e->s.name[n->kind][n->number];
    if (n->is_gone) {
        if (cell->is_used) {
            if (n->kind == EV_KIND_SERVICE)
                signals_service(e->signals, cell->name, n->number, true);
            else if (n->kind == EV_KIND_VERSION)
                signals_version(e->signals, cell->name, n->number, true);
            forget_target(e, (enum ev_kind)n->kind, n->number);
            memset(cell, 0, sizeof *cell);
        }
        return;
    }
    char name[CONTROL_NAME_BYTES] = {0};
    memcpy(name, n->name, strnlen(n->name, sizeof name - 1));
    bool is_same = cell->is_used && strcmp(cell->name, name) == 0;
    if (is_same && cell->parent == n->parent && cell->version == n->version)
        return;
    if (cell->is_used && !is_same)
        forget_target(e, (enum ev_kind)n->kind, n->number);
    memcpy(cell->name, name, sizeof cell->name);
    cell->parent = n->parent;
    cell->version = n->version;
    cell->is_used = 1;
    if (e->s.top[n->kind] <= n->number)
        e->s.top[n->kind] = (uint16_t)(n->number + 1);
    if (n->kind == EV_KIND_SERVICE)
        signals_service(e->signals, cell->name, n->number, false);
    else if (n->kind == EV_KIND_VERSION)
        signals_version(e->signals, cell->name, n->number, false);
    control_apply_config(e, (enum ev_kind)n->kind, n->number);
}

static void tell_changes(struct engine *e)
{
    for (uint32_t i = 0; i < e->s.change_count; i++) {
        const struct change *c = &e->s.change[i];
        struct move m;
        move_init(&m, e, (enum knob_id)c->knob, c->target);
        const struct knob_layer *layer = control_layer(e, c->knob, c->target);
        m.d.reason = REASON_CONFIG_CHANGED;
        m.d.actor = ACTOR_OPERATOR;
        m.d.to = m.d.from;
        m.d.from = c->from;
        m.d.min = layer->min;
        m.d.max = layer->max;
        m.d.mode = layer->mode;
        m.d.is_applied = 1;
        arbiter_tell(e, &m.d);
    }
    memset(e->s.change, 0, sizeof e->s.change);
    e->s.change_count = 0;
}

static void earlier(uint64_t *at_us, uint64_t back_us)
{
    if (*at_us > 0)
        *at_us = *at_us > back_us ? *at_us - back_us : 1;
}

/* The machine booted: its clock began again.  What was left to wait stays left to wait. */
static void clock_restart(struct engine *e, uint64_t now_us)
{
    uint64_t back_us = e->s.now_us - now_us;
    for (uint16_t knob = 0; knob < KNOB_COUNT; knob++)
        for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
            struct cell *c = &e->s.cell[knob][i];
            earlier(&c->cooldown_until_us, back_us);
            earlier(&c->frozen_until_us, back_us);
            earlier(&c->pin_until_us, back_us);
            earlier(&c->mode_until_us, back_us);
            c->gain_us = 0;
            memset(c->reversal_us, 0, sizeof c->reversal_us);
            memset(&c->pending, 0, sizeof c->pending);
            earlier(&control_layer(e, knob, i)->learned_us, back_us);
        }
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        earlier(&e->s.drain_until_us[i], back_us);
    memset(e->s.timeout, 0, sizeof e->s.timeout);
    memset(e->s.retry, 0, sizeof e->s.retry);
    memset(e->s.hedge, 0, sizeof e->s.hedge);
}

static bool is_due(const struct engine *e, enum loop_id loop)
{
    uint32_t ticks = loop_row((uint16_t)loop)->period_ms / 100;
    return e->s.ticks % (ticks > 0 ? ticks : 1) == 0;
}

static void feed_tick(struct engine *e, const struct ev_tick *t)
{
    if (t->head.time_us < e->s.now_us)
        clock_restart(e, t->head.time_us);
    e->s.now_us = t->head.time_us;
    e->s.ticks++;
    tell_changes(e);
    command_expire(e);
    if (is_due(e, LOOP_LIMIT))
        loop_limit_run(e);
    loop_shed_run(e, is_due(e, LOOP_SHED));
    if (is_due(e, LOOP_TIMEOUT))
        loop_timeout_run(e);
    if (is_due(e, LOOP_RETRY))
        loop_retry_run(e);
    if (is_due(e, LOOP_HEDGE))
        loop_hedge_run(e);
    if (is_due(e, LOOP_CACHE))
        loop_cache_run(e);
    if (is_due(e, LOOP_RELEASE))
        release_run(e);
    verifier_run(e);
    if (e->s.ticks % 10 == 0) {
        anomaly_run(e);
        objective_run(e);
    }
}

/* ---- what it knows ---- */

const struct facts *engine_facts(const struct engine *e)
{
    return e->facts;
}
const struct curves *engine_curves(const struct engine *e)
{
    return e->curves;
}

const struct customs *engine_customs(const struct engine *e)
{
    return e->customs;
}

const struct signals *engine_signals(const struct engine *e)
{
    return e->signals;
}

const struct knob_book *engine_book(const struct engine *e)
{
    return &e->book;
}
uint64_t engine_decision_count(const struct engine *e)
{
    return e->s.decision_id;
}

bool engine_is_drained(const struct engine *e, uint16_t endpoint)
{
    return endpoint < KNOB_TARGETS_MAX && e->s.is_drained[endpoint];
}

const char *engine_name(const struct engine *e, enum ev_kind kind, uint16_t number)
{
    if (kind >= CONTROL_KINDS || number >= KNOB_TARGETS_MAX)
        return "";
    return e->s.name[kind][number].name;
}

/* ---- snapshot ---- */

void engine_save(const struct engine *e, struct buf *out)
{
    pack_put_u64(out, ENGINE_LAYOUT);
    pack_put_u64(out, sizeof e->s);
    pack_put_u64(out, sizeof e->book);
    pack_put(out, &e->s, sizeof e->s);
    pack_put(out, &e->book, sizeof e->book);
    curves_save(e->curves, out);
    customs_save(e->customs, out);
    signals_save(e->signals, out);
    facts_save(e->facts, out);
}

/* What later code asserts or uses as an index: a damaged file must not end the process. */
static bool is_cell_sane(const struct engine *e, uint16_t knob, uint16_t target)
{
    const struct cell *c = &e->s.cell[knob][target];
    const struct knob_layer *l = &e->book.layer[knob][target];
    const struct pending *p = &c->pending;
    return p->fact < FACT_END && p->window < FACT_WINDOW_COUNT && p->kind < CONTROL_KINDS &&
           p->expected <= EXPECT_KEEP && c->halvings < 8 && l->mode <= EV_MODE_ACT &&
           !isnan(l->configured) && !isnan(l->learned) && !isnan(l->pinned) && l->min <= l->max;
}

static bool is_sane(const struct engine *e)
{
    bool is_sane = e->s.change_count <= CONTROL_CHANGES_MAX && e->s.mode <= EV_MODE_ACT;
    for (uint32_t k = 0; k < CONTROL_KINDS; k++) {
        is_sane = is_sane && e->s.top[k] <= KNOB_TARGETS_MAX;
        for (uint32_t i = 0; i < KNOB_TARGETS_MAX && is_sane; i++)
            is_sane = e->s.name[k][i].name[CONTROL_NAME_BYTES - 1] == 0;
    }
    for (uint16_t knob = 0; knob < KNOB_COUNT; knob++)
        for (uint16_t i = 0; i < KNOB_TARGETS_MAX && is_sane; i++)
            is_sane = is_cell_sane(e, knob, i);
    for (uint32_t i = 0; i < e->s.change_count && is_sane; i++)
        is_sane = e->s.change[i].knob < KNOB_COUNT && e->s.change[i].target < KNOB_TARGETS_MAX;
    return is_sane;
}

enum fb_code engine_load(struct engine *e, struct span bytes, struct fb_err *err)
{
    struct unpack u = {.rest = bytes};
    uint64_t layout = unpack_get_u64(&u);
    uint64_t state_bytes = unpack_get_u64(&u);
    uint64_t book_bytes = unpack_get_u64(&u);
    if (u.is_broken || layout != ENGINE_LAYOUT || state_bytes != sizeof e->s ||
        book_bytes != sizeof e->book)
        return fb_fail(
            err, FB_E_VERSION,
            "engine: the snapshot has another layout than this build; fold the log from its start");
    unpack_get(&u, &e->s, sizeof e->s);
    unpack_get(&u, &e->book, sizeof e->book);
    enum fb_code code = FB_E_DAMAGED;
    if (u.is_broken || !is_sane(e) || !curves_load(e->curves, &u) ||
        !customs_load(e->customs, &u) || !signals_load(e->signals, &u))
        code = fb_fail(err, FB_E_DAMAGED, "engine: the snapshot is damaged; use the one before");
    else
        code = facts_load(e->facts, u.rest, err);
    if (code != FB_OK) {
        memset(&e->s, 0, sizeof e->s);
        memset(&e->book, 0, sizeof e->book);
        e->s.mode = EV_MODE_ACT;
    }
    return code;
}

uint64_t engine_hash(const struct engine *e)
{
    struct buf bytes;
    buf_init(&bytes, GIB);
    engine_save(e, &bytes);
    fb_assert(!bytes.failed);
    uint64_t hash = pack_hash(buf_span(&bytes));
    buf_fini(&bytes);
    return hash;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Life of the connectors: start, pause, change, end; what threads and loop tell each other.
 *
 *   begin -> (sink_run | source_run) -> end -> begin ...      one turn per pause, reset or stop
 *
 * A connector that is removed or changed ends by itself, however long its broker keeps it; the new
 * one of the same name waits for it, so that two never share an offset. */
#include "stream/connectors/runner.h"

#include "base/assert.h"
#include "base/clock.h"
#include "guard/region.h"
#include "stream/connectors/anchor.h"
#include "stream/connectors/letters.h"
#include "stream/connectors/load.h"
#include "stream/connectors/resend.h"
#include "stream/connectors/runner_int.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define FREE_WAIT_MS 1500

struct connectors {
    struct connectors_setup setup;
    char state_dir[512], node[64];
    struct conf *conf;
    struct runner *at[2 * CONNECTORS_MAX]; /* ended ones stay until their thread is over */
    uint32_t count, resends;
    struct letters_keeper *keeper;
};

static void *run(void *arg);
static void runner_free(struct runner *r);

/* ---- the thread ---- */
bool runner_may_go_on(const struct runner *r)
{
    return !atomic_load_explicit(&r->is_stopping, memory_order_relaxed) &&
           !atomic_load_explicit(&r->is_paused, memory_order_relaxed) &&
           !atomic_load_explicit(&r->is_reset, memory_order_relaxed);
}

bool runner_wait(struct runner *r, uint32_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + (uint64_t)ms * 1000000u;
    until.tv_sec += (time_t)(ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    pthread_mutex_lock(&r->lock);
    while (!atomic_load(&r->is_woken) &&
           pthread_cond_timedwait(&r->wake, &r->lock, &until) != ETIMEDOUT)
        ;
    bool was_woken = atomic_exchange(&r->is_woken, false);
    pthread_mutex_unlock(&r->lock);
    return !was_woken;
}

static void wake(struct runner *r)
{
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->is_woken, true);
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
}

static void set_state(struct runner *r, enum connector_state state)
{
    RUNNER_STATUS(r, r->status.state = state);
}

static void note_error(struct runner *r, const struct fb_err *err)
{
    RUNNER_STATUS(r, {
        r->status.errors++;
        snprintf(r->status.last_error, sizeof r->status.last_error, "%.*s",
                 (int)sizeof r->status.last_error - 1, err->text);
        r->status.last_error_wall_us = fb_wall_us();
    });
}

static void fails(struct runner *r, const struct fb_err *err, enum connector_state state)
{
    uint64_t now_us = fb_mono_us();
    note_error(r, err);
    RUNNER_STATUS(r, {
        r->status.state = state;
        if (!r->status.failing_since_us)
            r->status.failing_since_us = now_us;
    });
}

uint32_t runner_note_failure(struct runner *r, const struct fb_err *err)
{
    bool needs_hand = err->code == FB_E_CONFIG || err->code == FB_E_DENIED ||
                      err->code == FB_E_NOT_FOUND || err->code == FB_E_VERSION ||
                      err->code == FB_E_CONFLICT;
    fails(r, err, needs_hand ? CONNECTOR_MISCONFIGURED : CONNECTOR_FAILING);
    if (needs_hand && r->connector) { /* files of the configuration are read again at the open */
        r->type->close(r->connector);
        r->connector = NULL;
    }
    r->is_marked = false;
    resend_fails(r, err->text);
    r->was_fenced |= err->code == FB_E_CONFLICT; /* whatever fails after it */
    uint32_t attempt = r->attempt++;
    return needs_hand ? RUNNER_HAND_MS
                      : backoff_ms(attempt, r->c->backoff_max_ms, rng_unit(&r->rng));
}

void runner_failed(struct runner *r, const struct fb_err *err)
{
    uint32_t wait_ms = runner_note_failure(r, err);
    bool must_end = atomic_load(&r->is_stopping) || atomic_load(&r->is_paused);
    bool waited = !must_end && runner_wait(r, wait_ms);
    r->was_fenced &= waited; /* woken: by a person */
}

void runner_works(struct runner *r)
{
    r->attempt = 0;
    r->was_fenced = false;
    RUNNER_STATUS(r, {
        r->status.state = CONNECTOR_RUNNING;
        r->status.failing_since_us = 0;
    });
}

/* A reload that changes regions changes the hash of each connector (conf/parse_region.c): r->conf
 * is the one in force. */
bool runner_region_may_pass(const struct runner *r, const struct ev_head *ev)
{
    struct region_book book = {.conf = r->conf, .names = r->setup->names};
    return !r->has_regions || region_may_pass(&book, ev, r->c->region);
}

/* Which service and route has which region: a connector that runs begins anew when that changes. */
static uint64_t regions_of(const struct conf *conf)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    size_t count = conf->service_count + conf->route_count;
    for (size_t i = 0; region_is_used(conf) && i < 2 * count; i++) {
        size_t k = i / 2;
        bool is_service = k < conf->service_count;
        const struct conf_service *sv = is_service ? &conf->services[k] : NULL;
        const struct conf_route *rt = is_service ? NULL : &conf->routes[k - conf->service_count];
        const char *text = i % 2 == 0   ? (is_service ? sv->name : rt->name)
                           : is_service ? conf_service_region(sv)
                                        : conf_route_region(conf, rt);
        for (; text && *text; text++)
            h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
        h = (h ^ 0xff) * UINT64_C(0x100000001b3);
    }
    return h;
}

/* ---- what the library is lent ---- */
static const char *lend_value(const void *conf, const char *key)
{
    const char *value = conf_connector_value(conf, key);
    return value ? value : "";
}

static bool lend_position(void *ctx, const char *topic, uint32_t partition,
                          char out[CONNECTOR_POSITION_BYTES])
{
    const struct runner *r = ctx;
    const char *at = positions_get(&r->positions, topic, partition);
    if (at)
        snprintf(out, CONNECTOR_POSITION_BYTES, "%s", at);
    return at != NULL;
}

static bool lend_is_stopping(void *ctx)
{
    return !runner_may_go_on(ctx);
}

static void lend_give_back(void *ctx)
{
    source_give_back(ctx);
}

static void lend_say(void *ctx, enum fb_log_level level, const char *text)
{
    const struct runner *r = ctx;
    fb_log(level, "connector %s: %s", r->c->name, text);
}

static void lend_trouble(void *ctx, const struct fb_err *err)
{
    fails(ctx, err, CONNECTOR_FAILING);
}

static enum fb_code open_connector(struct runner *r, struct fb_err *err)
{
    const struct conf_connector_row *row = conf_connector_row(r->c->type);
    fb_assert(row);
    if (!r->type) {
        enum fb_code code = connector_load(row->name, row->package, &r->type, err);
        if (code != FB_OK)
            return code;
    }
    if (!(r->type->can & (r->c->is_source ? CONNECTOR_SOURCE : CONNECTOR_SINK)))
        return fb_fail(err, FB_E_CONFIG, "connectors.%s: %s cannot be a %s", r->c->name, r->c->type,
                       r->c->is_source ? "source" : "sink");
    r->positions.is_unordered = r->durable.is_unordered = (r->type->can & CONNECTOR_UNORDERED) != 0;
    struct connector_setup setup = {.name = r->c->name,
                                    .node = r->setup->node,
                                    .state_dir = r->setup->state_dir,
                                    .is_source = r->c->is_source,
                                    .was_fenced = r->was_fenced,
                                    .value = lend_value,
                                    .conf = r->c,
                                    .position = lend_position,
                                    .give_back = lend_give_back,
                                    .is_stopping = lend_is_stopping,
                                    .say = lend_say,
                                    .trouble = lend_trouble,
                                    .ctx = r};
    return r->type->open(&r->connector, &setup, err);
}

bool runner_is_open(struct runner *r)
{
    struct fb_err err;
    if (r->connector)
        return true;
    if (open_connector(r, &err) == FB_OK)
        return true;
    r->connector = NULL;
    runner_failed(r, &err);
    return false;
}

/* ---- dead letters ---- */
bool runner_bury(struct runner *r, const struct dead_letter *letter)
{
    const struct letters_box box = {.state_dir = r->setup->state_dir,
                                    .connector = r->c->name,
                                    .keys = r->setup->keys,
                                    .bytes_max = r->conf->p.dead_letters_retain_bytes};
    struct fb_err err;
    if (letters_put(&box, letter, fb_wall_us(), &err) != FB_OK) {
        fb_log(FB_LOG_ERROR, "connector %s: %s", r->c->name, err.text);
        return false;
    }
    RUNNER_STATUS(r, {
        r->status.dead++;
        snprintf(r->status.last_error, sizeof r->status.last_error, "dead letter: %.200s",
                 letter->reason);
        r->status.last_error_wall_us = fb_wall_us();
    });
    return true;
}

/* ---- one turn ---- */
static enum fb_code begin(struct runner *r, struct fb_err *err)
{
    enum fb_code code = FB_OK;
    if (!r->state)
        code = state_open(&r->state, r->setup->state_dir, NULL, err);
    if (code == FB_OK)
        code = filter_parse(&r->filter, span_of(r->c->filter), err);
    if (code == FB_OK)
        code = r->c->is_source ? source_begin(r, err) : sink_begin(r, err);
    return code;
}

static void turn(struct runner *r)
{
    struct fb_err err;
    if (begin(r, &err) == FB_OK) {
        if (r->c->is_source)
            source_run(r);
        else
            sink_run(r);
    } else {
        runner_failed(r, &err);
    }
    if (r->c->is_source)
        source_end(r);
    else
        sink_end(r);
    if (r->connector)
        r->type->close(r->connector);
    r->connector = NULL;
}

static void *run(void *arg)
{
    struct runner *r = arg;
    while (!atomic_load(&r->is_stopping)) {
        if (atomic_load(&r->is_paused)) {
            set_state(r, CONNECTOR_PAUSED);
            runner_wait(r, 1000);
            continue;
        }
        if (r->status.state != CONNECTOR_FAILING && r->status.state != CONNECTOR_MISCONFIGURED)
            set_state(r, CONNECTOR_STARTING);
        turn(r);
    }
    if (r->state)
        state_close(r->state);
    r->state = NULL;
    set_state(r, CONNECTOR_ENDED);
    atomic_store(&r->is_over, true);
    return NULL;
}

/* ---- the brain's loop ---- */
static struct runner *runner_new(struct connectors *cs, const struct conf_connector *c)
{
    pthread_condattr_t attr;
    struct runner *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->setup = &cs->setup;
    r->conf = conf_ref(cs->conf);
    r->c = c;
    r->has_regions = region_is_used(cs->conf);
    r->regions = regions_of(cs->conf);
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &attr);
    pthread_condattr_destroy(&attr);
    rng_init(&r->rng, fb_mono_us() ^ c->hash ^ (uint64_t)getpid() << 32);
    snprintf(r->status.name, sizeof r->status.name, "%s", c->name);
    snprintf(r->status.type, sizeof r->status.type, "%s", c->type);
    r->status.is_source = c->is_source;
    r->status.level_wall_us = fb_wall_us();
    r->status.lag_alert_us = c->lag_alert_ms * 1000;
    return r;
}

static void pause_key(const char *name, char out[80])
{
    snprintf(out, 80, "connector:%s:paused", name);
}

/* The brain's own handle would do, but this is rare and keeps the runner whole. */
static bool read_paused(struct connectors *cs, const char *name)
{
    struct state *st;
    char key[80], *value = NULL;
    struct fb_err err;
    bool is_paused = false;
    pause_key(name, key);
    if (state_open(&st, cs->state_dir, NULL, &err) != FB_OK)
        return false;
    if (state_meta_get(st, key, &value, &err) == FB_OK)
        is_paused = strcmp(value, "1") == 0;
    free(value);
    state_close(st);
    return is_paused;
}

static enum fb_code write_paused(struct connectors *cs, const char *name, bool is_paused,
                                 struct fb_err *err)
{
    struct state *st;
    char key[80];
    pause_key(name, key);
    enum fb_code code = state_open(&st, cs->state_dir, NULL, err);
    if (code != FB_OK)
        return code;
    code = state_meta_set(st, key, is_paused ? SPAN("1") : SPAN("0"), err);
    state_close(st);
    return code;
}

struct connectors *connectors_new(const struct connectors_setup *setup)
{
    struct connectors *cs = calloc(1, sizeof *cs);
    if (!cs)
        return NULL;
    cs->setup = *setup;
    snprintf(cs->state_dir, sizeof cs->state_dir, "%s", setup->state_dir);
    snprintf(cs->node, sizeof cs->node, "%s", setup->node);
    cs->setup.state_dir = cs->state_dir;
    cs->setup.node = cs->node;
    cs->keeper = letters_keeper_new(cs->state_dir);
    if (!cs->keeper)
        fb_log(FB_LOG_ERROR, "dead letters are kept for ever: no thread could be started");
    struct fb_err err;
    if (anchor_scan(cs->state_dir, setup->log_end, &err) != FB_OK)
        fb_log(FB_LOG_WARN, "connectors: positions beyond the log were not looked for: %s",
               err.text);
    return cs;
}

static void start(struct connectors *cs, struct runner *r)
{
    sigset_t all, was;
    atomic_store(&r->is_paused, read_paused(cs, r->c->name));
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    r->is_started = pthread_create(&r->thread, NULL, run, r) == 0;
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (r->is_started) {
        char name[16];
        snprintf(name, sizeof name, "fb-%.12s", r->c->name);
        pthread_setname_np(r->thread, name);
    } else {
        fb_log(FB_LOG_ERROR, "connector %s: no thread could be started; it is tried again",
               r->c->name);
    }
}

static void runner_free(struct runner *r)
{
    if (r->is_started)
        pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->lock);
    conf_unref(r->conf);
    free(r);
}

static bool is_same(const struct runner *r, const struct conf_connector *c, uint64_t regions)
{
    return strcmp(r->c->name, c->name) == 0 && r->c->hash == c->hash &&
           (c->is_source || r->regions == regions);
}

static void stop_runner(struct runner *r)
{
    atomic_store(&r->is_stopping, true);
    wake(r);
}

void connectors_apply(struct connectors *cs, struct conf *conf)
{
    struct conf *was = cs->conf;
    uint64_t regions = regions_of(conf);
    cs->conf = conf_ref(conf);
    conf_unref(was);
    if (cs->keeper)
        letters_keeper_bounds(cs->keeper, conf->p.dead_letters_retain_age,
                              conf->p.dead_letters_retain_bytes);
    for (uint32_t i = 0; i < cs->count; i++) {
        bool is_wanted = false;
        for (size_t k = 0; k < conf->connector_count; k++)
            is_wanted |=
                !conf->connectors[k].is_fleet && is_same(cs->at[i], &conf->connectors[k], regions);
        if (!is_wanted && !atomic_load(&cs->at[i]->is_stopping))
            stop_runner(cs->at[i]);
    }
    connectors_tick(cs);
}

static struct runner *find(struct connectors *cs, const char *name)
{
    for (uint32_t i = 0; i < cs->count; i++)
        if (strcmp(cs->at[i]->c->name, name) == 0)
            return cs->at[i];
    return NULL;
}

void connectors_tick(struct connectors *cs)
{
    for (uint32_t i = 0; i < cs->count;) {
        struct runner *r = cs->at[i];
        if (!atomic_load(&r->is_stopping) || (r->is_started && !atomic_load(&r->is_over))) {
            if (!r->is_started && !atomic_load(&r->is_stopping))
                start(cs, r);
            i++;
            continue;
        }
        runner_free(r); /* its thread has nothing more to do */
        cs->at[i] = cs->at[--cs->count];
    }
    for (size_t k = 0; cs->conf && k < cs->conf->connector_count; k++) {
        const struct conf_connector *c = &cs->conf->connectors[k];
        if (c->is_fleet || find(cs, c->name) || cs->count == FB_COUNT(cs->at))
            continue;
        struct runner *r = runner_new(cs, c);
        if (!r)
            return; /* at the next tick */
        cs->at[cs->count++] = r;
        start(cs, r);
    }
}

void connectors_free(struct connectors *cs, void (*settle)(void *arg), void *arg)
{
    if (!cs)
        return;
    letters_keeper_free(cs->keeper);
    for (uint32_t i = 0; i < cs->count; i++) {
        atomic_store(&cs->at[i]->is_last, true);
        stop_runner(cs->at[i]);
    }
    uint64_t until_us = fb_mono_us() + FREE_WAIT_MS * US_PER_MS;
    bool is_stuck = false;
    for (uint32_t i = 0; i < cs->count; i++) {
        struct runner *r = cs->at[i];
        while (r->is_started && !atomic_load(&r->is_over) && fb_mono_us() < until_us) {
            settle(arg);
            usleep(5000);
        }
        if (r->is_started && !atomic_load(&r->is_over)) {
            fb_log(FB_LOG_WARN,
                   "connector %s does not end: what was in flight is sent again after the start",
                   r->c->name);
            is_stuck = true; /* the process ends next, and the thread with it */
            continue;
        }
        runner_free(r);
    }
    if (is_stuck)
        return;
    conf_unref(cs->conf);
    free(cs);
}

static int by_name(const void *a, const void *b)
{
    const struct connector_status *x = a, *y = b;
    return strcmp(x->name, y->name);
}

uint32_t connectors_status(struct connectors *cs, struct connector_status *out, uint32_t max)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < cs->count && n < max; i++) {
        struct runner *r = cs->at[i];
        if (atomic_load(&r->is_stopping))
            continue;
        pthread_mutex_lock(&r->lock);
        out[n] = r->status;
        pthread_mutex_unlock(&r->lock);
        if (out[n].failing_since_us)
            out[n].failing_us = fb_sub_floor_u64(fb_mono_us(), out[n].failing_since_us) + 1;
        if (out[n].oldest_wall_us) /* it grows while the thread waits */
            out[n].lag_us = fb_sub_floor_u64(fb_wall_us(), out[n].oldest_wall_us);
        n++;
    }
    qsort(out, n, sizeof *out, by_name);
    return n;
}

enum fb_code connectors_order(struct connectors *cs, const struct connector_order *order,
                              struct fb_err *err)
{
    struct runner *r = find(cs, order->name);
    enum fb_code code = FB_OK;
    if (!r || atomic_load(&r->is_stopping))
        return fb_fail(err, FB_E_NOT_FOUND,
                       "no connector is called %.60s; `foldback connector list` shows all",
                       order->name);
    if (order->verb == CONNECTOR_RESET && !r->c->is_source && !order->has_place)
        return fb_fail(err, FB_E_RANGE,
                       "%s is a sink; say where it goes on: start (all that the log has comes "
                       "again), end (what waits is left out), or an offset of the log",
                       order->name);
    if (order->verb == CONNECTOR_RESET && r->c->is_source && order->has_place)
        return fb_fail(err, FB_E_RANGE,
                       "%s is a source, whose place is at its broker: a reset forgets how far it "
                       "was, and it begins as it is configured; leave out `--at`",
                       order->name);
    if (order->verb == CONNECTOR_RESET) {
        atomic_store(&r->reset_offset, order->offset);
        atomic_store(&r->is_reset, true);
    } else {
        bool is_paused = order->verb == CONNECTOR_PAUSE;
        code = write_paused(cs, r->c->name, is_paused, err);
        if (code != FB_OK)
            return code;
        atomic_store(&r->is_paused, is_paused);
    }
    wake(r);
    return code;
}

enum fb_code connectors_resend(struct connectors *cs, const char *name, const char *id,
                               uint32_t *number, struct fb_err *err)
{
    struct runner *r = find(cs, name);
    if (!r || atomic_load(&r->is_stopping))
        return fb_fail(
            err, FB_E_NOT_FOUND,
            "no connector or handler is called %.60s: its dead letters stay; put it back "
            "into the configuration, or `foldback letters remove %.60s`",
            name, name);
    if (r->c->is_source)
        return fb_fail(err, FB_E_CONFLICT,
                       "%s is a source: what it buried could not be read; its sender sends it "
                       "again, corrected",
                       name);
    if (atomic_load(&r->is_paused))
        return fb_fail(err, FB_E_CONFLICT, "%s is paused; `foldback connector resume %s` first",
                       name, name);
    if (atomic_load(&r->is_resending))
        return fb_fail(
            err, FB_E_CONFLICT,
            "dead letters of %s are being sent already; `foldback connector list --json` "
            "tells how far it is",
            name);
    *number = ++cs->resends;
    resend_ask(r, id, *number);
    wake(r);
    return FB_OK;
}

/* ---- check ---- */
static void say_nothing(void *ctx, enum fb_log_level level, const char *text)
{
    (void)ctx, (void)level, (void)text;
}

static bool no_position(void *ctx, const char *topic, uint32_t partition,
                        char out[CONNECTOR_POSITION_BYTES])
{
    (void)ctx, (void)topic, (void)partition, (void)out;
    return false;
}

static bool go_on(void *ctx)
{
    (void)ctx;
    return false;
}

enum fb_code connectors_check(const struct conf_connector *c, uint32_t timeout_ms,
                              connectors_step *step, void *arg, struct fb_err *err)
{
    const struct conf_connector_row *row = conf_connector_row(c->type);
    const struct connector_type *type;
    struct connector *connector;
    char text[120];
    fb_assert(row);
    enum fb_code code = connector_load(row->name, row->package, &type, err);
    snprintf(text, sizeof text, "foldback-%s.so is there", row->name);
    step(arg, code == FB_OK, code == FB_OK ? text : err->text);
    if (code != FB_OK)
        return code;
    struct connector_setup setup = {.name = c->name,
                                    .node = "foldback",
                                    .state_dir = "",
                                    .is_source = c->is_source,
                                    .value = lend_value,
                                    .conf = c,
                                    .position = no_position,
                                    .is_stopping = go_on,
                                    .say = say_nothing};
    if (!(type->can & (c->is_source ? CONNECTOR_SOURCE : CONNECTOR_SINK)) && !c->is_fleet)
        code = fb_fail(err, FB_E_CONFIG, "connectors.%s: %s cannot be a %s", c->name, c->type,
                       c->is_source ? "source" : "sink");
    else
        code = type->open(&connector, &setup, err);
    if (code != FB_OK) {
        step(arg, false, err->text);
        return code;
    }
    if (timeout_ms)
        code = type->check(connector, timeout_ms, step, arg, err);
    type->close(connector);
    return code;
}

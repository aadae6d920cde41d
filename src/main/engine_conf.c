/* SPDX-License-Identifier: Apache-2.0 */
#include "main/engine_conf.h"

#include "base/assert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct knob_setting nothing = {
    .configured = NAN, .min = NAN, .max = NAN, .mode = EV_MODE_ACT};

static struct knob_setting setting_of(const struct conf_tune *tune, enum ev_mode inherited,
                                      double fallback)
{
    return (struct knob_setting){
        .configured = isnan(tune->value) ? fallback : tune->value,
        .min = tune->min,
        .max = tune->max,
        .mode = tune->mode < 0 ? inherited : (enum ev_mode)tune->mode,
    };
}

static void target_init(struct engine_target *t, enum ev_kind kind, const char *name)
{
    *t = (struct engine_target){.kind = kind};
    snprintf(t->name, sizeof t->name, "%s", name);
    for (size_t i = 0; i < KNOB_COUNT; i++)
        t->knob[i] = nothing;
}

static void add_service(struct engine_target **at, const struct conf *conf,
                        const struct conf_service *sv)
{
    struct engine_target *t = (*at)++;
    target_init(t, EV_KIND_SERVICE, sv->name);
    t->knob[KNOB_SHED_THRESHOLD] = setting_of(&sv->tune[KNOB_SHED_THRESHOLD], sv->mode, NAN);
    t->knob[KNOB_RETRY_PCT] =
        setting_of(&sv->tune[KNOB_RETRY_PCT], sv->mode, (double)conf->p.upstream_retry_pct);
    t->latency_quantile = sv->latency_quantile;
    t->latency_us = sv->latency_us;
    t->error_ratio_max = sv->error_ratio_max;

    t = (*at)++;
    target_init(t, EV_KIND_ENDPOINT, sv->name);
    t->knob[KNOB_LIMIT] = setting_of(&sv->tune[KNOB_LIMIT], sv->mode, NAN);
    t->knob[KNOB_WEIGHT_PCT] = setting_of(&sv->tune[KNOB_WEIGHT_PCT], sv->mode, NAN);
}

static enum ev_mode mode_of(const struct conf_service *sv)
{
    int mode = sv->tune[KNOB_CACHE_KIB].mode;
    return mode < 0 ? sv->mode : (enum ev_mode)mode;
}

/* Shares of the memory: those that are configured, and equal parts of the rest. */
static void cache_targets(const struct conf *conf, struct engine_target *routes)
{
    uint64_t fixed = 0;
    size_t open = 0;
    for (size_t i = 0; i < conf->route_count; i++) {
        const struct conf_cache *c = &conf->routes[i].cache;
        open += c->is_on && c->budget_bytes == 0;
        fixed += c->is_on ? c->budget_bytes : 0;
    }
    for (size_t i = 0; i < conf->route_count; i++) {
        const struct conf_cache *c = &conf->routes[i].cache;
        uint64_t share =
            open && conf->p.cache_memory > fixed ? (conf->p.cache_memory - fixed) / open : 0;
        if (!c->is_on)
            continue;
        routes[i].knob[KNOB_CACHE_KIB] = (struct knob_setting){
            .configured =
                fmax(1024, floor((double)(c->budget_bytes ? c->budget_bytes : share) / 1024)),
            .min = NAN,
            .max = (double)conf->p.cache_memory / 1024,
            .mode = mode_of(&conf->services[conf->routes[i].service])};
    }
}

/* Bounds are not for releases: a share goes back to where it was. */
static struct knob_setting split_of(const struct conf *conf, const struct conf_route *route)
{
    const struct conf_service *sv = &conf->services[route->service];
    int mode = sv->tune[KNOB_SPLIT_PCT].mode;
    return (struct knob_setting){.configured = fb_clamp(100 - route->split.parts[0].pct, 0, 100),
                                 .min = NAN,
                                 .max = NAN,
                                 .mode = mode < 0 ? sv->mode : (enum ev_mode)mode};
}

static bool add_signals(struct engine_conf *out, const struct conf *conf)
{
    _Static_assert(CONF_SIGNALS_MAX == SIGNALS_MAX, "all have a place");
    struct signal_conf *at = calloc(conf->signal_count ? conf->signal_count : 1, sizeof *at);
    if (!at)
        return false;
    for (size_t i = 0; i < conf->signal_count; i++) {
        const struct conf_signal *sig = &conf->signals[i];
        snprintf(at[i].name, sizeof at[i].name, "%s", sig->name);
        snprintf(at[i].event, sizeof at[i].event, "%s", sig->event);
        snprintf(at[i].service, sizeof at[i].service, "%s", sig->service);
        at[i].value = sig->value; /* the words of keys.def are in the order of the enums */
        at[i].better = sig->better;
        at[i].change_min = sig->harm_pct / 100;
        const struct conf_split *split = conf_signal_split(conf, sig, NULL);
        const char *old = split ? split->parts[0].version : "";
        if (strlen(old) < sizeof at[i].old_version)
            memcpy(at[i].old_version, old, strlen(old));
    }
    out->signals = at;
    out->signal_count = conf->signal_count;
    return true;
}

enum fb_code engine_conf_init(struct engine_conf *out, const struct conf *conf, struct fb_err *err)
{
    size_t count = conf->service_count * 2 + conf->route_count;
    struct engine_target *targets = calloc(count ? count : 1, sizeof *targets);
    *out = (struct engine_conf){.config_hash = conf->hash, .mode = (enum ev_mode)conf->p.top_mode};
    if (!targets || !add_signals(out, conf)) {
        free(targets);
        return fb_fail(err, FB_E_NOMEM, "configuration: no memory for %zu targets", count);
    }
    struct engine_target *at = targets;
    for (size_t i = 0; i < conf->service_count; i++)
        add_service(&at, conf, &conf->services[i]);
    for (size_t i = 0; i < conf->route_count; i++) {
        const struct conf_route *route = &conf->routes[i];
        struct engine_target *t = at++;
        target_init(t, EV_KIND_ROUTE, route->name);
        uint64_t timeout_ms = route->timeout_ms ? route->timeout_ms : conf->p.upstream_timeout;
        t->knob[KNOB_TIMEOUT_MS] = setting_of(
            &route->timeout_tune, conf->services[route->service].mode, (double)timeout_ms);
        if (route->split.count)
            t->knob[KNOB_SPLIT_PCT] = split_of(conf, route);
        /* the configured timeout is what a person promised to wait: the loop never goes above it */
        if (isnan(t->knob[KNOB_TIMEOUT_MS].max))
            t->knob[KNOB_TIMEOUT_MS].max = t->knob[KNOB_TIMEOUT_MS].configured;
        enum ev_mode mode = conf->services[route->service].mode;
        bool is_fixed = route->hedge_delay_ms > 0;
        t->knob[KNOB_HEDGE_DELAY_MS] =
            setting_of(&route->hedge_tune, is_fixed ? EV_MODE_OBSERVE : mode,
                       is_fixed ? (double)route->hedge_delay_ms : NAN);
        if (route->hedge == CONF_HEDGE_OFF)
            t->knob[KNOB_HEDGE_DELAY_MS].max = t->knob[KNOB_HEDGE_DELAY_MS].min = 0;
    }
    cache_targets(conf, targets + conf->service_count * 2);
    fb_assert((size_t)(at - targets) == count);
    out->targets = targets;
    out->target_count = count;
    return FB_OK;
}

void engine_conf_fini(struct engine_conf *ec)
{
    free((void *)(uintptr_t)ec->targets);
    free((void *)(uintptr_t)ec->signals);
    *ec = (struct engine_conf){0};
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that show: health, metrics, status, lists, facts, history, configuration, reference. */
#include "output/admin_int.h"

#include "output/assets.h"

#include <math.h>
#include <stdio.h>

#define RUN(name) void api_run_##name(struct api_call *c)
#define API(method, path, run, ...) RUN(run);
#include "output/api.def"
#undef API

RUN(healthz)
{
    c->type = "text/plain; charset=utf-8";
    buf_puts(c->out, "ok\n");
}

RUN(readyz)
{
    bool is_ready = admin_is_ready(c->admin);
    c->type = "text/plain; charset=utf-8";
    c->status = is_ready ? 200 : 503;
    buf_puts(c->out, is_ready ? "ready\n"
                              : "not ready: the gateway or the brain gave no sign for 2 s, or the "
                                "gateway drains\n");
}

RUN(metrics)
{
    struct admin *a = c->admin;
    static struct admin_connector connectors[ADMIN_CONNECTORS_MAX]; /* the loop's */
    struct admin_stream s = {.is_disk_ok = true};
    if (a->source.stream)
        a->source.stream(a->source.ctx, &s);
    const struct http1_field *accept = http1_find_name(c->head, SPAN("accept"));
    bool is_om = accept && metrics_wants_openmetrics(accept->value);
    struct metrics_view view = {.metrics = a->metrics,
                                .curves = a->source.curves,
                                .facts = a->source.facts,
                                .memfile = a->source.memfile,
                                .book = a->source.book,
                                .timeline = &a->timeline,
                                .log_bytes = s.log_bytes,
                                .log_lag_us = s.lag_us,
                                .compacted_segments = s.compacted_segments,
                                .compacted_saved_bytes = s.compacted_saved_bytes,
                                .compact_failures = s.compact_failures,
                                .uncleared_segments = s.uncleared_segments,
                                .clear_failures = s.clear_failures,
                                .keys = s.keys,
                                .is_log_up = s.is_disk_ok,
                                .connections = a->conn_count,
                                .customs = a->source.customs,
                                .signal = a->source.signal,
                                .signal_ctx = a->source.ctx,
                                .ingest = a->source.ingest,
                                .connectors = connectors};
    if (a->source.ingress) {
        struct ingress_stats queue;
        ingress_stats_read(a->source.ingress, &queue);
        view.ingest_queued_bytes = queue.queued_bytes;
    }
    if (a->source.connectors)
        view.connector_count =
            a->source.connectors(a->source.ctx, connectors, ADMIN_CONNECTORS_MAX);
    c->type = is_om ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                    : "text/plain; version=0.0.4; charset=utf-8";
    metrics_write(&view, c->out, is_om);
}

static bool login_token(struct api_call *c, struct jsonin *in, const char **token)
{
    if (!api_body(c, in))
        return false;
    *token = jsonin_text(in, "token", NULL);
    if (*token)
        return true;
    api_fail(c, FB_E_USAGE, "the body must be {\"token\": \"...\"}");
    return false;
}

RUN(login)
{
    struct jsonin in;
    const char *token = NULL;
    if (!login_token(c, &in, &token))
        return;
    enum auth_result result =
        auth_login(&c->admin->auth, c->conn->source, span_of(token), c->admin->now_us);
    if (result == AUTH_TOO_MANY) {
        snprintf(c->header, sizeof c->header, "Retry-After: 60\r\n");
        api_fail_status(c, 429, FB_E_DENIED,
                        "more than 10 wrong tokens in a minute from this address; a right one is "
                        "taken at any time");
    } else if (result != AUTH_OK) {
        api_fail(c, FB_E_DENIED, "the token is wrong");
    } else {
        struct buf cookie;
        buf_init(&cookie, 256);
        auth_put_cookie(&c->admin->auth, &cookie, c->admin->now_us, false);
        snprintf(c->header, sizeof c->header, "Set-Cookie: %s\r\n", buf_str(&cookie));
        buf_fini(&cookie);
        c->status = 204;
    }
}

RUN(logout)
{
    struct buf cookie;
    buf_init(&cookie, 256);
    auth_put_cookie(&c->admin->auth, &cookie, c->admin->now_us, true);
    snprintf(c->header, sizeof c->header, "Set-Cookie: %s\r\n", buf_str(&cookie));
    buf_fini(&cookie);
    c->status = 204;
}

static void put_processes(struct json *j, const struct admin *a)
{
    const struct memfile_head *h = a->source.memfile->head;
    json_key(j, "gateway");
    json_object_begin(j);
    json_key_f64(j, "beat_age_ms",
                 (double)fb_sub_floor_u64(a->now_us, atomic_load(&h->gateway_beat_us)) / 1e3);
    json_key_u64(j, "epoch", atomic_load(&h->gateway_epoch));
    json_key_u64(j, "threads", h->threads);
    json_key_u64(j, "connections", atomic_load(&h->connections));
    json_key_u64(j, "requests", atomic_load(&h->requests));
    json_key_bool(j, "is_draining", atomic_load(&h->gateway_is_draining) != 0);
    json_object_end(j);
    json_key(j, "brain");
    json_object_begin(j);
    json_key_u64(j, "epoch", atomic_load(&h->brain_epoch));
    json_key_u64(j, "tick", a->tick.tick);
    json_key_f64(j, "uptime_s", (double)fb_sub_floor_u64(a->now_us, a->start_us) / 1e6);
    json_object_end(j);
    put_hex(j, "config_hash", atomic_load(&h->config_hash));
}

static uint64_t standing_alerts(const struct admin *a)
{
    uint64_t count = 0;
    const struct timeline_alert *x;
    for (uint64_t i = 0; (x = timeline_alert_at(&a->timeline, i)) != NULL; i++)
        count += x->over_us == 0;
    return count;
}

static uint64_t count_names(const struct admin *a, enum ev_kind kind)
{
    uint64_t count = 0;
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        count += admin_name(a, kind, i)[0] && !admin_has_left(a, kind, i);
    return count;
}

static void put_own_load(struct json *j, const struct admin *a)
{
    static const char *const stages[] = {"none", "trim", "short", "refuse", "pause"};
    static const char *const resources[MEMFILE_OWN_RESOURCES] = {"memory", "descriptors", "cpu",
                                                                 "ring"};
    const struct memfile_head *head = a->source.memfile->head;
    uint32_t stage = atomic_load_explicit(&head->own_stage, memory_order_relaxed);
    json_object_begin(j);
    json_key_str(j, "stage", stages[stage < FB_COUNT(stages) ? stage : 0]);
    json_key_u64(j, "threshold", atomic_load_explicit(&head->own_threshold, memory_order_relaxed));
    json_key(j, "used");
    json_object_begin(j);
    for (size_t i = 0; i < MEMFILE_OWN_RESOURCES; i++)
        json_key_f64(j, resources[i],
                     atomic_load_explicit(&head->own_used_ppm[i], memory_order_relaxed) / 1e6);
    json_object_end(j);
    json_object_end(j);
}

RUN(status)
{
    struct admin *a = c->admin;
    struct json *j = &c->j;
    json_object_begin(j);
    json_key_str(j, "node", a->node);
    json_key_str(j, "version", FB_VERSION);
    json_key_str(j, "address", a->address);
    put_time(j, "time", timeline_wall_us(&a->timeline, a->now_us));
    json_key_bool(j, "is_ready", admin_is_ready(a));
    put_processes(j, a);
    json_key(j, "traffic");
    put_totals(j, a, FACT_10S);
    json_key_u64(j, "routes", count_names(a, EV_KIND_ROUTE));
    json_key_u64(j, "services", count_names(a, EV_KIND_SERVICE));
    json_key_u64(j, "endpoints", count_names(a, EV_KIND_ENDPOINT));
    json_key_u64(j, "decisions", a->timeline.count);
    json_key_u64(j, "alerts", standing_alerts(a));
    json_key(j, "own_load");
    put_own_load(j, a);
    json_key(j, "tls");
    put_tls(j, a);
    json_key(j, "protocols");
    put_protocols(j, a);
    json_key(j, "stream");
    put_stream(j, a);
    json_key(j, "cost");
    put_cost(j, a);
    json_key(j, "signals");
    put_signals(j, a, false);
    json_object_end(j);
}

static void run_list(struct api_call *c, const char *key,
                     void (*put)(struct json *, const struct admin *, enum fact_window))
{
    enum fact_window window;
    if (!api_window(c, &window))
        return;
    json_object_begin(&c->j);
    json_key_u64(&c->j, "window_ms", fact_window_ms(window));
    json_key(&c->j, key);
    put(&c->j, c->admin, window);
    json_object_end(&c->j);
}

RUN(fleet)
{
    const struct admin_source *s = &c->admin->source;
    if (s->fleet)
        s->fleet(s->ctx, &c->j);
    else
        api_fail_status(c, 501, FB_E_AGAIN, "this process has no fleet");
}

RUN(services)
{
    run_list(c, "services", put_services);
}
RUN(routes)
{
    run_list(c, "routes", put_routes);
}
RUN(endpoints)
{
    run_list(c, "endpoints", put_endpoints);
}
RUN(versions)
{
    run_list(c, "versions", put_versions);
}

RUN(facts)
{
    struct fact_scope scope;
    enum fact_window window;
    if (!api_scope(c, &scope) || !api_window(c, &window))
        return;
    json_object_begin(&c->j);
    json_key(&c->j, "scope");
    put_target(&c->j, c->admin, (uint8_t)scope.kind, scope.kind ? scope.number : EV_NONE);
    json_key_u64(&c->j, "window_ms", fact_window_ms(window));
    json_key(&c->j, "facts");
    json_object_begin(&c->j);
    for (uint16_t i = 1; i < FACT_END; i++) {
        if (!fact_row(i)->name)
            continue;
        struct fact f = facts_get(c->admin->source.facts, scope, (enum fact_id)i, window);
        json_key(&c->j, fact_row(i)->name);
        put_fact(&c->j, &f);
    }
    json_object_end(&c->j);
    json_object_end(&c->j);
}

/* Scope and how many points, for history and heatmap; NULL after api_fail. */
static const struct history_series *asked_series(struct api_call *c, uint64_t *points)
{
    struct fact_scope scope;
    uint64_t range[2] = {1, HISTORY_POINTS_MAX};
    *points = 300;
    if (!api_scope(c, &scope) || !api_query_u64(c, "seconds", range, points))
        return NULL;
    *points = fb_min_u64(*points, c->admin->history.count);
    const struct history_series *s = history_find(&c->admin->history, scope);
    if (!s)
        api_fail(c, FB_E_AGAIN, "there is no history of this scope yet; try again in a second");
    return s;
}

static void put_seconds(struct json *j, const struct history *h, uint64_t points)
{
    uint32_t slot = 0;
    json_key(j, "t");
    json_array_begin(j);
    for (uint64_t age = points; age-- > 0;)
        if (history_slot(h, age, &slot))
            json_u64(j, h->wall_s[slot]);
    json_array_end(j);
}

RUN(history)
{
    uint64_t points = 0;
    uint32_t slot = 0;
    const struct history_series *s = asked_series(c, &points);
    if (!s)
        return;
    struct json *j = &c->j;
    json_object_begin(j);
    json_key(j, "scope");
    put_target(j, c->admin, (uint8_t)s->scope.kind, s->scope.kind ? s->scope.number : EV_NONE);
    put_seconds(j, &c->admin->history, points);
    for (unsigned col = 0; col < HISTORY_COLUMN_COUNT; col++) {
        json_key(j, history_column_name(col));
        json_array_begin(j);
        for (uint64_t age = points; age-- > 0;)
            if (history_slot(&c->admin->history, age, &slot))
                json_f64(j, (double)s->point[slot][col]);
        json_array_end(j);
    }
    json_object_end(j);
}

RUN(heatmap)
{
    uint64_t points = 0;
    uint32_t slot = 0;
    const struct history_series *s = asked_series(c, &points);
    if (!s)
        return;
    struct json *j = &c->j;
    json_object_begin(j);
    json_key(j, "scope");
    put_target(j, c->admin, (uint8_t)s->scope.kind, s->scope.kind ? s->scope.number : EV_NONE);
    json_key(j, "bounds_ms");
    json_array_begin(j);
    for (size_t b = 0; b < HISTORY_BUCKETS; b++)
        json_f64(j, history_bounds_us()[b] / 1e3);
    json_array_end(j);
    put_seconds(j, &c->admin->history, points);
    json_key(j, "counts");
    json_array_begin(j);
    for (uint64_t age = points; age-- > 0;) {
        if (!history_slot(&c->admin->history, age, &slot))
            continue;
        json_array_begin(j);
        for (size_t b = 0; b < HISTORY_BUCKETS; b++)
            json_u64(j, s->heat[slot][b]);
        json_array_end(j);
    }
    json_array_end(j);
    json_object_end(j);
}

/* ---- configuration ---- */
static bool is_offered(struct api_call *c, bool has_callback)
{
    if (!has_callback)
        api_fail_status(c, 501, FB_E_AGAIN, "this process does not offer it");
    return has_callback;
}

RUN(config)
{
    struct admin_source *s = &c->admin->source;
    if (!is_offered(c, s->config_text != NULL))
        return;
    struct buf part;
    buf_init(&part, MIB);
    s->config_text(s->ctx, &part);
    json_object_begin(&c->j);
    put_hex(&c->j, "hash", atomic_load(&s->memfile->head->config_hash));
    json_key(&c->j, "text");
    json_span(&c->j, buf_span(&part));
    json_key(&c->j, "file");
    json_span(&c->j, c->admin->in_force.of.file);
    put_needs_restart(&c->j, c->admin, true);
    api_put_own_endpoints(c);
    buf_clear(&part);
    if (s->config_effective)
        s->config_effective(s->ctx, &part);
    json_key(&c->j, "effective");
    json_raw(&c->j, part.len > 0 && !part.failed ? buf_span(&part) : SPAN("null"));
    json_object_end(&c->j);
    buf_fini(&part);
}

RUN(config_schema)
{
    struct admin_source *s = &c->admin->source;
    if (!is_offered(c, s->config_schema != NULL))
        return;
    c->type = "application/schema+json";
    s->config_schema(s->ctx, c->out);
}

RUN(openapi)
{
    api_openapi(&c->j);
}

RUN(alerts)
{
    const struct timeline_alert *x;
    json_object_begin(&c->j);
    json_key(&c->j, "alerts");
    json_array_begin(&c->j);
    for (uint64_t i = 0; (x = timeline_alert_at(&c->admin->timeline, i)) != NULL; i++)
        put_alert(&c->j, c->admin, x);
    json_array_end(&c->j);
    json_object_end(&c->j);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of answers that several calls and the live streams share. */
#include "output/admin_int.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

static const enum fact_id list_facts[] = {
    FACT_RATE,        FACT_OFFERED_RATE, FACT_ERROR_RATIO,    FACT_SHED_RATIO,   FACT_LATENCY_P50,
    FACT_LATENCY_P90, FACT_LATENCY_P99,  FACT_QUEUE_WAIT_P99, FACT_IN_TIME_RATIO};

void put_time(struct json *j, const char *key, uint64_t wall_us)
{
    char text[40], whole[24];
    time_t seconds = (time_t)(wall_us / US_PER_S);
    struct tm utc;
    json_key(j, key);
    if (wall_us == 0 || !gmtime_r(&seconds, &utc)) {
        json_str(j, NULL);
        return;
    }
    strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text, sizeof text, "%s.%03uZ", whole, (unsigned)(wall_us % US_PER_S / 1000));
    json_str(j, text);
}

void put_hex(struct json *j, const char *key, uint64_t v)
{
    char text[20];
    snprintf(text, sizeof text, "%016" PRIx64, v);
    json_key_str(j, key, text);
}

void put_fact(struct json *j, const struct fact *f)
{
    json_object_begin(j);
    json_key_f64(j, "value", f->state == FACT_OK ? f->value : NAN);
    json_key_u64(j, "n", f->n);
    if (f->state == FACT_INSUFFICIENT_DATA)
        json_key_u64(j, "n_needed", f->n_needed);
    json_key_str(j, "state", fact_state_name(f->state));
    json_object_end(j);
}

void put_target(struct json *j, const struct admin *a, uint8_t kind, uint16_t number)
{
    put_target_at(j, a, kind, number, UINT64_MAX);
}

void put_target_at(struct json *j, const struct admin *a, uint8_t kind, uint16_t number,
                   uint64_t time_us)
{
    json_object_begin(j);
    json_key_str(j, "kind", kind == EV_KIND_NONE || number == EV_NONE ? "all" : ev_kind_name(kind));
    json_key_u64(j, "number", number);
    json_key_str(j, "name",
                 number == EV_NONE ? "all" : admin_name_at(a, (enum ev_kind)kind, number, time_us));
    json_object_end(j);
}

/* {"rate": 12.5, "error_ratio": null, ...}; what is null and why is in "unknown". */
static void put_list_facts(struct json *j, const struct admin *a, struct fact_scope scope,
                           enum fact_window window)
{
    struct fact facts[FB_COUNT(list_facts)];
    bool all_ok = true;
    json_key(j, "facts");
    json_object_begin(j);
    for (size_t i = 0; i < FB_COUNT(list_facts); i++) {
        facts[i] = facts_get(a->source.facts, scope, list_facts[i], window);
        bool is_ok = facts[i].state == FACT_OK;
        json_key_f64(j, fact_row((uint16_t)list_facts[i])->name, is_ok ? facts[i].value : NAN);
        all_ok &= is_ok;
    }
    json_object_end(j);
    if (all_ok)
        return;
    json_key(j, "unknown");
    json_object_begin(j);
    for (size_t i = 0; i < FB_COUNT(list_facts); i++)
        if (facts[i].state != FACT_OK)
            json_key_str(j, fact_row((uint16_t)list_facts[i])->name,
                         fact_state_name(facts[i].state));
    json_object_end(j);
}

void put_totals(struct json *j, const struct admin *a, enum fact_window window)
{
    json_object_begin(j);
    put_list_facts(j, a, (struct fact_scope){EV_KIND_NONE, 0}, window);
    json_object_end(j);
}

static double knob_now(const struct admin *a, enum knob_id knob, uint16_t target)
{
    const struct knob_layer *layer = &a->source.book->layer[knob][target];
    return layer->is_used ? knob_effective(knob_row((uint16_t)knob), layer, NULL) : NAN;
}

static void put_classes(struct json *j, const struct admin *a, uint16_t service,
                        enum fact_window window)
{
    static const enum fact_id facts[] = {FACT_RATE,       FACT_OFFERED_RATE, FACT_ERROR_RATIO,
                                         FACT_SHED_RATIO, FACT_LATENCY_P99,  FACT_IN_TIME_RATIO};
    const struct ev_gauge *g = &a->metrics->service[service].gauge;
    const uint16_t queued[EV_CLASS_COUNT] = {g->queued_critical, g->queued_default,
                                             g->queued_degraded, g->queued_best_effort};
    struct fact_scope scope = {EV_KIND_SERVICE, service};
    json_key(j, "classes");
    json_array_begin(j);
    for (uint8_t c = 0; c < EV_CLASS_COUNT; c++) {
        json_object_begin(j);
        json_key_str(j, "class", ev_class_name(c));
        for (size_t i = 0; i < FB_COUNT(facts); i++) {
            struct fact f = facts_get_class(a->source.facts, scope, c, facts[i], window);
            json_key_f64(j, fact_row((uint16_t)facts[i])->name, f.state == FACT_OK ? f.value : NAN);
        }
        json_key_u64(j, "queued", queued[c]);
        json_object_end(j);
    }
    json_array_end(j);
}

static const struct memfile_name *names_of(const struct admin *a, enum ev_kind kind)
{
    const struct memfile *m = a->source.memfile;
    return kind == EV_KIND_ROUTE     ? m->routes
           : kind == EV_KIND_SERVICE ? m->services
           : kind == EV_KIND_VERSION ? m->versions
                                     : m->endpoints;
}

static void put_parent(struct json *j, const struct admin *a, enum ev_kind kind, uint16_t number)
{
    json_key_str(j, "service", admin_name(a, EV_KIND_SERVICE, names_of(a, kind)[number].parent));
}

void put_services(struct json *j, const struct admin *a, enum fact_window window)
{
    json_array_begin(j);
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        const char *name = admin_name(a, EV_KIND_SERVICE, i);
        const struct ev_gauge *g = &a->metrics->service[i].gauge;
        /* one that left the configuration is shown until its last request has ended */
        if (name[0] == '\0' || (admin_has_left(a, EV_KIND_SERVICE, i) && g->in_flight == 0))
            continue;
        json_object_begin(j);
        json_key_u64(j, "number", i);
        json_key_str(j, "name", name);
        put_list_facts(j, a, (struct fact_scope){EV_KIND_SERVICE, i}, window);
        put_classes(j, a, i, window < FACT_1S ? FACT_1S : window);
        json_key_u64(j, "in_flight", g->in_flight);
        json_key_u64(j, "limit", g->limit);
        json_key_f64(j, "shed_threshold", knob_now(a, KNOB_SHED_THRESHOLD, i));
        json_key_f64(j, "retry_pct", knob_now(a, KNOB_RETRY_PCT, i));
        json_object_end(j);
    }
    json_array_end(j);
}

void put_routes(struct json *j, const struct admin *a, enum fact_window window)
{
    json_array_begin(j);
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        const char *name = admin_name(a, EV_KIND_ROUTE, i);
        if (name[0] == '\0' || admin_has_left(a, EV_KIND_ROUTE, i))
            continue;
        json_object_begin(j);
        json_key_u64(j, "number", i);
        json_key_str(j, "name", name);
        put_parent(j, a, EV_KIND_ROUTE, i);
        put_list_facts(j, a, (struct fact_scope){EV_KIND_ROUTE, i}, window);
        json_key_f64(j, "timeout_ms", knob_now(a, KNOB_TIMEOUT_MS, i));
        const struct metric_route *m = &a->metrics->route[i];
        json_key_u64(j, "limited", m->limited[0] + m->limited[1]);
        json_key_u64(j, "limited_by_quota", m->limited[1]);
        json_key_u64(j, "split_fallbacks", m->split_fallbacks);
        struct fact hedged = facts_get(a->source.facts, (struct fact_scope){EV_KIND_ROUTE, i},
                                       FACT_HEDGE_RATIO, window < FACT_10S ? FACT_10S : window);
        json_key_f64(j, "hedge_ratio", hedged.state == FACT_OK ? hedged.value : NAN);
        json_key_u64(j, "hedges", m->hedges[0] + m->hedges[1]);
        json_key_u64(j, "hedges_won", m->hedges[1]);
        json_object_end(j);
    }
    json_array_end(j);
}

/* "shop canary" -> "canary" */
static const char *version_of(const struct admin *a, uint16_t version)
{
    const char *blank = strrchr(admin_name(a, EV_KIND_VERSION, version), ' ');
    return blank ? blank + 1 : "";
}

static void put_place(struct json *j, const struct memfile *m, uint16_t i)
{
    const struct memfile_gauge *g = &m->gauges[i];
    char zone[sizeof m->endpoints[i].zone + 1] = "";
    memcpy(zone, m->endpoints[i].zone, sizeof m->endpoints[i].zone);
    uint32_t place = atomic_load_explicit(&g->place, memory_order_relaxed);
    uint32_t load = atomic_load_explicit(&g->utilisation_permille, memory_order_relaxed);
    uint32_t weight = atomic_load_explicit(&g->weight_permille, memory_order_relaxed);
    json_key_str(j, "zone", zone);
    json_key_bool(j, "is_far", (place & MEMFILE_PLACE_FAR) != 0);
    json_key_bool(j, "is_spare", (place & MEMFILE_PLACE_SPARE) != 0);
    json_key_bool(j, "is_out", (place & MEMFILE_PLACE_OUT) != 0);
    json_key_f64(j, "weight", place ? weight / 1000.0 : NAN);
    json_key_f64(j, "utilisation", place && load != UINT32_MAX ? load / 1000.0 : NAN);
}

static const char *origin_of(const struct memfile *m, uint16_t i)
{
    static const char *const names[] = {[MEMFILE_ORIGIN_CONFIG] = "config",
                                        [MEMFILE_ORIGIN_DNS] = "dns",
                                        [MEMFILE_ORIGIN_FILE] = "file",
                                        [MEMFILE_ORIGIN_API] = "api"};
    uint32_t origin = atomic_load_explicit(&m->endpoints[i].origin, memory_order_relaxed);
    return names[origin < FB_COUNT(names) ? origin : MEMFILE_ORIGIN_CONFIG];
}

static void put_endpoint(struct json *j, const struct admin *a, uint16_t i, enum fact_window window)
{
    const struct ev_gauge *g = &a->metrics->endpoint[i].gauge;
    const struct admin_source *s = &a->source;
    json_object_begin(j);
    json_key_u64(j, "number", i);
    json_key_str(j, "name", admin_name(a, EV_KIND_ENDPOINT, i));
    put_parent(j, a, EV_KIND_ENDPOINT, i);
    json_key_str(j, "version", version_of(a, s->memfile->endpoints[i].version));
    json_key_str(j, "origin", origin_of(s->memfile, i));
    json_key_str(j, "health", g->head.type ? ev_health_name(g->health) : "unknown");
    json_key_bool(j, "is_drained", s->is_drained && s->is_drained(s->ctx, i));
    json_key_u64(j, "in_flight", g->in_flight);
    json_key_u64(j, "limit", g->limit);
    json_key_f64(j, "latency_ms", g->latency_us > 0 ? (double)g->latency_us / 1e3 : NAN);
    json_key_f64(j, "error_ratio", g->head.type ? (double)g->error_ppm / 1e6 : NAN);
    json_key_f64(j, "share", g->head.type ? (double)g->weight_ppm / 1e6 : NAN);
    json_key_u64(j, "connections", g->connections);
    put_place(j, s->memfile, i);
    put_list_facts(j, a, (struct fact_scope){EV_KIND_ENDPOINT, i}, window);
    json_object_end(j);
}

void put_endpoints(struct json *j, const struct admin *a, enum fact_window window)
{
    json_array_begin(j);
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (admin_name(a, EV_KIND_ENDPOINT, i)[0] &&
            !(admin_has_left(a, EV_KIND_ENDPOINT, i) &&
              memfile_in_flight(&a->source.memfile->gauges[i]) <= 0))
            put_endpoint(j, a, i, window);
    json_array_end(j);
}

/* A version without endpoints is over: its number stays, its facts say nothing new. */
void put_versions(struct json *j, const struct admin *a, enum fact_window window)
{
    const struct memfile *m = a->source.memfile;
    uint32_t endpoints[KNOB_TARGETS_MAX] = {0};
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        uint16_t version = m->endpoints[i].version;
        if (version < KNOB_TARGETS_MAX && admin_name(a, EV_KIND_ENDPOINT, i)[0])
            endpoints[version]++;
    }
    json_array_begin(j);
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        const char *name = admin_name(a, EV_KIND_VERSION, i);
        if (name[0] == '\0' || endpoints[i] == 0)
            continue;
        json_object_begin(j);
        json_key_u64(j, "number", i);
        json_key_str(j, "name", name);
        put_parent(j, a, EV_KIND_VERSION, i);
        json_key_str(j, "version", version_of(a, i));
        json_key_u64(j, "endpoints", endpoints[i]);
        put_list_facts(j, a, (struct fact_scope){EV_KIND_VERSION, i}, window);
        json_object_end(j);
    }
    json_array_end(j);
}

void put_stream(struct json *j, const struct admin *a)
{
    struct admin_stream s = {.is_disk_ok = true};
    if (a->source.stream)
        a->source.stream(a->source.ctx, &s);
    json_object_begin(j);
    json_key_u64(j, "first_offset", s.first_offset);
    json_key_u64(j, "next_offset", s.next_offset);
    json_key_u64(j, "durable_offset", s.durable_offset);
    json_key_u64(j, "events", s.events);
    json_key_u64(j, "events_lost", s.events_lost);
    json_key_f64(j, "events_per_s", a->events_per_s);
    json_key_u64(j, "blocks", s.blocks);
    json_key_u64(j, "segments", s.segments);
    json_key_u64(j, "log_bytes", s.log_bytes);
    json_key_f64(j, "lag_ms", (double)s.lag_us / 1e3);
    json_key_u64(j, "snapshot_offset", s.snapshot_offset);
    json_key_u64(j, "recovered_events", s.recovered_events);
    json_key_f64(j, "recovered_ms", (double)s.recovered_us / 1e3);
    json_key_bool(j, "is_disk_ok", s.is_disk_ok);
    json_key_str(j, "disk_error", s.disk_error);
    json_key_bool(j, "is_encrypted", s.keys.is_encrypted);
    json_key_u64(j, "key_id", s.keys.key_id);
    json_key_u64(j, "key_periods", s.keys.periods);
    json_object_end(j);
}

/* What foldback itself takes; CPU in cores over the last second. */
void put_cost(struct json *j, const struct admin *a)
{
    static const char *const names[] = {"host", "supervisor", "gateway", "brain"};
    json_object_begin(j);
    for (size_t i = 0; i < FB_COUNT(names); i++) {
        const struct ev_resource *r = &a->cpu_last[i];
        if (r->head.type == 0)
            continue;
        json_key(j, names[i]);
        json_object_begin(j);
        json_key_f64(j, "cpu_cores", a->cpu_share[i]);
        json_key_u64(j, "cores", r->cores);
        json_key_u64(j, "memory_bytes", r->memory_bytes);
        json_key_u64(j, "threads", r->threads);
        json_object_end(j);
    }
    json_key_f64(j, "tick_cpu_ms", (double)a->tick.loop_us / 1e3);
    json_key_f64(j, "tick_lag_ms", (double)a->tick.lag_us / 1e3);
    json_key_u64(j, "admin_connections", a->conn_count);
    json_object_end(j);
}

void put_alert(struct json *j, const struct admin *a, const struct timeline_alert *x)
{
    static const char *const severities[] = {"info", "warning", "critical"};
    const struct ev_alert *al = &x->alert;
    json_object_begin(j);
    json_key_str(j, "reason", ev_reason_row(al->reason)->name);
    json_key_str(j, "severity", severities[al->severity <= 2 ? al->severity : 2]);
    put_time(j, "time", x->wall_us);
    put_time(j, "over", x->over_us);
    json_key(j, "target");
    put_target_at(j, a, al->target_kind, al->target, al->head.time_us);
    json_key(j, "text");
    json_span(j, (struct span){al->text, strnlen(al->text, sizeof al->text)});
    json_key_f64(j, "value", al->value);
    json_key_f64(j, "threshold", al->threshold);
    json_key_u64(j, "decision_id", al->decision_id);
    json_object_end(j);
}

void put_request(struct json *j, const struct admin *a, const struct ev_request *r,
                 const struct ev_sample *s, bool is_redacted)
{
    json_object_begin(j);
    put_hex(j, "id", r->request_id);
    put_time(j, "time", timeline_wall_us(&a->timeline, r->head.time_us));
    json_key_str(j, "route", admin_name(a, EV_KIND_ROUTE, r->route));
    json_key_str(j, "service", admin_name(a, EV_KIND_SERVICE, r->service));
    json_key_str(j, "endpoint", admin_name_at(a, EV_KIND_ENDPOINT, r->endpoint, r->head.time_us));
    json_key_str(j, "class", ev_class_name(r->class));
    json_key_u64(j, "status", r->status);
    json_key_str(j, "reason", ev_reason_row(r->reason)->name);
    json_key_f64(j, "total_ms", (double)r->total_us / 1e3);
    json_key_f64(j, "queue_ms", (double)r->queue_us / 1e3);
    json_key_f64(j, "upstream_ms", (double)r->upstream_us / 1e3);
    json_key_u64(j, "attempts", 1 + (uint64_t)(r->flags & EV_REQUEST_ATTEMPTS_MASK));
    if (r->flags & EV_REQUEST_HEDGED)
        json_key_str(j, "hedge", r->hedge == EV_HEDGE_WON ? "second" : "first");
    json_key_u64(j, "in_flight", r->in_flight);
    json_key_u64(j, "sent_bytes", r->sent_bytes);
    json_key_str(j, "protocol", ev_protocol_name(r->protocol));
    if (r->tls != EV_TLS_NONE) {
        json_key_str(j, "tls", ev_tls_name(r->tls));
        json_key_str(j, "tls_cipher", ev_cipher_name(r->tls_cipher));
        json_key_bool(j, "tls_resumed", (r->tls_cipher & EV_TLS_RESUMED) != 0);
    }
    if (r->grpc_status != EV_NONE)
        json_key_u64(j, "grpc_status", r->grpc_status);
    if (r->cache != EV_CACHE_OFF)
        json_key_str(j, "cache", ev_cache_name(r->cache));
    if (s) {
        char path[160];
        struct span full = {s->path, strnlen(s->path, sizeof s->path)};
        struct buf text;
        buf_init(&text, sizeof path);
        if (is_redacted)
            recent_redact_path(full, &text);
        else
            buf_put_span(&text, full);
        json_key(j, "method");
        json_span(j, (struct span){s->method, strnlen(s->method, sizeof s->method)});
        json_key(j, "host");
        json_span(j, (struct span){s->host, strnlen(s->host, sizeof s->host)});
        json_key_str(j, "path", buf_str(&text));
        buf_fini(&text);
    }
    json_object_end(j);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Exposition.  OpenMetrics 1.0 differs from text 0.0.4 in four places: counter families drop _total
 * in HELP and TYPE, info is a type of its own, exemplars are allowed, and "# EOF" ends it. */
#include "analytics/cold.h"
#include "io/tls.h"
#include "output/admin.h"
#include "output/metrics_int.h"

#include "base/assert.h"
#include "base/clock.h"

#include <inttypes.h>
#include <string.h>

static void write_routes(struct writer *w);
static void write_caches(struct writer *w);
static void write_services(struct writer *w);
static void write_endpoints(struct writer *w);
static void write_versions(struct writer *w);
static void write_places(struct writer *w);
static void write_knobs(struct writer *w);
static void write_decisions(struct writer *w);
static void write_stream(struct writer *w);
static void write_processes(struct writer *w);
static void write_own(struct writer *w);
static void write_tls(struct writer *w);
static void write_staples(struct writer *w);
static void write_auth(struct writer *w);
static void write_protocols(struct writer *w);
static void write_compress(struct writer *w);
static void write_h2(struct writer *w);

static const char *const code_names[METRIC_CODE_CLASSES] = {"1xx", "2xx", "3xx",
                                                            "4xx", "5xx", "none"};

void metrics_write(const struct metrics_view *view, struct buf *out, bool is_openmetrics)
{
    struct writer w = {.view = view, .out = out, .is_om = is_openmetrics};
    write_routes(&w);
    write_caches(&w);
    write_services(&w);
    write_endpoints(&w);
    write_places(&w);
    write_versions(&w);
    write_knobs(&w);
    write_decisions(&w);
    write_stream(&w);
    write_processes(&w);
    write_own(&w);
    write_tls(&w);
    write_staples(&w);
    write_auth(&w);
    write_protocols(&w);
    write_h2(&w);
    write_compress(&w);
    metrics_write_traits(&w);
    metrics_write_feeds(&w);
    if (is_openmetrics)
        buf_puts(out, "# EOF\n");
}

/* ---- lines ---- */
static void family(struct writer *w, enum metric_id id)
{
    static const char *const types[] = {"counter", "gauge", "histogram", "gauge"};
    const struct metric_row *row = metric_row(id);
    struct span name = span_of(row->name);
    const char *type = types[row->kind];
    if (w->is_om && row->kind == METRIC_COUNTER)
        name.len -= sizeof "_total" - 1;
    if (w->is_om && row->kind == METRIC_INFO) {
        name.len -= sizeof "_info" - 1;
        type = "info";
    }
    buf_printf(w->out, "# HELP %.*s %s\n# TYPE %.*s %s\n", SPAN_ARG(name), row->help,
               SPAN_ARG(name), type);
}

static void put_escaped(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\' || *text == '"')
            buf_putc(out, '\\');
        if (*text == '\n')
            buf_puts(out, "\\n");
        else
            buf_putc(out, *text);
    }
}

/* name{label="..."}: values in the order of the row's labels. */
static void begin(struct writer *w, enum metric_id id, const char *suffix,
                  const char *const values[])
{
    const struct metric_row *row = metric_row(id);
    struct span rest = span_of(row->labels);
    buf_puts(w->out, row->name);
    buf_puts(w->out, suffix);
    char open = '{';
    for (size_t i = 0; rest.len > 0; i++) {
        struct span label = span_cut(rest, ',', &rest);
        fb_assert(values[i] != NULL);
        buf_printf(w->out, "%c%.*s=\"", open, SPAN_ARG(label));
        put_escaped(w->out, values[i]);
        buf_putc(w->out, '"');
        open = ',';
    }
    if (open == ',')
        buf_putc(w->out, '}');
}

static void put_u64(struct writer *w, enum metric_id id, const char *const values[], uint64_t v)
{
    begin(w, id, "", values);
    buf_printf(w->out, " %" PRIu64 "\n", v);
}

static void put_f64(struct writer *w, enum metric_id id, const char *const values[], double v)
{
    begin(w, id, "", values);
    buf_printf(w->out, " %.9g\n", v);
}

/* For metrics_feeds.c. */
void metrics_family(struct writer *w, enum metric_id id)
{
    family(w, id);
}
void metrics_put_u64(struct writer *w, enum metric_id id, const char *const values[], uint64_t v)
{
    put_u64(w, id, values, v);
}
void metrics_put_f64(struct writer *w, enum metric_id id, const char *const values[], double v)
{
    put_f64(w, id, values, v);
}

static void put_exemplar(struct writer *w, const struct metric_exemplar *e)
{
    if (!w->is_om || !e || e->request_id == 0)
        return;
    buf_printf(w->out, " # {request_id=\"%016" PRIx64 "\"} %.6f %.3f", e->request_id,
               (double)e->total_us / 1e6, (double)e->wall_us / 1e6);
}

static void put_histogram(struct writer *w, enum metric_id id, const char *const values[],
                          const struct metric_histogram *h, const struct metric_exemplar *exemplars)
{
    uint64_t sum = 0;
    for (unsigned b = 0; b <= METRIC_BUCKETS; b++) {
        sum += h->bucket[b];
        begin(w, id, "_bucket", values);
        if (w->out->len > 0)
            w->out->len--; /* over the closing brace: labels are never empty here */
        buf_printf(w->out, ",le=\"%s\"} %" PRIu64, metrics_bound(b), sum);
        put_exemplar(w, exemplars ? &exemplars[b] : NULL);
        buf_putc(w->out, '\n');
    }
    begin(w, id, "_sum", values);
    buf_printf(w->out, " %.6f\n", (double)h->sum_us / 1e6);
    begin(w, id, "_count", values);
    buf_printf(w->out, " %" PRIu64 "\n", h->count);
}

/* ---- names ---- */
static const char *name_of(const struct writer *w, enum ev_kind kind, uint32_t number)
{
    if (number >= KNOB_TARGETS_MAX)
        return "_none";
    const char *name = memfile_name(w->view->memfile, kind, (uint16_t)number);
    return name[0] ? name : "_gone";
}

static bool is_named(const struct writer *w, enum ev_kind kind, uint32_t number)
{
    return number < KNOB_TARGETS_MAX &&
           memfile_name(w->view->memfile, kind, (uint16_t)number)[0] != '\0';
}

/* "shop /checkout/" within service "shop" stays whole: it is the route's name everywhere else. */
static bool route_is_shown(const struct writer *w, uint32_t i)
{
    if (i < KNOB_TARGETS_MAX)
        return is_named(w, EV_KIND_ROUTE, i);
    const struct metric_route *r = &w->view->metrics->route[i];
    uint64_t sum = 0;
    for (size_t c = 0; c < METRIC_CODE_CLASSES; c++)
        sum += r->code[c];
    return sum > 0;
}

static const char *route_service(const struct writer *w, uint32_t i)
{
    if (i >= KNOB_TARGETS_MAX)
        return "_none";
    return name_of(w, EV_KIND_SERVICE, w->view->memfile->routes[i].parent);
}

/* For metrics_traits.c. */
const char *metrics_name(const struct writer *w, enum ev_kind kind, uint32_t number)
{
    return name_of(w, kind, number);
}
const char *metrics_route_service(const struct writer *w, uint32_t route)
{
    return route_service(w, route);
}

/* ---- families ---- */
#define FOR_ROUTES(w, i)                                                                           \
    for (uint32_t i = 0; i < METRIC_SLOTS; i++)                                                    \
        if (route_is_shown(w, i))
#define FOR_SERVICES(w, i)                                                                         \
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++)                                                \
        if (is_named(w, EV_KIND_SERVICE, i))
#define FOR_VERSIONS(w, i)                                                                         \
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++)                                                \
        if (is_named(w, EV_KIND_VERSION, i))
#define FOR_ENDPOINTS(w, i)                                                                        \
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++)                                                \
        if (is_named(w, EV_KIND_ENDPOINT, i))

/* Routes whose cache holds, or held, something. */
static bool cache_is_shown(const struct writer *w, uint32_t i)
{
    return w->view->metrics->route[i].use.head.type && route_is_shown(w, i);
}

static void write_caches(struct writer *w)
{
    const struct metrics *m = w->view->metrics;
    const struct {
        enum metric_id id;
        size_t at; /* in struct metric_route */
    } rows[] = {{METRIC_ID_CACHE_STORED, offsetof(struct metric_route, stored)},
                {METRIC_ID_CACHE_EVICTED, offsetof(struct metric_route, evicted)},
                {METRIC_ID_CACHE_REFUSED, offsetof(struct metric_route, refused)},
                {METRIC_ID_CACHE_BYTES, offsetof(struct metric_route, use.used_bytes)},
                {METRIC_ID_CACHE_BUDGET, offsetof(struct metric_route, use.budget_bytes)},
                {METRIC_ID_CACHE_ENTRIES, offsetof(struct metric_route, use.entries)}};
    uint64_t total = 0;
    family(w, METRIC_ID_CACHE_REQUESTS);
    for (uint32_t i = 0; i < METRIC_SLOTS; i++)
        for (uint8_t c = EV_CACHE_MISS; c < EV_CACHE_END && cache_is_shown(w, i); c++)
            put_u64(w, METRIC_ID_CACHE_REQUESTS,
                    VALUES(name_of(w, EV_KIND_ROUTE, i), ev_cache_name(c)), m->route[i].cache[c]);
    for (size_t r = 0; r < FB_COUNT(rows); r++) {
        family(w, rows[r].id);
        for (uint32_t i = 0; i < METRIC_SLOTS; i++)
            if (cache_is_shown(w, i))
                put_u64(w, rows[r].id, VALUES(name_of(w, EV_KIND_ROUTE, i)),
                        *(const uint64_t *)(const void *)((const char *)&m->route[i] + rows[r].at));
    }
    for (uint32_t i = 0; i < METRIC_SLOTS; i++)
        if (m->route[i].use.head.type)
            total = m->route[i].use.total_bytes;
    family(w, METRIC_ID_CACHE_TOTAL);
    put_u64(w, METRIC_ID_CACHE_TOTAL, VALUES(NULL), total);
    for (int k = 0; k < 3; k++) {
        const enum metric_id ids[] = {METRIC_ID_CACHE_COLD_RATE, METRIC_ID_CACHE_COLD_LOAD,
                                      METRIC_ID_CACHE_REFILL};
        struct cold_view v;
        family(w, ids[k]);
        for (uint32_t i = 0; i < METRIC_SLOTS && w->view->curves; i++)
            if (cache_is_shown(w, i) && cold_look(w->view->curves, w->view->facts, &m->route[i].use,
                                                  m->route[i].service, &v))
                put_f64(w, ids[k], VALUES(name_of(w, EV_KIND_ROUTE, i)),
                        (double[]){v.cold_per_s, v.load_ratio, v.refill_s}[k]);
    }
}

static void write_routes(struct writer *w)
{
    const struct metrics *m = w->view->metrics;
    family(w, METRIC_ID_REQUESTS);
    FOR_ROUTES(w, i)
    for (size_t c = 0; c < METRIC_CODE_CLASSES; c++)
        put_u64(w, METRIC_ID_REQUESTS,
                VALUES(name_of(w, EV_KIND_ROUTE, i), route_service(w, i), code_names[c]),
                m->route[i].code[c]);
    family(w, METRIC_ID_REQUEST_DURATION);
    FOR_ROUTES(w, i)
    put_histogram(w, METRIC_ID_REQUEST_DURATION,
                  VALUES(name_of(w, EV_KIND_ROUTE, i), route_service(w, i)), &m->route[i].duration,
                  m->exemplar[i]);
    family(w, METRIC_ID_REQUEST_ENDS);
    for (uint16_t r = 1; r < REASON_END; r++)
        if (ev_reason_row(r)->name && ev_reason_row(r)->kind == REASON_KIND_REQUEST)
            put_u64(w, METRIC_ID_REQUEST_ENDS, VALUES(ev_reason_row(r)->name), m->ends[r]);
    static const uint16_t limits[] = {REASON_RATE_LIMITED, REASON_QUOTA_EXCEEDED};
    family(w, METRIC_ID_RATE_LIMITED);
    FOR_ROUTES(w, i)
    for (size_t r = 0; r < FB_COUNT(limits); r++)
        put_u64(w, METRIC_ID_RATE_LIMITED,
                VALUES(name_of(w, EV_KIND_ROUTE, i), route_service(w, i),
                       ev_reason_row(limits[r])->name),
                m->route[i].limited[r]);
    family(w, METRIC_ID_SPLIT_FALLBACKS);
    FOR_ROUTES(w, i)
    put_u64(w, METRIC_ID_SPLIT_FALLBACKS, VALUES(name_of(w, EV_KIND_ROUTE, i), route_service(w, i)),
            m->route[i].split_fallbacks);
    static const char *const answers[] = {"first", "second"};
    family(w, METRIC_ID_HEDGES);
    FOR_ROUTES(w, i)
    for (size_t r = 0; r < FB_COUNT(answers); r++)
        put_u64(w, METRIC_ID_HEDGES,
                VALUES(name_of(w, EV_KIND_ROUTE, i), route_service(w, i), answers[r]),
                m->route[i].hedges[r]);
    family(w, METRIC_ID_SENT_BYTES);
    FOR_ROUTES(w, i)
    put_u64(w, METRIC_ID_SENT_BYTES, VALUES(name_of(w, EV_KIND_ROUTE, i)), m->route[i].sent_bytes);
    family(w, METRIC_ID_RECEIVED_BYTES);
    FOR_ROUTES(w, i)
    put_u64(w, METRIC_ID_RECEIVED_BYTES, VALUES(name_of(w, EV_KIND_ROUTE, i)),
            m->route[i].received_bytes);
}

static void write_service_classes(struct writer *w)
{
    static const char *const results[METRIC_RESULT_COUNT] = {"answered", "shed", "failed"};
    const struct metrics *m = w->view->metrics;
    family(w, METRIC_ID_REQUESTS_CLASS);
    FOR_SERVICES(w, i)
    for (uint8_t c = 0; c < EV_CLASS_COUNT; c++)
        for (size_t r = 0; r < METRIC_RESULT_COUNT; r++)
            put_u64(w, METRIC_ID_REQUESTS_CLASS,
                    VALUES(name_of(w, EV_KIND_SERVICE, i), ev_class_name(c), results[r]),
                    m->service[i].result[c][r]);
    family(w, METRIC_ID_SHED);
    FOR_SERVICES(w, i)
    for (uint16_t r = 0; r < METRIC_SHED_REASONS; r++)
        if (ev_reason_row(metrics_shed_reason(r))->name)
            put_u64(
                w, METRIC_ID_SHED,
                VALUES(name_of(w, EV_KIND_SERVICE, i), ev_reason_row(metrics_shed_reason(r))->name),
                m->service[i].shed[r]);
}

static void write_services(struct writer *w)
{
    const struct metrics *m = w->view->metrics;
    write_service_classes(w);
    family(w, METRIC_ID_RETRIES);
    FOR_SERVICES(w, i)
    put_u64(w, METRIC_ID_RETRIES, VALUES(name_of(w, EV_KIND_SERVICE, i)), m->service[i].retries);
    family(w, METRIC_ID_CLIENT_CAPPED);
    FOR_SERVICES(w, i)
    put_u64(w, METRIC_ID_CLIENT_CAPPED, VALUES(name_of(w, EV_KIND_SERVICE, i)),
            m->service[i].client_capped);
    family(w, METRIC_ID_QUEUE_WAIT);
    FOR_SERVICES(w, i)
    put_histogram(w, METRIC_ID_QUEUE_WAIT, VALUES(name_of(w, EV_KIND_SERVICE, i)),
                  &m->service[i].wait, NULL);
    family(w, METRIC_ID_QUEUE_LENGTH);
    FOR_SERVICES(w, i)
    {
        const struct ev_gauge *g = &m->service[i].gauge;
        const uint16_t queued[EV_CLASS_COUNT] = {g->queued_critical, g->queued_default,
                                                 g->queued_degraded, g->queued_best_effort};
        for (uint8_t c = 0; c < EV_CLASS_COUNT; c++)
            put_u64(w, METRIC_ID_QUEUE_LENGTH,
                    VALUES(name_of(w, EV_KIND_SERVICE, i), ev_class_name(c)), queued[c]);
    }
    family(w, METRIC_ID_SHED_THRESHOLD);
    FOR_SERVICES(w, i)
    {
        const struct knob_row *row = knob_row(KNOB_SHED_THRESHOLD);
        const struct knob_layer *layer = &w->view->book->layer[KNOB_SHED_THRESHOLD][i];
        put_f64(w, METRIC_ID_SHED_THRESHOLD, VALUES(name_of(w, EV_KIND_SERVICE, i)),
                layer->is_used ? knob_effective(row, layer, NULL) : row->safe);
    }
}

static void put_endpoint(struct writer *w, enum metric_id id, uint32_t i)
{
    const struct metric_endpoint *e = &w->view->metrics->endpoint[i];
    const struct ev_gauge *g = &e->gauge;
    const char *const values[] = {
        name_of(w, EV_KIND_SERVICE, w->view->memfile->endpoints[i].parent),
        name_of(w, EV_KIND_ENDPOINT, i), NULL};
    switch (id) {
    case METRIC_ID_ENDPOINT_FAILURES:
        put_u64(w, id, values, e->failures);
        break;
    case METRIC_ID_ENDPOINT_IN_FLIGHT:
        put_u64(w, id, values, g->in_flight);
        break;
    case METRIC_ID_ENDPOINT_LIMIT:
        put_u64(w, id, values, g->limit);
        break;
    case METRIC_ID_ENDPOINT_LATENCY:
        put_f64(w, id, values, (double)g->latency_us / 1e6);
        break;
    case METRIC_ID_ENDPOINT_ERRORS:
        put_f64(w, id, values, (double)g->error_ppm / 1e6);
        break;
    case METRIC_ID_ENDPOINT_UP:
        put_u64(w, id, values,
                g->health == EV_HEALTH_OK || g->health == EV_HEALTH_RAMPING ||
                    g->health == EV_HEALTH_HALF_OPEN);
        break;
    default:
        put_u64(w, id, values, g->connections);
        break;
    }
}

static void write_places(struct writer *w)
{
    const struct memfile *m = w->view->memfile;
    family(w, METRIC_ID_ENDPOINT_WEIGHT);
    FOR_ENDPOINTS(w, i)
    put_f64(w, METRIC_ID_ENDPOINT_WEIGHT,
            VALUES(name_of(w, EV_KIND_SERVICE, m->endpoints[i].parent),
                   name_of(w, EV_KIND_ENDPOINT, i)),
            atomic_load_explicit(&m->gauges[i].weight_permille, memory_order_relaxed) / 1000.0);
    family(w, METRIC_ID_ENDPOINT_UTILISATION);
    FOR_ENDPOINTS(w, i)
    {
        uint32_t load =
            atomic_load_explicit(&m->gauges[i].utilisation_permille, memory_order_relaxed);
        uint32_t place = atomic_load_explicit(&m->gauges[i].place, memory_order_relaxed);
        if (place && load != UINT32_MAX)
            put_f64(w, METRIC_ID_ENDPOINT_UTILISATION,
                    VALUES(name_of(w, EV_KIND_SERVICE, m->endpoints[i].parent),
                           name_of(w, EV_KIND_ENDPOINT, i)),
                    load / 1000.0);
    }
    family(w, METRIC_ID_CROSS_ZONE);
    FOR_SERVICES(w, sv)
    {
        double far = 0;
        FOR_ENDPOINTS(w, i)
        if (m->endpoints[i].parent == sv &&
            (atomic_load_explicit(&m->gauges[i].place, memory_order_relaxed) & MEMFILE_PLACE_FAR))
            far += w->view->metrics->endpoint[i].gauge.weight_ppm / 1e6;
        put_f64(w, METRIC_ID_CROSS_ZONE, VALUES(name_of(w, EV_KIND_SERVICE, sv)), far);
    }
}

static void write_endpoints(struct writer *w)
{
    static const enum metric_id families[] = {
        METRIC_ID_ENDPOINT_FAILURES,   METRIC_ID_ENDPOINT_IN_FLIGHT, METRIC_ID_ENDPOINT_LIMIT,
        METRIC_ID_ENDPOINT_LATENCY,    METRIC_ID_ENDPOINT_ERRORS,    METRIC_ID_ENDPOINT_UP,
        METRIC_ID_ENDPOINT_CONNECTIONS};
    family(w, METRIC_ID_ENDPOINT_REQUESTS);
    FOR_ENDPOINTS(w, i)
    for (size_t c = 0; c < METRIC_CODE_CLASSES; c++)
        put_u64(w, METRIC_ID_ENDPOINT_REQUESTS,
                VALUES(name_of(w, EV_KIND_SERVICE, w->view->memfile->endpoints[i].parent),
                       name_of(w, EV_KIND_ENDPOINT, i), code_names[c]),
                w->view->metrics->endpoint[i].code[c]);
    for (size_t f = 0; f < FB_COUNT(families); f++) {
        family(w, families[f]);
        FOR_ENDPOINTS(w, i)
        put_endpoint(w, families[f], i);
    }
}

/* "shop canary": the label "version" is "canary". */
static const char *version_label(const struct writer *w, uint32_t i)
{
    const char *blank = strrchr(name_of(w, EV_KIND_VERSION, i), ' ');
    return blank ? blank + 1 : "";
}

static void write_versions(struct writer *w)
{
    const struct metrics *m = w->view->metrics;
    const struct memfile_name *rows = w->view->memfile->versions;
    family(w, METRIC_ID_VERSION_REQUESTS);
    FOR_VERSIONS(w, i)
    for (size_t c = 0; c < METRIC_CODE_CLASSES; c++)
        put_u64(
            w, METRIC_ID_VERSION_REQUESTS,
            VALUES(name_of(w, EV_KIND_SERVICE, rows[i].parent), version_label(w, i), code_names[c]),
            m->version[i].code[c]);
    family(w, METRIC_ID_VERSION_DURATION);
    FOR_VERSIONS(w, i)
    put_histogram(w, METRIC_ID_VERSION_DURATION,
                  VALUES(name_of(w, EV_KIND_SERVICE, rows[i].parent), version_label(w, i)),
                  &m->version[i].duration, NULL);
}

static void write_knobs(struct writer *w)
{
    for (int pass = 0; pass < 2; pass++) {
        family(w, pass ? METRIC_ID_KNOB_PINNED : METRIC_ID_KNOB_VALUE);
        for (uint16_t k = 0; k < KNOB_COUNT; k++)
            for (uint32_t t = 0; t < KNOB_TARGETS_MAX; t++) {
                const struct knob_layer *layer = &w->view->book->layer[k][t];
                const struct knob_row *row = knob_row(k);
                if (!layer->is_used || !is_named(w, row->kind, t))
                    continue;
                const char *const values[] = {row->name, name_of(w, row->kind, t), NULL};
                if (pass)
                    put_u64(w, METRIC_ID_KNOB_PINNED, values, layer->is_pinned != 0);
                else
                    put_f64(w, METRIC_ID_KNOB_VALUE, values, knob_effective(row, layer, NULL));
            }
    }
}

static void write_alerts(struct writer *w)
{
    static const char *const severities[] = {"info", "warning", "critical"};
    uint64_t standing[3] = {0};
    const struct timeline_alert *a;
    for (uint64_t i = 0; (a = timeline_alert_at(w->view->timeline, i)) != NULL; i++)
        if (a->over_us == 0)
            standing[a->alert.severity <= 2 ? a->alert.severity : 2]++;
    family(w, METRIC_ID_ALERTS);
    for (size_t s = 0; s < 3; s++)
        put_u64(w, METRIC_ID_ALERTS, VALUES(severities[s]), standing[s]);
}

static void write_decisions(struct writer *w)
{
    const struct metrics *m = w->view->metrics;
    family(w, METRIC_ID_DECISIONS);
    for (uint16_t l = 0; l < LOOP_COUNT; l++) {
        put_u64(w, METRIC_ID_DECISIONS, VALUES(loop_row(l)->name, "applied"), m->decisions[l][0]);
        put_u64(w, METRIC_ID_DECISIONS, VALUES(loop_row(l)->name, "recommended"),
                m->decisions[l][1]);
    }
    family(w, METRIC_ID_VERDICTS);
    for (uint16_t l = 1; l < LOOP_COUNT; l++)
        for (uint8_t v = 0; v < 4; v++)
            put_u64(w, METRIC_ID_VERDICTS, VALUES(loop_row(l)->name, ev_outcome_name(v)),
                    m->verdicts[l][v]);
    family(w, METRIC_ID_REVERTS);
    for (uint16_t l = 1; l < LOOP_COUNT; l++)
        put_u64(w, METRIC_ID_REVERTS, VALUES(loop_row(l)->name), m->reverts[l]);
    write_alerts(w);
}

static void write_keys(struct writer *w)
{
    const struct metrics_keys *k = &w->view->keys;
    family(w, METRIC_ID_LOG_ENCRYPTED);
    put_u64(w, METRIC_ID_LOG_ENCRYPTED, NULL, k->is_encrypted);
    family(w, METRIC_ID_KEYS_UP);
    put_u64(w, METRIC_ID_KEYS_UP, NULL, k->is_ok);
    family(w, METRIC_ID_KEY_AGE);
    put_f64(w, METRIC_ID_KEY_AGE, NULL, (double)k->age_us / 1e6);
    family(w, METRIC_ID_KEY_SEALS);
    put_u64(w, METRIC_ID_KEY_SEALS, NULL, k->seals);
    family(w, METRIC_ID_KEY_ROTATIONS);
    put_u64(w, METRIC_ID_KEY_ROTATIONS, NULL, k->rotations);
    family(w, METRIC_ID_ERASURES);
    put_u64(w, METRIC_ID_ERASURES, NULL, k->erasures);
    family(w, METRIC_ID_PERSONAL_BYTES);
    put_u64(w, METRIC_ID_PERSONAL_BYTES, NULL, k->personal_bytes);
}

static void write_stream(struct writer *w)
{
    const struct metrics *m = w->view->metrics;
    family(w, METRIC_ID_EVENTS);
    for (uint8_t t = 1; t < EV_TYPE_END; t++)
        if (ev_type_row(t)->name)
            put_u64(w, METRIC_ID_EVENTS, VALUES(ev_type_row(t)->name), m->events[t]);
    family(w, METRIC_ID_EVENTS_LOST);
    for (uint16_t i = 0; i < FB_COUNT(m->lost); i++)
        put_u64(w, METRIC_ID_EVENTS_LOST,
                VALUES(ev_reason_row((uint16_t)(REASON_LOSS_RING_FULL + i))->name), m->lost[i]);
    family(w, METRIC_ID_LOG_BYTES);
    put_u64(w, METRIC_ID_LOG_BYTES, NULL, w->view->log_bytes);
    family(w, METRIC_ID_LOG_LAG);
    put_f64(w, METRIC_ID_LOG_LAG, NULL, (double)w->view->log_lag_us / 1e6);
    family(w, METRIC_ID_LOG_UP);
    put_u64(w, METRIC_ID_LOG_UP, NULL, w->view->is_log_up);
    family(w, METRIC_ID_LOG_COMPACTED);
    put_u64(w, METRIC_ID_LOG_COMPACTED, NULL, w->view->compacted_segments);
    family(w, METRIC_ID_LOG_COMPACTED_SAVED);
    put_u64(w, METRIC_ID_LOG_COMPACTED_SAVED, NULL, w->view->compacted_saved_bytes);
    family(w, METRIC_ID_LOG_COMPACT_FAILED);
    put_u64(w, METRIC_ID_LOG_COMPACT_FAILED, NULL, w->view->compact_failures);
    family(w, METRIC_ID_LOG_UNCLEARED);
    put_u64(w, METRIC_ID_LOG_UNCLEARED, NULL, w->view->uncleared_segments);
    family(w, METRIC_ID_LOG_CLEAR_FAILED);
    put_u64(w, METRIC_ID_LOG_CLEAR_FAILED, NULL, w->view->clear_failures);
    write_keys(w);
    family(w, METRIC_ID_TICKS);
    put_u64(w, METRIC_ID_TICKS, NULL, m->ticks);
    family(w, METRIC_ID_TICK_CPU);
    put_f64(w, METRIC_ID_TICK_CPU, NULL, (double)m->tick_cpu_us / 1e6);
    family(w, METRIC_ID_TICK_LAG);
    put_f64(w, METRIC_ID_TICK_LAG, NULL, (double)m->tick_lag_us / 1e6);
}

static void write_own(struct writer *w)
{
    static const char *const resources[MEMFILE_OWN_RESOURCES] = {"memory", "descriptors", "cpu",
                                                                 "ring"};
    const struct memfile_head *head = w->view->memfile->head;
    family(w, METRIC_ID_OWN_USED);
    for (size_t i = 0; i < MEMFILE_OWN_RESOURCES; i++)
        put_f64(w, METRIC_ID_OWN_USED, VALUES(resources[i]),
                atomic_load_explicit(&head->own_used_ppm[i], memory_order_relaxed) / 1e6);
    family(w, METRIC_ID_OWN_PRESSURE);
    for (size_t i = 0; i < MEMFILE_OWN_RESOURCES; i++)
        put_f64(w, METRIC_ID_OWN_PRESSURE, VALUES(resources[i]),
                atomic_load_explicit(&head->own_place_ppm[i], memory_order_relaxed) / 1e6);
    family(w, METRIC_ID_OWN_STAGE);
    put_u64(w, METRIC_ID_OWN_STAGE, VALUES(NULL),
            atomic_load_explicit(&head->own_stage, memory_order_relaxed));
    family(w, METRIC_ID_CLIENT_CAP_UNCOUNTED);
    put_u64(w, METRIC_ID_CLIENT_CAP_UNCOUNTED, VALUES(NULL),
            atomic_load_explicit(&head->caps_uncounted, memory_order_relaxed));
    family(w, METRIC_ID_RATE_FORGOTTEN);
    put_u64(w, METRIC_ID_RATE_FORGOTTEN, VALUES(NULL),
            atomic_load_explicit(&head->rates_pushed, memory_order_relaxed));
}

static void write_processes(struct writer *w)
{
    static const char *const names[] = {"host", "supervisor", "gateway", "brain"};
    const struct metrics *m = w->view->metrics;
    for (int pass = 0; pass < 3; pass++) {
        enum metric_id id = pass == 0   ? METRIC_ID_PROCESS_CPU
                            : pass == 1 ? METRIC_ID_PROCESS_MEMORY
                                        : METRIC_ID_PROCESS_FDS;
        family(w, id);
        for (size_t p = 1; p < FB_COUNT(names); p++) {
            const struct metric_process *x = &m->process[p];
            if (x->last.head.type == 0)
                continue;
            if (pass == 0)
                put_f64(w, id, VALUES(names[p]), (double)(x->cpu_before_us + x->last.cpu_us) / 1e6);
            else
                put_u64(w, id, VALUES(names[p]),
                        pass == 1 ? x->last.memory_bytes : x->last.descriptors);
        }
    }
    family(w, METRIC_ID_ADMIN_CONNECTIONS);
    put_u64(w, METRIC_ID_ADMIN_CONNECTIONS, NULL, w->view->connections);
    family(w, METRIC_ID_ADMIN_DROPPED);
    put_u64(w, METRIC_ID_ADMIN_DROPPED, NULL, m->dropped);
    family(w, METRIC_ID_START_TIME);
    buf_printf(w->out, "foldback_start_time_seconds %.3f\n", (double)m->start_wall_us / 1e6);
    family(w, METRIC_ID_BUILD);
    put_u64(w, METRIC_ID_BUILD, VALUES(FB_VERSION), 1);
}

/* Two listeners may have one file: a page must not have a series twice. */
static bool is_told(const struct memfile_tls *t, uint32_t cert)
{
    for (uint32_t i = 0; i < cert; i++)
        if (strcmp(t->certs[i].name, t->certs[cert].name) == 0 &&
            strcmp(t->certs[i].file, t->certs[cert].file) == 0)
            return true;
    return false;
}

static void write_tls(struct writer *w)
{
    const struct memfile_tls *t = &w->view->memfile->head->tls;
    uint64_t refused = 0;
    family(w, METRIC_ID_TLS_HANDSHAKES);
    put_u64(w, METRIC_ID_TLS_HANDSHAKES, VALUES("full"), atomic_load(&t->full));
    put_u64(w, METRIC_ID_TLS_HANDSHAKES, VALUES("resumed"), atomic_load(&t->resumed));
    family(w, METRIC_ID_TLS_FAILURES);
    for (int i = 1; i < TLS_FAULT_COUNT; i++)
        put_u64(w, METRIC_ID_TLS_FAILURES, VALUES(tls_fault_name((enum tls_fault)i)),
                atomic_load(&t->failed[i]));
    family(w, METRIC_ID_TLS_RELOADS);
    put_u64(w, METRIC_ID_TLS_RELOADS, NULL, atomic_load(&t->reloads));
    for (size_t i = 0; i < MEMFILE_LISTENS_MAX; i++)
        refused += atomic_load(&t->refused[i]);
    for (size_t i = 0; i < KNOB_TARGETS_MAX; i++)
        refused += atomic_load(&t->refused_out[i]);
    family(w, METRIC_ID_TLS_REFUSED);
    put_u64(w, METRIC_ID_TLS_REFUSED, NULL, refused);
    family(w, METRIC_ID_TLS_EXPIRY);
    uint32_t count = fb_min_u32(atomic_load(&t->cert_count), MEMFILE_CERTS_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (!is_told(t, i))
            put_u64(w, METRIC_ID_TLS_EXPIRY, VALUES(t->certs[i].name, t->certs[i].file),
                    atomic_load(&t->certs[i].not_after_s));
}

static void write_staples(struct writer *w)
{
    const struct memfile_tls *t = &w->view->memfile->head->tls;
    const struct memfile_renew *r = &w->view->memfile->head->renew;
    uint64_t wall_s = fb_wall_us() / US_PER_S, next_s = atomic_load(&r->next_s);
    uint32_t count = fb_min_u32(atomic_load(&t->cert_count), MEMFILE_CERTS_MAX);
    for (int until = 0; until < 2; until++) {
        enum metric_id id = until ? METRIC_ID_STAPLE_UNTIL : METRIC_ID_STAPLE_AGE;
        family(w, id);
        for (uint32_t i = 0; i < count; i++) {
            const struct memfile_cert *c = &t->certs[i];
            uint64_t made_s = atomic_load(&c->staple_made_s);
            uint64_t until_s = atomic_load(&c->staple_until_s);
            if (until_s && (!until || until_s != UINT64_MAX) && !is_told(t, i))
                put_u64(w, id, VALUES(c->name, c->file),
                        until ? until_s : fb_sub_floor_u64(wall_s, made_s));
        }
    }
    family(w, METRIC_ID_RENEWALS);
    put_u64(w, METRIC_ID_RENEWALS, VALUES("ok"), atomic_load(&r->good));
    put_u64(w, METRIC_ID_RENEWALS, VALUES("failed"), atomic_load(&r->failed));
    family(w, METRIC_ID_RENEWAL_NEXT);
    if (next_s)
        put_u64(w, METRIC_ID_RENEWAL_NEXT, NULL, next_s);
}

static void write_auth(struct writer *w)
{
    static const char *const causes[] = {[MEMFILE_AUTH_FULL] = "full",
                                         [MEMFILE_AUTH_CLIENT] = "client",
                                         [MEMFILE_AUTH_THREAD] = "thread"};
    const struct memfile_auth *m = &w->view->memfile->head->auth;
    uint64_t waiting = 0;
    for (size_t i = 0; i < MEMFILE_SLOTS; i++)
        waiting += atomic_load(&m->waiting[i]);
    family(w, METRIC_ID_AUTH_FILES_BAD);
    put_u64(w, METRIC_ID_AUTH_FILES_BAD, NULL, atomic_load(&m->bad_files));
    family(w, METRIC_ID_AUTH_FILE_READS);
    put_u64(w, METRIC_ID_AUTH_FILE_READS, VALUES("ok"), atomic_load(&m->reads[0]));
    put_u64(w, METRIC_ID_AUTH_FILE_READS, VALUES("refused"), atomic_load(&m->reads[1]));
    family(w, METRIC_ID_AUTH_WAITING);
    put_u64(w, METRIC_ID_AUTH_WAITING, NULL, waiting);
    family(w, METRIC_ID_AUTH_CHECKS_REFUSED);
    for (size_t i = 0; i < FB_COUNT(causes); i++)
        put_u64(w, METRIC_ID_AUTH_CHECKS_REFUSED, VALUES(causes[i]), atomic_load(&m->refused[i]));
}

static void write_protocols(struct writer *w)
{
    static const char *const protocols[] = {"http1", "http2", "tcp"};
    static const char *const versions[] = {"none", "1.2", "1.3"};
    const struct metrics *m = w->view->metrics;
    family(w, METRIC_ID_PROTOCOL);
    for (size_t i = 0; i < FB_COUNT(protocols); i++)
        put_u64(w, METRIC_ID_PROTOCOL, VALUES(protocols[i]), m->protocol[i]);
    family(w, METRIC_ID_TLS_REQUESTS);
    for (size_t i = 0; i < FB_COUNT(versions); i++)
        put_u64(w, METRIC_ID_TLS_REQUESTS, VALUES(versions[i]), m->tls[i]);
    family(w, METRIC_ID_GRPC);
    put_u64(w, METRIC_ID_GRPC, VALUES("ok"), m->grpc[0]);
    put_u64(w, METRIC_ID_GRPC, VALUES("failed"), m->grpc[1]);
}

static void write_compress(struct writer *w)
{
    const struct memfile_compress *m = &w->view->memfile->head->compress;
    family(w, METRIC_ID_COMPRESS_ANSWERS);
    put_u64(w, METRIC_ID_COMPRESS_ANSWERS, NULL, atomic_load(&m->answers));
    family(w, METRIC_ID_COMPRESS_IN);
    put_u64(w, METRIC_ID_COMPRESS_IN, NULL, atomic_load(&m->in_bytes));
    family(w, METRIC_ID_COMPRESS_OUT);
    put_u64(w, METRIC_ID_COMPRESS_OUT, NULL, atomic_load(&m->out_bytes));
    family(w, METRIC_ID_COMPRESS_REFUSED);
    put_u64(w, METRIC_ID_COMPRESS_REFUSED, NULL, atomic_load(&m->refused));
    family(w, METRIC_ID_COMPRESS_STORED);
    put_u64(w, METRIC_ID_COMPRESS_STORED, NULL, atomic_load(&m->stored_answers));
    family(w, METRIC_ID_COMPRESS_FORMS);
    put_u64(w, METRIC_ID_COMPRESS_FORMS, NULL, atomic_load(&m->stored_forms));
    family(w, METRIC_ID_COMPRESS_FORMS_IN);
    put_u64(w, METRIC_ID_COMPRESS_FORMS_IN, NULL, atomic_load(&m->stored_in_bytes));
    family(w, METRIC_ID_COMPRESS_FORMS_OUT);
    put_u64(w, METRIC_ID_COMPRESS_FORMS_OUT, NULL, atomic_load(&m->stored_out_bytes));
}

static void write_h2(struct writer *w)
{
    const struct memfile_h2 *m = &w->view->memfile->head->h2;
    static const char *const floods[] = {"resets", "control", "headers"};
    uint64_t open = 0, streams = 0, n[MEMFILE_H2_COUNTS];
    for (size_t i = 0; i < MEMFILE_RINGS_MAX; i++) {
        open += atomic_load(&m->connections[i]);
        streams += atomic_load(&m->streams[i]);
    }
    for (size_t i = 0; i < MEMFILE_H2_COUNTS; i++)
        n[i] = atomic_load(&m->counts[i]);
    family(w, METRIC_ID_H2_CONNECTIONS);
    put_u64(w, METRIC_ID_H2_CONNECTIONS, NULL, open);
    family(w, METRIC_ID_H2_STREAMS_OPEN);
    put_u64(w, METRIC_ID_H2_STREAMS_OPEN, NULL, streams);
    family(w, METRIC_ID_H2_STREAMS);
    put_u64(w, METRIC_ID_H2_STREAMS, NULL, n[MEMFILE_H2_STREAMS]);
    family(w, METRIC_ID_H2_RESETS);
    put_u64(w, METRIC_ID_H2_RESETS, VALUES("client"), n[MEMFILE_H2_RESETS_IN]);
    put_u64(w, METRIC_ID_H2_RESETS, VALUES("foldback"), n[MEMFILE_H2_RESETS_OUT]);
    family(w, METRIC_ID_H2_REFUSED);
    put_u64(w, METRIC_ID_H2_REFUSED, NULL, n[MEMFILE_H2_REFUSED]);
    family(w, METRIC_ID_H2_CONTROL);
    put_u64(w, METRIC_ID_H2_CONTROL, NULL, n[MEMFILE_H2_CONTROL]);
    family(w, METRIC_ID_H2_FLOODS);
    for (size_t i = 0; i < FB_COUNT(floods); i++)
        put_u64(w, METRIC_ID_H2_FLOODS, VALUES(floods[i]), n[MEMFILE_H2_FLOOD_RESETS + i]);
}

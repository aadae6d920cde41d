/* SPDX-License-Identifier: Apache-2.0 */
#include "output/feature.h"

#include "base/assert.h"
#include "base/clock.h"
#include "io/tls.h"

#include <math.h>
#include <stdatomic.h>

#define TRAITS_MAX 5

static const struct feature_row rows[FEATURE_COUNT] = {
#define FEATURE(id, name_, title_, kind_, keys_, metrics_, reasons_, page_, what_)                 \
    {.name = name_,                                                                                \
     .title = title_,                                                                              \
     .keys = keys_,                                                                                \
     .metrics = metrics_,                                                                          \
     .reasons = reasons_,                                                                          \
     .page = page_,                                                                                \
     .what = what_,                                                                                \
     .kind = EV_KIND_##kind_},
#include "output/features.def"
#undef FEATURE
};

/* Figures that are counts of traits and nothing else. */
static const struct trait_feature {
    unsigned id;
    uint64_t bits[TRAITS_MAX];
    const char *labels[TRAITS_MAX];
} trait_features[] = {
    {FEATURE_STICKY,
     {EV_TRAIT_BIT(STICKY_KEPT), EV_TRAIT_BIT(STICKY_MOVED), EV_TRAIT_BIT(STICKY_NEW)},
     {"kept", "moved", "new"}},
    {FEATURE_HASH, {EV_TRAIT_BIT(HOME), EV_TRAIT_BIT(AWAY)}, {"home", "away"}},
    {FEATURE_MIRROR, {EV_TRAIT_BIT(COPIED), EV_TRAIT_BIT(NOT_COPIED)}, {"copied", "no_room"}},
    {FEATURE_AUTH,
     {EV_TRAIT_BIT(AUTH_CHECKED), EV_TRAIT_BIT(AUTH_REMEMBERED), EV_TRAIT_BIT(AUTH_ALLOWED),
      EV_TRAIT_BIT(AUTH_REFUSED), EV_TRAIT_BIT(AUTH_FAILED)},
     {"checked", "remembered", "allowed", "refused", "not_found_out"}},
    {FEATURE_PROXIED, {EV_TRAIT_BIT(PROXIED)}, {"requests"}},
    {FEATURE_INTRODUCED, {EV_TRAIT_BIT(INTRODUCED)}, {"connections"}},
};

/* Reasons of refusals, each a figure of a service. */
static const struct shed_feature {
    unsigned id;
    uint16_t reasons[4];
    const char *labels[4];
} shed_features[] = {
    {FEATURE_CAP, {REASON_SHED_CAP}, {"refused"}},
    {FEATURE_FLOOR, {REASON_SHED_ERRORS}, {"refused"}},
    {FEATURE_FAIRNESS,
     {REASON_SHED_PRIORITY, REASON_SHED_QUEUE_FULL, REASON_SHED_QUEUE_WAIT, REASON_SHED_DEADLINE},
     {"by_class", "queue_full", "waited_too_long", "deadline_passed"}},
};

/* Reasons of request ends, each a figure of the node. */
static const struct end_feature {
    unsigned id;
    uint16_t reason;
    const char *label;
} end_features[] = {
    {FEATURE_PATTERNS, REASON_PATTERN_LIMIT, "refused"},
    {FEATURE_PATTERNS, REASON_REWRITE_UNSAFE, "unsafe_rewrites"},
    {FEATURE_RULES, REASON_REDIRECTED, "redirected"},
    {FEATURE_RULES, REASON_RESPONDED, "answered"},
    {FEATURE_RULES, REASON_ADDRESS_DENIED, "kept_out"},
    {FEATURE_TUNNELS, REASON_TUNNEL_CUT, "cut"},
    {FEATURE_TUNNELS, REASON_NO_WEBSOCKET, "refused"},
    {FEATURE_ENDPOINT_TLS, REASON_UPSTREAM_TLS, "failed_handshake"},
    {FEATURE_ENDPOINT_TLS, REASON_UPSTREAM_CERT, "certificate_not_accepted"},
    {FEATURE_ENDPOINT_TLS, REASON_UPSTREAM_CERT_REFUSED, "our_certificate_refused"},
    {FEATURE_ENDPOINT_TLS, REASON_UPSTREAM_NOT_TLS, "speaks_no_tls"},
    {FEATURE_ENDPOINT_TLS, REASON_UPSTREAM_WANTS_TLS, "wants_tls"},
    {FEATURE_ENDPOINT_TLS, REASON_UPSTREAM_TLS_FILES, "our_files_not_good"},
    {FEATURE_ENDPOINT_TLS, REASON_UPSTREAM_NOT_HTTP2, "speaks_no_http2"},
    {FEATURE_ENDPOINT_TLS, REASON_UPSTREAM_WANTS_HTTP2, "wants_http2"},
};

struct figures {
    struct feature_figure *out;
    size_t count;
    double sum; /* of what came so far: all zero is nothing to say */
};

static bool of_traits(const struct admin *a, unsigned id, uint16_t number, struct figures *f);
static bool of_refusals(const struct admin *a, unsigned id, uint16_t number, struct figures *f);
static void of_route(const struct admin *a, unsigned id, uint16_t number, struct figures *f);
static void of_service(const struct admin *a, unsigned id, uint16_t number, struct figures *f);
static void of_endpoint(const struct admin *a, unsigned id, uint16_t number, struct figures *f);
static void of_node(const struct admin *a, unsigned id, struct figures *f);

const struct feature_row *feature_row(unsigned id)
{
    fb_assert(id < FEATURE_COUNT);
    return &rows[id];
}

unsigned feature_by_name(struct span name)
{
    unsigned i = 0;
    while (i < FEATURE_COUNT && !span_eq(name, span_of(rows[i].name)))
        i++;
    return i;
}

static void put(struct figures *f, const char *label, double value)
{
    fb_assert(f->count < FEATURE_FIGURES_MAX);
    f->out[f->count++] = (struct feature_figure){label, value};
    f->sum += fabs(value);
}

size_t feature_figures(const struct admin *a, unsigned id, uint16_t number,
                       struct feature_figure out[FEATURE_FIGURES_MAX])
{
    struct figures f = {.out = out};
    fb_assert(id < FEATURE_COUNT);
    if (rows[id].kind != EV_KIND_NONE && number >= KNOB_TARGETS_MAX)
        return 0;
    if (of_traits(a, id, number, &f) || of_refusals(a, id, number, &f))
        return f.sum > 0 ? f.count : 0;
    if (rows[id].kind == EV_KIND_ROUTE)
        of_route(a, id, number, &f);
    else if (rows[id].kind == EV_KIND_SERVICE)
        of_service(a, id, number, &f);
    else if (rows[id].kind == EV_KIND_ENDPOINT)
        of_endpoint(a, id, number, &f);
    else
        of_node(a, id, &f);
    return f.sum > 0 ? f.count : 0;
}

static bool of_traits(const struct admin *a, unsigned id, uint16_t number, struct figures *f)
{
    const struct metrics *m = a->metrics;
    for (size_t i = 0; i < FB_COUNT(trait_features); i++) {
        const struct trait_feature *t = &trait_features[i];
        if (t->id != id)
            continue;
        const struct metric_traits *did =
            rows[id].kind == EV_KIND_ROUTE ? &m->route[number].did : &m->service[number].did;
        for (size_t k = 0; k < TRAITS_MAX && t->bits[k]; k++)
            put(f, t->labels[k], (double)metrics_did(did, t->bits[k]));
        return true;
    }
    return false;
}

static bool of_refusals(const struct admin *a, unsigned id, uint16_t number, struct figures *f)
{
    const struct metric_service *s = &a->metrics->service[number];
    for (size_t i = 0; i < FB_COUNT(shed_features); i++) {
        const struct shed_feature *t = &shed_features[i];
        if (t->id != id)
            continue;
        for (size_t k = 0; k < FB_COUNT(t->reasons) && t->labels[k]; k++) {
            uint64_t count = 0;
            for (unsigned slot = 0; slot < METRIC_SHED_REASONS; slot++)
                count += metrics_shed_reason(slot) == t->reasons[k] ? s->shed[slot] : 0;
            put(f, t->labels[k], (double)count);
        }
        if (id == FEATURE_CAP)
            put(f, "one_client", (double)s->client_capped);
        return true;
    }
    return false;
}

static void of_route(const struct admin *a, unsigned id, uint16_t number, struct figures *f)
{
    const struct metric_route *r = &a->metrics->route[number];
    const uint64_t *did = r->did.count;
    if (id == FEATURE_SPLITS) {
        put(f, "by_share", (double)(r->split - did[EV_TRAIT_SPLIT_NAMED]));
        put(f, "by_name", (double)did[EV_TRAIT_SPLIT_NAMED]);
        put(f, "other_version", (double)r->split_fallbacks);
    } else if (id == FEATURE_HEDGING) {
        put(f, "first_faster", (double)r->hedges[0]);
        put(f, "second_faster", (double)r->hedges[1]);
    } else if (id == FEATURE_LIMITS) {
        put(f, "over_rate", (double)r->limited[0]);
        put(f, "over_quota", (double)r->limited[1]);
        put(f, "fullest_pct", metrics_peak(a->metrics, &r->limit_used_pct));
    } else if (id == FEATURE_CACHE) {
        for (uint8_t c = EV_CACHE_MISS; c < EV_CACHE_END; c++)
            put(f, ev_cache_name(c), (double)r->cache[c]);
    } else if (id == FEATURE_COMPRESSION) {
        put(f, "gzip", (double)did[EV_TRAIT_GZIP]);
        put(f, "br", (double)did[EV_TRAIT_BROTLI]);
        put(f, "zstd", (double)did[EV_TRAIT_ZSTD]);
        put(f, "stored", (double)did[EV_TRAIT_STORED_CODED]);
        put(f, "no_room", (double)did[EV_TRAIT_NOT_CODED]);
        put(f, "before_bytes", (double)r->plain_bytes);
        put(f, "after_bytes", (double)r->coded_bytes);
    }
}

static void of_service(const struct admin *a, unsigned id, uint16_t number, struct figures *f)
{
    const struct metric_service *s = &a->metrics->service[number];
    if (id == FEATURE_ZONES) {
        put(f, "other_zone", (double)s->did.count[EV_TRAIT_FAR_ZONE]);
    } else if (id == FEATURE_COPIES) {
        put(f, "answered", (double)s->mirror[0]);
        put(f, "failed", (double)s->mirror[1]);
    } else if (id == FEATURE_RETRIES) {
        put(f, "tried_again", (double)s->retries);
    } else if (id == FEATURE_TCP) {
        put(f, "passed", (double)s->tcp[0]);
        put(f, "failed", (double)s->tcp[1]);
        put(f, "from_clients_bytes", (double)s->tcp_received);
        put(f, "to_clients_bytes", (double)s->tcp_sent);
    }
}

static void of_endpoint(const struct admin *a, unsigned id, uint16_t number, struct figures *f)
{
    const struct metric_endpoint *e = &a->metrics->endpoint[number];
    if (id == FEATURE_CHECKS) {
        put(f, "passed", (double)e->checks[0]);
        put(f, "failed", (double)e->checks[1]);
        put(f, "failed_in_a_row", e->checks_row);
        return;
    }
    const struct memfile_gauge *g = &a->source.memfile->gauges[number];
    uint32_t place = atomic_load_explicit(&g->place, memory_order_relaxed);
    uint32_t load = atomic_load_explicit(&g->utilisation_permille, memory_order_relaxed);
    uint32_t weight = atomic_load_explicit(&g->weight_permille, memory_order_relaxed);
    if (!place || (load == UINT32_MAX && weight == 1000 && !(place & MEMFILE_PLACE_OUT)))
        return;
    put(f, "weight_pct", weight / 10.0);
    if (load != UINT32_MAX)
        put(f, "utilisation_pct", load / 10.0);
    put(f, "wants_none", (place & MEMFILE_PLACE_OUT) != 0);
}

static void of_http2(const struct admin *a, struct figures *f)
{
    const struct memfile_h2 *m = &a->source.memfile->head->h2;
    static const char *const labels[MEMFILE_H2_COUNTS] = {
        [MEMFILE_H2_STREAMS] = "streams",
        [MEMFILE_H2_RESETS_IN] = "reset_by_clients",
        [MEMFILE_H2_RESETS_OUT] = "reset_by_foldback",
        [MEMFILE_H2_CONTROL] = "frames_without_effect",
        [MEMFILE_H2_REFUSED] = "refused",
        [MEMFILE_H2_FLOOD_RESETS] = "floods_of_resets",
        [MEMFILE_H2_FLOOD_CONTROL] = "floods_of_frames",
        [MEMFILE_H2_FLOOD_HEADERS] = "header_bombs"};
    for (size_t i = 0; i < MEMFILE_H2_COUNTS; i++)
        put(f, labels[i], (double)atomic_load(&m->counts[i]));
}

static void of_tls(const struct admin *a, struct figures *f)
{
    const struct memfile_tls *t = &a->source.memfile->head->tls;
    uint64_t failed = 0;
    for (int i = 1; i < TLS_FAULT_COUNT; i++)
        failed += atomic_load(&t->failed[i]);
    put(f, "full", (double)atomic_load(&t->full));
    put(f, "resumed", (double)atomic_load(&t->resumed));
    put(f, "failed", (double)failed);
}

static void of_certificates(const struct admin *a, struct figures *f)
{
    const struct memfile_tls *t = &a->source.memfile->head->tls;
    uint32_t count = fb_min_u32(atomic_load(&t->cert_count), MEMFILE_CERTS_MAX);
    double first_s = INFINITY, wall_s = (double)(fb_wall_us() / US_PER_S), refused = 0;
    for (uint32_t i = 0; i < count; i++)
        first_s = fmin(first_s, (double)atomic_load(&t->certs[i].not_after_s));
    for (size_t i = 0; i < MEMFILE_LISTENS_MAX; i++)
        refused += atomic_load(&t->refused[i]);
    for (size_t i = 0; i < KNOB_TARGETS_MAX; i++)
        refused += atomic_load(&t->refused_out[i]);
    if (count == 0 && refused == 0)
        return;
    put(f, "certificates", count);
    if (count)
        put(f, "first_ends_days", (first_s - wall_s) / 86400);
    put(f, "taken_from_changed_files", (double)atomic_load(&t->reloads));
    put(f, "files_not_good", refused);
}

static void of_own(const struct admin *a, struct figures *f)
{
    static const char *const resources[MEMFILE_OWN_RESOURCES] = {"memory_pct", "descriptors_pct",
                                                                 "cpu_wait_pct", "ring_pct"};
    const struct memfile_head *h = a->source.memfile->head;
    for (size_t i = 0; i < MEMFILE_OWN_RESOURCES; i++)
        put(f, resources[i], atomic_load(&h->own_used_ppm[i]) / 1e4);
    put(f, "stage", atomic_load(&h->own_stage));
    put(f, "refused", (double)a->metrics->ends[REASON_SHED_OWN_LOAD]);
}

static void of_staples(const struct admin *a, struct figures *f)
{
    const struct memfile_tls *t = &a->source.memfile->head->tls;
    uint32_t count = fb_min_u32(atomic_load(&t->cert_count), MEMFILE_CERTS_MAX), staples = 0;
    double wall_s = (double)(fb_wall_us() / US_PER_S), oldest_s = 0, first_s = INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t until_s = atomic_load(&t->certs[i].staple_until_s);
        if (!until_s)
            continue;
        staples++;
        oldest_s = fmax(oldest_s, wall_s - (double)atomic_load(&t->certs[i].staple_made_s));
        if (until_s != UINT64_MAX)
            first_s = fmin(first_s, (double)until_s);
    }
    if (staples == 0)
        return;
    put(f, "staples", staples);
    put(f, "oldest_made_before_s", oldest_s);
    if (isfinite(first_s))
        put(f, "first_ends_days", (first_s - wall_s) / 86400);
}

static void of_renewals(const struct admin *a, struct figures *f)
{
    const struct memfile_renew *r = &a->source.memfile->head->renew;
    uint64_t next_s = atomic_load(&r->next_s), wall_s = fb_wall_us() / US_PER_S;
    put(f, "runs_that_ended_well", (double)atomic_load(&r->good));
    put(f, "failed", (double)atomic_load(&r->failed));
    put(f, "running", atomic_load(&r->is_running));
    put(f, "last_code", atomic_load(&r->last_code));
    if (next_s)
        put(f, "next_run_in_s", (double)fb_sub_floor_u64(next_s, wall_s));
    put(f, "challenges_answered", (double)a->metrics->ends[REASON_ACME_CHALLENGE]);
}

static void of_node(const struct admin *a, unsigned id, struct figures *f)
{
    if (id == FEATURE_OWN) {
        of_own(a, f);
    } else if (id == FEATURE_HTTP2) {
        of_http2(a, f);
    } else if (id == FEATURE_GRPC) {
        put(f, "ok", (double)a->metrics->grpc[0]);
        put(f, "failed", (double)a->metrics->grpc[1]);
    } else if (id == FEATURE_TLS) {
        of_tls(a, f);
    } else if (id == FEATURE_CERTIFICATES) {
        of_certificates(a, f);
    } else if (id == FEATURE_OCSP) {
        of_staples(a, f);
    } else if (id == FEATURE_ACME) {
        of_renewals(a, f);
    }
    for (size_t i = 0; i < FB_COUNT(end_features); i++)
        if (end_features[i].id == id)
            put(f, end_features[i].label, (double)a->metrics->ends[end_features[i].reason]);
}

static bool ends_with(struct span label, const char *unit)
{
    struct span u = span_of(unit);
    return label.len > u.len && memcmp(label.at + label.len - u.len, u.at, u.len) == 0;
}

static void put_bytes(struct buf *out, double value)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t u = 0;
    for (; value >= 1000 && u + 1 < FB_COUNT(units); u++)
        value /= 1000;
    buf_printf(out, "%.4g %s", value, units[u]);
}

static void put_span(struct buf *out, double s)
{
    if (s >= 2 * 86400)
        buf_printf(out, "%.1f days", s / 86400);
    else if (s >= 2 * 3600)
        buf_printf(out, "%.1f h", s / 3600);
    else
        buf_printf(out, "%.0f s", s);
}

static void put_words(struct buf *out, struct span label)
{
    for (size_t k = 0; k < label.len; k++)
        buf_putc(out, label.at[k] == '_' ? ' ' : label.at[k]);
}

/* "first ends 89.2 days", "before 12.3 kB" */
static bool put_with_unit(struct buf *out, const struct feature_figure *f)
{
    static const char *const units[][2] = {
        {"_bytes", ""}, {"_pct", "%"}, {"_days", "days"}, {"_s", "s"}};
    struct span label = span_of(f->label);
    for (size_t u = 0; u < FB_COUNT(units); u++) {
        if (!ends_with(label, units[u][0]))
            continue;
        label.len -= strlen(units[u][0]);
        put_words(out, label);
        buf_putc(out, ' ');
        if (u == 3)
            put_span(out, f->value);
        else if (units[u][1][0])
            buf_printf(out, "%.1f %s", f->value, units[u][1]);
        else
            put_bytes(out, f->value);
        return true;
    }
    return false;
}

void feature_text(const struct feature_figure *figures, size_t count, struct buf *out)
{
    bool is_first = true;
    for (size_t i = 0; i < count; i++) {
        if (figures[i].value == 0) /* what did not happen needs no words */
            continue;
        buf_puts(out, is_first ? "" : ", ");
        is_first = false;
        if (put_with_unit(out, &figures[i]))
            continue;
        buf_printf(out, "%.0f ", figures[i].value);
        put_words(out, span_of(figures[i].label));
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/doctor: what a person who knows foldback would look at first, ranked.
 *
 * Each check looks at facts of the last minute or at the timeline of the last hour and gives one
 * finding with its numbers and the command to run next.  No finding is made from insufficient data.
 */
#include "io/socket_path.h"
#include "output/admin_int.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void api_run_doctor(struct api_call *c);

#define FINDINGS_MAX 32
enum severity { SEVERITY_INFO, SEVERITY_WARNING, SEVERITY_CRITICAL };
struct finding {
    int severity;
    const char *check;
    char text[320], command[160];
};
struct findings {
    struct finding at[FINDINGS_MAX];
    size_t count;
};

static void check_processes(struct findings *f, const struct admin *a);
static void check_stream(struct findings *f, const struct admin *a);
static void check_alerts(struct findings *f, const struct admin *a);
static void check_config(struct findings *f, const struct admin *a);
static void check_warnings(struct findings *f, const struct admin *a);
static void check_services(struct findings *f, const struct admin *a);
static void check_endpoints(struct findings *f, const struct admin *a);
static void check_knobs(struct findings *f, const struct admin *a);
static void check_decisions(struct findings *f, const struct admin *a);
static void check_caches(struct findings *f, const struct admin *a);

static struct finding *add(struct findings *f, int severity, const char *check, const char *command)
{
    static struct finding spill; /* beyond the bound: written, never shown */
    struct finding *x = f->count < FINDINGS_MAX ? &f->at[f->count++] : &spill;
    x->severity = severity;
    x->check = check;
    x->text[0] = '\0';
    snprintf(x->command, sizeof x->command, "%s", command);
    return x;
}

#define SAY(x, ...) snprintf((x)->text, sizeof(x)->text, __VA_ARGS__)

static int by_severity(const void *a, const void *b)
{
    return ((const struct finding *)b)->severity - ((const struct finding *)a)->severity;
}

void api_run_doctor(struct api_call *c)
{
    static const char *const names[] = {"info", "warning", "critical"};
    struct findings f = {.count = 0};
    check_processes(&f, c->admin);
    check_stream(&f, c->admin);
    check_alerts(&f, c->admin);
    check_config(&f, c->admin);
    check_warnings(&f, c->admin);
    check_services(&f, c->admin);
    check_endpoints(&f, c->admin);
    check_knobs(&f, c->admin);
    check_decisions(&f, c->admin);
    check_caches(&f, c->admin);
    qsort(f.at, f.count, sizeof f.at[0], by_severity);
    json_object_begin(&c->j);
    json_key_bool(&c->j, "is_healthy", f.count == 0 || f.at[0].severity == SEVERITY_INFO);
    json_key(&c->j, "findings");
    json_array_begin(&c->j);
    for (size_t i = 0; i < f.count; i++) {
        json_object_begin(&c->j);
        json_key_u64(&c->j, "rank", i + 1);
        json_key_str(&c->j, "severity", names[f.at[i].severity]);
        json_key_str(&c->j, "check", f.at[i].check);
        json_key_str(&c->j, "text", f.at[i].text);
        json_key_str(&c->j, "command", f.at[i].command);
        json_object_end(&c->j);
    }
    json_array_end(&c->j);
    json_object_end(&c->j);
}

static struct fact minute(const struct admin *a, enum ev_kind kind, uint16_t number,
                          enum fact_id id)
{
    return facts_get(a->source.facts, (struct fact_scope){kind, number}, id, FACT_60S);
}

static void check_processes(struct findings *f, const struct admin *a)
{
    uint64_t beat_us = atomic_load(&a->source.memfile->head->gateway_beat_us);
    uint64_t age_us = fb_sub_floor_u64(a->now_us, beat_us);
    if (age_us > 2 * US_PER_S)
        SAY(add(f, SEVERITY_CRITICAL, "gateway", "foldback status"),
            "The gateway gave no sign for %.1f s.", (double)age_us / 1e6);
    if (a->tick.lag_us > 50000)
        SAY(add(f, SEVERITY_WARNING, "tick", "foldback status"),
            "The last tick was %.0f ms late: the brain lacks CPU time, decisions come later.",
            a->tick.lag_us / 1e3);
    const struct ev_resource *host = &a->cpu_last[0];
    if (host->psi_cpu_ppm > 300000)
        SAY(add(f, SEVERITY_WARNING, "host", "top"),
            "In %.0f %% of the last 10 s some task waited for a CPU: this host is too small.",
            host->psi_cpu_ppm / 1e4);
    if (host->memory_total_bytes && host->memory_bytes > host->memory_total_bytes / 100 * 95)
        SAY(add(f, SEVERITY_WARNING, "host", "free -m"), "%.0f %% of the memory is in use.",
            100.0 * (double)host->memory_bytes / (double)host->memory_total_bytes);
}

static void check_caches(struct findings *f, const struct admin *a)
{
    struct cold_view v;
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (api_cold(a, i, &v) && v.load_ratio > 1)
            SAY(add(f, SEVERITY_INFO, "cold_cache", "foldback cache status"),
                "Endpoints depend on the cache of %.100s: if it were empty, they would get %.1f x "
                "what their limits let through (%.0f requests per second instead of %.0f). Purges "
                "are paced; a restart is not.",
                admin_name(a, EV_KIND_ROUTE, i), v.load_ratio, v.cold_per_s, v.now_per_s);
}

static void check_stream(struct findings *f, const struct admin *a)
{
    struct admin_stream s = {.is_disk_ok = true};
    if (a->source.stream)
        a->source.stream(a->source.ctx, &s);
    if (!s.is_disk_ok)
        SAY(add(f, SEVERITY_CRITICAL, "log", "df -h"),
            "The event log cannot be written: %s. Traffic goes on; events are lost and counted.",
            s.disk_error);
    if (s.events_lost > 0)
        SAY(add(f, SEVERITY_WARNING, "log", "foldback events tail --type gap"),
            "%" PRIu64 " of %" PRIu64 " events were lost.", s.events_lost,
            s.events + s.events_lost);
    if (s.lag_us > 2 * US_PER_S)
        SAY(add(f, SEVERITY_WARNING, "log", "iostat -x 1"),
            "The log is %.1f s behind: a slow disk.", (double)s.lag_us / 1e6);
}

/* What shows more of an alert. */
static const char *next_of(uint16_t reason)
{
    static const struct {
        const char *prefix, *command;
    } next[] = {{"alert_cert_", "foldback why certificates"},
                {"alert_connector_", "foldback connector list"},
                {"alert_fleet_", "foldback fleet status"},
                {"alert_ingest_", "foldback stream status"},
                {"alert_key_", "foldback key list"},
                {"alert_log_", "foldback stream status"},
                {"alert_own_", "foldback why own_overload"},
                {"alert_renew_", "foldback why acme"},
                {"alert_staple_", "foldback why ocsp"},
                {"alert_disk", "foldback stream status"}};
    const char *name = ev_reason_row(reason)->name;
    for (size_t i = 0; name && i < FB_COUNT(next); i++)
        if (span_starts(span_of(name), span_of(next[i].prefix)))
            return next[i].command;
    return "foldback decisions";
}

static void check_alerts(struct findings *f, const struct admin *a)
{
    const struct timeline_alert *x;
    for (uint64_t i = 0; (x = timeline_alert_at(&a->timeline, i)) != NULL; i++) {
        if (x->over_us)
            continue;
        int severity =
            x->alert.severity <= SEVERITY_CRITICAL ? x->alert.severity : SEVERITY_CRITICAL;
        struct finding *n = add(f, severity, "alert", next_of(x->alert.reason));
        SAY(n, "%.*s", (int)strnlen(x->alert.text, sizeof x->alert.text), x->alert.text);
        if (n->text[0] == '\0')
            SAY(n, "%s", ev_reason_row(x->alert.reason)->sentence);
    }
}

/* What the file says and what is in force are not the same. */
static void check_config(struct findings *f, const struct admin *a)
{
    const struct admin_verdict *v = &a->last.of;
    if (v->has_file && !v->is_in_force && v->lines.len) {
        struct span rest = v->lines, line = span_cut(rest, '\n', &rest), column;
        struct span number = span_cut(line, '\t', &column), text;
        (void)span_cut(column, '\t', &text);
        SAY(add(f, SEVERITY_WARNING, "config", "foldback reload"),
            "The last reload was refused, the configuration before it is in force: %.*s:%.*s: "
            "%.*s",
            (int)fb_min_u64(v->file.len, 100), v->file.at, SPAN_ARG(number),
            (int)fb_min_u64(text.len, 140), text.at);
    }
    for (struct span lines = a->in_force.of.lines; lines.len;) {
        struct span line = span_cut(lines, '\n', &lines), waits;
        struct span key = span_cut(line, '\t', &line), now = span_cut(line, '\t', &waits);
        SAY(add(f, SEVERITY_INFO, "config", "foldback config show --effective"),
            "%.*s waits for the next start: the file says \"%.*s\", in force is \"%.*s\".",
            SPAN_ARG(key), (int)fb_min_u64(waits.len, 80), waits.at, (int)fb_min_u64(now.len, 80),
            now.at);
    }
}

/* Keys that do nothing as the rest of the file is. */
#define WARNINGS_MAX 8
static void check_warnings(struct findings *f, const struct admin *a)
{
    struct span rest = {"", 0}, text;
    if (a->source.config_warnings)
        rest = a->source.config_warnings(a->source.ctx);
    for (size_t i = 0; rest.len && i < WARNINGS_MAX; i++) {
        struct span line = span_cut(rest, '\n', &rest), number = span_cut(line, '\t', &text);
        SAY(add(f, SEVERITY_INFO, "config", "foldback config check FILE"), "Line %.*s: %.*s.",
            SPAN_ARG(number), (int)fb_min_u64(text.len, 300), text.at);
    }
}

static void check_service(struct findings *f, const struct admin *a, uint16_t i)
{
    const char *name = admin_name(a, EV_KIND_SERVICE, i);
    struct fact in_time = minute(a, EV_KIND_SERVICE, i, FACT_IN_TIME_RATIO);
    struct fact errors = minute(a, EV_KIND_SERVICE, i, FACT_ERROR_RATIO);
    struct fact shed = minute(a, EV_KIND_SERVICE, i, FACT_SHED_RATIO);
    char command[160];
    snprintf(command, sizeof command, "foldback why '%s'", name);
    if (in_time.state == FACT_OK && in_time.value < 0.99)
        SAY(add(f, in_time.value < 0.9 ? SEVERITY_CRITICAL : SEVERITY_WARNING, "objective",
                command),
            "Service %s answered %.1f %% within its objective (n = %" PRIu64 ").", name,
            100 * in_time.value, in_time.n);
    if (errors.state == FACT_OK && errors.value > 0.01)
        SAY(add(f, errors.value > 0.1 ? SEVERITY_CRITICAL : SEVERITY_WARNING, "errors", command),
            "%.1f %% of the requests of service %s failed (n = %" PRIu64 ").", 100 * errors.value,
            name, errors.n);
    if (shed.state == FACT_OK && shed.value > 0.001)
        SAY(add(f, SEVERITY_WARNING, "shed", command),
            "%.1f %% of the requests of service %s were refused: more arrives than can be served.",
            100 * shed.value, name);
}

static void check_services(struct findings *f, const struct admin *a)
{
    struct fact rate = minute(a, EV_KIND_NONE, 0, FACT_RATE);
    if (rate.state != FACT_OK || rate.value <= 0)
        SAY(add(f, SEVERITY_INFO, "traffic", "foldback check"),
            "There was too little traffic in the last minute to judge it.");
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (admin_name(a, EV_KIND_SERVICE, i)[0] && !admin_has_left(a, EV_KIND_SERVICE, i))
            check_service(f, a, i);
}

static void check_endpoints(struct findings *f, const struct admin *a)
{
    char command[160];
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        const struct ev_gauge *g = &a->metrics->endpoint[i].gauge;
        const char *name = admin_name(a, EV_KIND_ENDPOINT, i);
        if (name[0] == '\0' || g->head.type == 0 || admin_has_left(a, EV_KIND_ENDPOINT, i))
            continue;
        snprintf(command, sizeof command, "foldback why '%s'", name);
        int why = api_look_at_socket(a, i);
        if (why)
            SAY(add(f, SEVERITY_WARNING, "endpoint", command), "Endpoint %s: %s.", name,
                socket_path_why(why));
        else if (g->health == EV_HEALTH_EJECTED || g->health == EV_HEALTH_HALF_OPEN)
            SAY(add(f, SEVERITY_WARNING, "endpoint", command), "Endpoint %s is %s.", name,
                ev_health_name(g->health));
        if (a->source.is_drained && a->source.is_drained(a->source.ctx, i)) {
            snprintf(command, sizeof command, "foldback undrain '%s'", name);
            SAY(add(f, SEVERITY_INFO, "endpoint", command),
                "Endpoint %s is drained by an operator.", name);
        }
        /* Three times its service: one slow machine, not a slow service. */
        struct fact own = minute(a, EV_KIND_ENDPOINT, i, FACT_UPSTREAM_P50);
        struct fact all = minute(a, EV_KIND_SERVICE, g->service, FACT_UPSTREAM_P50);
        if (own.state == FACT_OK && all.state == FACT_OK && own.value > 3 * all.value &&
            own.value > 5)
            SAY(add(f, SEVERITY_WARNING, "endpoint", command),
                "Endpoint %s answers in %.1f ms (median), its service in %.1f ms.", name, own.value,
                all.value);
    }
}

static void check_knobs(struct findings *f, const struct admin *a)
{
    char command[160];
    for (uint16_t k = 0; k < KNOB_COUNT; k++)
        for (uint16_t t = 0; t < KNOB_TARGETS_MAX; t++) {
            const struct knob_layer *l = &a->source.book->layer[k][t];
            const char *name = admin_name(a, knob_row(k)->kind, t);
            if (!l->is_used || admin_has_left(a, knob_row(k)->kind, t))
                continue;
            if (l->is_frozen) {
                snprintf(command, sizeof command, "foldback why '%s %s'", knob_row(k)->name, name);
                SAY(add(f, SEVERITY_WARNING, "frozen", command), "The %s loop rests on %s.",
                    loop_row((uint16_t)knob_row(k)->loop)->name, name);
            }
            if (l->is_pinned) {
                snprintf(command, sizeof command, "foldback unpin %s '%s'", knob_row(k)->name,
                         name);
                const char *unit = strcmp(knob_row(k)->unit, "level") ? knob_row(k)->unit : "";
                SAY(add(f, SEVERITY_INFO, "pinned", command), "%s of %s is pinned to %.6g%s%s.",
                    knob_row(k)->name, name, l->pinned, unit[0] ? " " : "", unit);
            }
        }
}

static void check_decisions(struct findings *f, const struct admin *a)
{
    uint64_t now_us = timeline_wall_us(&a->timeline, a->now_us), worse = 0, waiting = 0;
    const struct timeline_entry *e;
    for (uint64_t i = 0; (e = timeline_at(&a->timeline, i)) != NULL; i++) {
        if (fb_sub_floor_u64(now_us, e->wall_us) > 3600 * US_PER_S)
            break;
        worse += e->has_outcome && e->outcome.outcome == EV_OUTCOME_WORSE;
        waiting += !e->decision.is_applied && e->decision.mode == EV_MODE_RECOMMEND;
    }
    if (worse > 0)
        SAY(add(f, SEVERITY_INFO, "decisions", "foldback decisions"),
            "%" PRIu64 " decisions of the last hour made things worse and were taken back.", worse);
    if (waiting > 0)
        SAY(add(f, SEVERITY_INFO, "recommendations", "foldback mode act"),
            "%" PRIu64 " recommendations of the last hour were not applied: the mode is recommend.",
            waiting);
}

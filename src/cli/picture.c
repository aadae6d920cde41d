/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of services and endpoints that status and top show. */
#include "cli/cli_int.h"
#include "cli/table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Passed connections have no limit, unless one is set. */
static const char *limit_text(double v, char room[CLI_ROOM])
{
    return v >= UINT32_MAX ? "none" : cli_count(v, room);
}

void show_services(const json_t *services, bool has_color, struct buf *out)
{
    static const char *const heads[] = {"SERVICE", ">RATE",      ">ERRORS", ">P50",   ">P99",
                                        ">SHED",   ">IN FLIGHT", ">LIMIT",  ">QUEUED"};
    struct table t;
    char a[CLI_ROOM];
    table_init(&t, heads, FB_COUNT(heads));
    for (size_t i = 0; i < json_array_size(services); i++) {
        const json_t *s = json_array_get(services, i), *f = json_object_get(s, "facts");
        const json_t *classes = json_object_get(s, "classes");
        double queued = 0;
        for (size_t c = 0; c < json_array_size(classes); c++)
            queued += fmax(0, cli_num(json_array_get(classes, c), "queued"));
        table_put(&t, cli_str(s, "name"));
        table_put(&t, cli_rate(cli_num(f, "rate"), a));
        table_put(&t, cli_pct(cli_num(f, "error_ratio"), a));
        table_put(&t, cli_ms(cli_num(f, "latency_p50"), a));
        table_put(&t, cli_ms(cli_num(f, "latency_p99"), a));
        table_put(&t, cli_pct(cli_num(f, "shed_ratio"), a));
        table_put(&t, cli_count(cli_num(s, "in_flight"), a));
        table_put(&t, limit_text(cli_num(s, "limit"), a));
        table_put(&t, cli_count(queued, a));
    }
    table_print(&t, has_color, out);
    table_fini(&t);
}

void show_endpoints(const json_t *endpoints, bool has_color, struct buf *out)
{
    static const char *const heads[] = {"ENDPOINT", "HEALTH",   ">RATE",   ">IN FLIGHT",
                                        ">LIMIT",   ">LATENCY", ">ERRORS", ">SHARE"};
    struct table t;
    char a[CLI_ROOM];
    table_init(&t, heads, FB_COUNT(heads));
    for (size_t i = 0; i < json_array_size(endpoints); i++) {
        const json_t *e = json_array_get(endpoints, i), *f = json_object_get(e, "facts");
        table_put(&t, cli_str(e, "name"));
        table_put(&t, cli_is(e, "is_drained") ? "drained" : cli_str(e, "health"));
        table_put(&t, cli_rate(cli_num(f, "rate"), a));
        table_put(&t, cli_count(cli_num(e, "in_flight"), a));
        table_put(&t, limit_text(cli_num(e, "limit"), a));
        table_put(&t, cli_ms(cli_num(e, "latency_ms"), a));
        table_put(&t, cli_pct(cli_num(e, "error_ratio"), a));
        table_put(&t, cli_pct(cli_num(e, "share"), a));
    }
    table_print(&t, has_color, out);
    table_fini(&t);
}

static bool has_choice(const json_t *versions)
{
    for (size_t i = 1; i < json_array_size(versions); i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(cli_str(json_array_get(versions, i), "service"),
                       cli_str(json_array_get(versions, k), "service")) == 0)
                return true;
    return false;
}

void show_versions(const json_t *versions, bool has_color, struct buf *out)
{
    static const char *const heads[] = {"VERSION", ">ENDPOINTS", ">RATE",   ">ERRORS",
                                        ">P50",    ">P99",       ">IN TIME"};
    struct table t;
    char a[CLI_ROOM];
    if (!has_choice(versions))
        return;
    table_init(&t, heads, FB_COUNT(heads));
    for (size_t i = 0; i < json_array_size(versions); i++) {
        const json_t *v = json_array_get(versions, i), *f = json_object_get(v, "facts");
        table_put(&t, cli_str(v, "name"));
        table_put(&t, cli_count(cli_num(v, "endpoints"), a));
        table_put(&t, cli_rate(cli_num(f, "rate"), a));
        table_put(&t, cli_pct(cli_num(f, "error_ratio"), a));
        table_put(&t, cli_ms(cli_num(f, "latency_p50"), a));
        table_put(&t, cli_ms(cli_num(f, "latency_p99"), a));
        table_put(&t, cli_pct(cli_num(f, "in_time_ratio"), a));
    }
    buf_putc(out, '\n');
    table_print(&t, has_color, out);
    table_fini(&t);
}

static const char *signal_text(double v, const char *unit, char room[CLI_ROOM])
{
    if (isnan(v))
        return "-";
    snprintf(room, CLI_ROOM, "%.4g%.4s", v, unit);
    return room;
}

/* What applications say: only when the configuration names some. */
void show_signals(const json_t *signals, bool has_color, struct buf *out)
{
    static const char *const heads[] = {"SIGNAL", ">NOW", ">USUAL", ">CHANGE", "BETTER", "STATE"};
    struct table t;
    char text[CLI_ROOM];
    if (json_array_size(signals) == 0)
        return;
    table_init(&t, heads, FB_COUNT(heads));
    for (size_t i = 0; i < json_array_size(signals); i++) {
        const json_t *s = json_array_get(signals, i);
        const char *unit = cli_str(s, "unit");
        double change = cli_num(s, "change");
        table_put(&t, cli_str(s, "name"));
        table_put(&t, signal_text(cli_num(s, "now"), unit, text));
        table_put(&t, signal_text(cli_num(s, "usual"), unit, text));
        snprintf(text, sizeof text, "%+.1f %%", change * 100);
        table_put(&t, isnan(change) ? "-" : text);
        table_put(&t, cli_str(s, "better"));
        table_put(&t, cli_str(s, "state"));
    }
    buf_putc(out, '\n');
    table_print(&t, has_color, out);
    table_fini(&t);
}

/* Lost events and disk errors are in words; when all is well it is one short line. */
static void show_stream(const json_t *stream, struct buf *out)
{
    char a[CLI_ROOM], b[CLI_ROOM], c[CLI_ROOM];
    double lost = cli_num(stream, "events_lost");
    buf_printf(out, "stream    %s events/s, log %s, %s behind", /* a rate, a size, a time */
               cli_count(cli_num(stream, "events_per_s"), a),
               cli_bytes(cli_num(stream, "log_bytes"), b), cli_ms(cli_num(stream, "lag_ms"), c));
    if (lost > 0)
        buf_printf(out, ", %s of %s events lost", cli_count(lost, a),
                   cli_count(lost + cli_num(stream, "events"), b));
    else
        buf_puts(out, ", nothing lost");
    if (cli_is(stream, "is_encrypted"))
        buf_printf(out, ", encrypted with key %.0f", cli_num(stream, "key_id"));
    if (json_object_get(stream, "is_disk_ok") && !cli_is(stream, "is_disk_ok"))
        buf_printf(out, "; DISK: %s", cli_str(stream, "disk_error"));
    buf_putc(out, '\n');
}

static void show_cost(const json_t *cost, struct buf *out)
{
    static const char *const parts[] = {"gateway", "brain", "supervisor"};
    char a[CLI_ROOM], b[CLI_ROOM];
    const char *between = "";
    buf_puts(out, "cost      ");
    for (size_t i = 0; i < FB_COUNT(parts); i++) {
        const json_t *p = json_object_get(cost, parts[i]);
        if (!p)
            continue;
        buf_printf(out, "%s%s %.2f cores %s", between, parts[i], fmax(0, cli_num(p, "cpu_cores")),
                   cli_bytes(cli_num(p, "memory_bytes"), a));
        between = ", ";
    }
    buf_printf(out, "%stick %s\n", between, cli_ms(cli_num(cost, "tick_cpu_ms"), b));
}

static double sum_of(const json_t *counts)
{
    double sum = 0;
    const char *name;
    const json_t *count;
    json_object_foreach((json_t *)(uintptr_t)counts, name, count) sum += json_number_value(count);
    return sum;
}

/* Nothing where TLS was never spoken. */
static void show_tls(const json_t *tls, struct buf *out)
{
    const json_t *certs = json_object_get(tls, "certificates"), *first = NULL, *c;
    double failed = sum_of(json_object_get(tls, "failed"));
    size_t i;
    json_array_foreach(certs, i, c) if (!first || cli_num(c, "days_left") <
                                                      cli_num(first, "days_left")) first = c;
    double done = fmax(0, cli_num(tls, "handshakes"));
    if (!first && done + failed == 0)
        return;
    buf_printf(out, "tls       %.0f handshakes, %.0f of them resumed, %.0f failed", done,
               fmax(0, cli_num(tls, "resumed")), failed);
    if (first)
        buf_printf(out, "; %s ends in %.0f days", cli_str(first, "name"),
                   floor(cli_num(first, "days_left")));
    buf_putc(out, '\n');
}

/* Nothing where HTTP/2 was never spoken. */
static void show_http2(const json_t *protocols, struct buf *out)
{
    const json_t *h2 = json_object_get(protocols, "http2");
    const json_t *requests = json_object_get(protocols, "requests");
    double all = sum_of(requests);
    char a[CLI_ROOM];
    if (!(cli_num(h2, "streams") > 0) && !(cli_num(h2, "connections") > 0))
        return;
    buf_printf(
        out,
        "http2     %s of requests, %.0f connections, %.0f streams at work, %.0f floods ended\n",
        cli_pct(all > 0 ? fmax(0, cli_num(requests, "http2")) / all : NAN, a),
        fmax(0, cli_num(h2, "connections")), fmax(0, cli_num(h2, "streams_open")),
        sum_of(json_object_get(h2, "floods")));
}

void show_summary(const json_t *status, struct buf *out)
{
    const json_t *gateway = json_object_get(status, "gateway");
    const json_t *f = json_object_get(json_object_get(status, "traffic"), "facts");
    char a[CLI_ROOM], b[CLI_ROOM], c[CLI_ROOM], d[CLI_ROOM], e[CLI_ROOM];
    const char *state = cli_is(gateway, "is_draining") ? "draining"
                        : cli_is(status, "is_ready")   ? "ready"
                                                       : "NOT READY";
    buf_printf(out, "foldback %s on %s: %s, up %s, admin %s\n", cli_str(status, "version"),
               cli_str(status, "node"), state,
               cli_ago(cli_num(json_object_get(status, "brain"), "uptime_s"), a),
               cli_str(status, "address"));
    buf_printf(out, "traffic   %s, errors %s, p50 %s, p99 %s, shed %s, %.0f connections\n",
               cli_rate(cli_num(f, "rate"), a), cli_pct(cli_num(f, "error_ratio"), b),
               cli_ms(cli_num(f, "latency_p50"), c), cli_ms(cli_num(f, "latency_p99"), d),
               cli_pct(cli_num(f, "shed_ratio"), e), fmax(0, cli_num(gateway, "connections")));
    show_tls(json_object_get(status, "tls"), out);
    show_http2(json_object_get(status, "protocols"), out);
    show_stream(json_object_get(status, "stream"), out);
    show_cost(json_object_get(status, "cost"), out);
}

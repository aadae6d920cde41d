/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that are legal and do nothing, because another key is as it is: a warning each, with what
 * would make it work.  Silence would leave their author in the belief that they do. */
#include "conf/conf_int.h"

#include <stdarg.h>
#include <stdio.h>

static void check_services(struct reader *rd);
static void check_routes(struct reader *rd);
static void check_zones(struct reader *rd);
static void check_signals(struct reader *rd);
static void check_params(struct reader *rd);

void check_effect(struct reader *rd)
{
    if (rd->report->error_count) /* first things first */
        return;
    check_services(rd);
    check_routes(rd);
    check_zones(rd);
    check_signals(rd);
    check_params(rd);
}

/* Where the line's first word stands. */
static uint32_t column_of(const struct reader *rd, uint32_t line)
{
    struct span rest = {rd->conf->text, rd->conf->text_bytes}, text = rest;
    for (uint32_t i = 0; i < line; i++)
        text = span_cut(rest, '\n', &rest);
    uint32_t column = 0;
    while (column < text.len && (text.at[column] == ' ' || text.at[column] == '-'))
        column++;
    return column + 1;
}

static void warn(struct reader *rd, uint32_t line, const char *fmt, ...) FB_PRINTF(3, 4);
static void warn(struct reader *rd, uint32_t line, const char *fmt, ...)
{
    char text[sizeof((struct conf_problem *)0)->text];
    struct node at = {.line = line, .column = column_of(rd, line)};
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    problem_warn(rd, &at, "%s", text);
}

/* ---- services ---- */

/* Not of a list, a name or SRV records, which may bring any number. */
static bool has_one_endpoint(const struct conf_service *sv)
{
    return sv->endpoint_count == 1 && sv->endpoints[0].kind == CONF_ENDPOINT_ADDRESS;
}

static void check_tcp(struct reader *rd, const struct conf_service *sv, const uint32_t *line)
{
    static const enum conf_key http[] = {KEY_SERVICE_sticky, KEY_SERVICE_host, KEY_SERVICE_protocol,
                                         KEY_SERVICE_load_reports};
    bool is_asked = sv->health.is_on && (sv->health.path[0] || sv->health.grpc);
    for (size_t i = 0; sv->is_tcp && i < FB_COUNT(http); i++) {
        bool is_of_checks = http[i] == KEY_SERVICE_host || http[i] == KEY_SERVICE_protocol;
        if (line[http[i]] && !(is_asked && is_of_checks))
            warn(rd, line[http[i]],
                 "services.%s.%s has no effect: a tcp listener leads here, and connections carry "
                 "no HTTP; remove it",
                 sv->name, conf_key_row(http[i])->name);
    }
}

/* What is asked at another port of the same address. */
static void check_ports(struct reader *rd, const struct conf_service *sv, const uint32_t *line)
{
    const struct conf_endpoint *ep = NULL;
    for (size_t i = 0; !ep && i < sv->endpoint_count; i++)
        if (conf_endpoint_is_unix(&sv->endpoints[i]))
            ep = &sv->endpoints[i];
    if (ep && sv->agent.port)
        warn(rd, line[KEY_SERVICE_agent_check],
             "services.%s.agent_check has no effect on %s: a Unix socket has no ports, so its "
             "agent is not asked; `health` works, or remove it",
             sv->name, ep->host);
    if (ep && sv->health.port)
        warn(rd, line[KEY_SERVICE_health],
             "services.%s.health.port has no effect on %s: a Unix socket has no ports, so it is "
             "checked where it serves; remove it",
             sv->name, ep->host);
}

static void check_services(struct reader *rd)
{
    for (size_t i = 0; i < rd->conf->service_count; i++) {
        const struct conf_service *sv = &rd->conf->services[i];
        const uint32_t *line = rd->private->service_line[i];
        check_tcp(rd, sv, line);
        check_ports(rd, sv, line);
        if (sv->sticky.cookie && has_one_endpoint(sv))
            warn(
                rd, line[KEY_SERVICE_sticky],
                "services.%s.sticky has no effect as long as there is one endpoint: add endpoints, "
                "or remove it",
                sv->name);
        if (line[KEY_SERVICE_eject] && sv->is_ejecting && has_one_endpoint(sv))
            warn(rd, line[KEY_SERVICE_eject],
                 "services.%s.eject has no effect as long as there is one endpoint, which is never "
                 "taken out: add endpoints, or remove it",
                 sv->name);
        for (size_t k = 0; k < sv->endpoint_count; k++) {
            double weight = sv->endpoints[k].weight_pct;
            if (sv->balance != CONF_BALANCE_ROUND_ROBIN || weight == 100 || weight == 0)
                continue;
            warn(rd, line[KEY_SERVICE_endpoints],
                 "services.%s: the weight of %s has no effect with `balance: round-robin`: write "
                 "`balance: weighted`, or remove the weight",
                 sv->name, sv->endpoints[k].host);
            break;
        }
    }
}

/* ---- routes ---- */

/* A route that answers by itself comes to nothing else. */
static void check_own_route(struct reader *rd, const struct conf_route *rt, const uint32_t *line)
{
    for (int k = 0; k < KEY_COUNT; k++) {
        bool is_used = k == KEY_ROUTE_match || k == KEY_ROUTE_redirect || k == KEY_ROUTE_respond ||
                       k == KEY_ROUTE_allow || k == KEY_ROUTE_deny ||
                       k == KEY_ROUTE_response_headers ||
                       (k == KEY_ROUTE_error_pages && /* of the refusal */
                        (line[KEY_ROUTE_allow] || line[KEY_ROUTE_deny]));
        const struct conf_key_row *row = conf_key_row((enum conf_key)k);
        if (row->level == LEVEL_ROUTE && line[k] && !is_used)
            warn(rd, line[k], "%s of %s has no effect: the route answers by itself; remove it",
                 row->name, rt->name);
    }
}

static void check_routes(struct reader *rd)
{
    const struct conf *conf = rd->conf;
    for (size_t i = 0; i < conf->route_count; i++) {
        const struct conf_route *rt = &conf->routes[i];
        const struct conf_service *sv = &conf->services[rt->service];
        const uint32_t *line = rd->private->route_line[i];
        if (conf_route_is_own(rt)) {
            check_own_route(rd, rt, line);
            continue;
        }
        if (line[KEY_ROUTE_hash] && sv->balance != CONF_BALANCE_HASH)
            warn(
                rd, line[KEY_ROUTE_hash],
                "hash of route %s has no effect: write `balance: hash` at service %s, or remove it",
                rt->name, sv->name);
        if (line[KEY_ROUTE_hedge] && rt->hedge == CONF_HEDGE_ON && conf->p.upstream_hedge_pct == 0)
            warn(rd, line[KEY_ROUTE_hedge],
                 "hedge of route %s has no effect with `upstream.hedge_pct: 0`: allow 1..5 %%, or "
                 "remove it",
                 rt->name);
        if (line[KEY_ROUTE_timeout] && rt->deadline_ms && rt->timeout_ms >= rt->deadline_ms)
            warn(rd, line[KEY_ROUTE_timeout],
                 "timeout of route %s has no effect: its deadline of %llums comes first; write a "
                 "shorter timeout, or remove it",
                 rt->name, (unsigned long long)rt->deadline_ms);
        if (rt->concurrency && sv->concurrency && rt->concurrency >= sv->concurrency)
            warn(rd, line[KEY_ROUTE_concurrency],
                 "concurrency of route %s has no effect: service %s as a whole takes %u; write "
                 "less, or remove it",
                 rt->name, sv->name, sv->concurrency);
        if (line[KEY_ROUTE_mirror] && rt->mirror.pct == 0)
            warn(rd, line[KEY_ROUTE_mirror],
                 "mirror of route %s has no effect at 0%%: write a share, or remove it", rt->name);
        for (size_t k = 0; k < rt->rate_count; k++)
            if (rt->rates[k].is_fleet && !conf->p.fleet_connector[0])
                warn(rd, line[KEY_ROUTE_rate_limits],
                     "`scope: fleet` of route %s has no effect, this node counts alone: name the "
                     "way to the others in fleet.connector, or write `scope: node`",
                     rt->name);
    }
}

/* ---- zones ---- */

static uint32_t line_of(const struct reader *rd, const char *section, const char *name)
{
    size_t count;
    const struct conf_param_row *rows = conf_param_rows(&count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].section, section) == 0 && strcmp(rows[i].name, name) == 0)
            return rd->private->param_line[i];
    return 0;
}

static void check_zones(struct reader *rd)
{
    const struct conf *conf = rd->conf;
    bool has_own = conf->p.top_zone[0] != '\0', has_any = false, is_open = false;
    for (size_t i = 0; i < conf->service_count; i++) {
        const struct conf_service *sv = &conf->services[i];
        bool has_here = false;
        for (size_t k = 0; k < sv->endpoint_count; k++) {
            has_here |= sv->endpoints[k].zone[0] != '\0';
            is_open |= sv->endpoints[k].kind == CONF_ENDPOINT_FILE;
        }
        is_open |= sv->endpoint_count == 0; /* the API brings them, perhaps with a zone */
        has_any |= has_here;
        if (has_here && !has_own)
            warn(rd, rd->private->service_line[i][KEY_SERVICE_endpoints],
                 "services.%s: zones of endpoints have no effect: say `zone:` of this node at the "
                 "top level, or remove them",
                 sv->name);
    }
    uint32_t line = line_of(rd, "top", "zone");
    if (line && has_own && !has_any && !is_open)
        warn(rd, line,
             "zone has no effect: no endpoint has one; write { address: HOST:PORT, zone: %s }, or "
             "remove it",
             conf->p.top_zone);
}

/* ---- signals ---- */

static void check_signals(struct reader *rd)
{
    for (size_t i = 0; i < rd->conf->signal_count; i++) {
        const struct conf_signal *sig = &rd->conf->signals[i];
        const char *why;
        (void)conf_signal_split(rd->conf, sig, &why);
        if (why)
            warn(rd, sig->line[KEY_SIGNAL_compare - KEY_SIGNAL_event],
                 "signals.%s.compare has no effect, a release is held against before: %s, or "
                 "remove it",
                 sig->name, why);
    }
}

/* ---- sections ---- */

struct idle { /* keys that do nothing while <is_idle> */
    bool is_idle;
    const char *section, *keys, *why; /* keys: "a|b" */
};

static bool has_names(const struct conf *conf)
{
    for (size_t i = 0; i < conf->service_count; i++)
        for (size_t k = 0; k < conf->services[i].endpoint_count; k++)
            if (conf->services[i].endpoints[k].kind != CONF_ENDPOINT_ADDRESS)
                return true;
    return false;
}

static void check_params(struct reader *rd)
{
    const struct conf *conf = rd->conf;
    const struct conf_params *p = &conf->p;
    bool has_cache = false, has_rates = false, has_tls = false;
    for (size_t i = 0; i < conf->route_count; i++) {
        has_cache |= conf->routes[i].cache.is_on;
        has_rates |= conf->routes[i].rate_count > 0 || conf->routes[i].caps.count > 0;
    }
    for (size_t i = 0; i < conf->listen_count; i++)
        has_tls |= conf->listens[i].tls.is_on;
    bool is_open = strcmp(p->encryption_master_key, "none") == 0 || !p->encryption_master_key[0];
    bool has_statsd =
        strcmp(p->ingest_statsd, "off") != 0 || strcmp(p->ingest_statsd_socket, "off") != 0;
    const struct idle all[] = {
        {!has_cache, "cache", "memory|max_object",
         "no route keeps answers: write `cache: on` at a route"},
        {p->upstream_retries == 0, "upstream", "retry_pct|retry_on",
         "upstream.retries is 0: write 1..3"},
        {p->upstream_retries > 0 && p->upstream_retry_pct == 0, "upstream", "retries|retry_on",
         "upstream.retry_pct is 0, so that there is no budget for a retry: write 1..10"},
        {!p->fleet_connector[0], "fleet", "role|lease|safe_permille|region",
         "fleet.connector is not set: name the way to the other nodes"},
        {p->access_log_format == 0, "access_log", "path|query",
         "access_log.format is off: write combined, json or logfmt"},
        {is_open, "encryption", "rotate_age|rotate_bytes",
         "nothing is encrypted: say encryption.master_key"},
        {!has_tls, "tls", "ticket_rotation|handshakes|expiry_warning",
         "no listener speaks TLS: write `tls:` at one"},
        {!p->tls_renew_exec[0], "tls", "renew_every", "tls.renew_exec is not set: name a program"},
        {p->overload_mode == 0, "overload", "memory|memory_limit|descriptors|delay",
         "overload.mode is off: write observe or act"},
        {!has_rates, "limits", "rate_keys",
         "no route has rate_limits: write some, for example [{ rate: 100/s }]"},
        {!has_statsd, "ingest", "statsd_tags|interval",
         "no StatsD is listened to: say ingest.statsd or ingest.statsd_socket"},
        {!has_names(conf), "dns", "servers", "no endpoint is a name"},
        {strcmp(p->admin_listen, "off") == 0, "admin", "token_file", "admin.listen is off"},
    };
    for (size_t i = 0; i < FB_COUNT(all); i++)
        for (struct span rest = span_of(all[i].keys); all[i].is_idle && rest.len;) {
            struct span key = span_cut(rest, '|', &rest);
            char name[32];
            snprintf(name, sizeof name, "%.*s", SPAN_ARG(key));
            uint32_t line = line_of(rd, all[i].section, name);
            if (line)
                warn(rd, line, "%s.%s has no effect: %s, or remove it", all[i].section, name,
                     all[i].why);
        }
}

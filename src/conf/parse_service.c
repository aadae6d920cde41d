/* SPDX-License-Identifier: Apache-2.0 */
/* services: endpoints, objective, and what the loops may do. */
#include "conf/conf_int.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

static void parse_service(struct reader *rd, const struct node *n, struct conf_service *sv,
                          uint32_t *lines);
static void parse_objective(struct reader *rd, const struct node *n, struct conf_service *sv);
static void parse_tune(struct reader *rd, const struct node *n, struct conf_service *sv);
static void parse_queue(struct reader *rd, const struct node *n, struct conf_service *sv);
static void parse_health(struct reader *rd, const struct node *n, struct conf_service *sv);
static void read_host(struct reader *rd, const struct node *n, const char **out);

static bool is_service_name(struct span s)
{
    if (s.len == 0 || s.len > CONF_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];
        if (c >= 0x80 || (!isalnum(c) && !(i > 0 && (c == '-' || c == '_' || c == '.'))))
            return false;
    }
    return true;
}

void parse_services(struct reader *rd, const struct node *n)
{
    if (!read_is(rd, n, NODE_MAP, "`services: { app: { endpoints: [\"127.0.0.1:3000\"] } }`"))
        return;
    if (n->count == 0 || n->count > KNOB_TARGETS_MAX) {
        problem(rd, n, "services must have 1..%d entries, got %u", KNOB_TARGETS_MAX, n->count);
        return;
    }
    struct conf_service *at = arena_get(rd->keep, n->count * sizeof *at);
    rd->private->service_line = arena_get(rd->keep, n->count * sizeof *rd->private->service_line);
    rd->is_routed = arena_get(&rd->scratch, n->count);
    if (!at || !rd->private->service_line || !rd->is_routed)
        return;
    rd->services_node = n;
    size_t count = 0;
    for (const struct node *k = n->first; k; k = k->next, count++) {
        if (!is_service_name(k->key->text))
            problem(rd, k->key,
                    "a service name is 1..%d letters, digits, `-`, `_` or `.`, got \"%.*s\"",
                    CONF_NAME_BYTES_MAX, SHOWN(k->key->text));
        at[count].name = arena_text(rd->keep, k->key->text);
        parse_service(rd, k, &at[count], rd->private->service_line[count]);
    }
    rd->conf->services = rd->services = at;
    rd->conf->service_count = count;
    if (rd->endpoint_total > KNOB_TARGETS_MAX)
        problem(rd, n, "all services together have %u endpoints; the most is %d",
                rd->endpoint_total, KNOB_TARGETS_MAX);
}

void parse_service_default(struct reader *rd, struct conf_service *sv)
{
    sv->mode = (enum ev_mode)rd->conf->p.top_mode;
    sv->balance = CONF_BALANCE_ADAPTIVE;
    sv->is_ejecting = true;
    sv->has_load_reports = true;
    sv->host_header = "";
    sv->tls = (struct conf_tls_out){.ca = "", .name = "", .cert = "", .key = ""};
    sv->health = (struct conf_health){
        .path = "", .host = "", .interval_ms = 5000, .timeout_ms = 2000, .rise = 2, .fall = 3};
    for (int k = 0; k < KNOB_COUNT; k++)
        sv->tune[k] = (struct conf_tune){.mode = -1, .value = NAN, .min = NAN, .max = NAN};
}

/* https://, `tls` and `protocol` must say the same. */
static void service_tls(struct reader *rd, const struct node *n, struct conf_service *sv,
                        const uint32_t *lines)
{
    size_t tls_count = 0;
    for (size_t i = 0; i < sv->endpoint_count; i++)
        tls_count += sv->endpoints[i].is_tls;
    if (tls_count && tls_count < sv->endpoint_count && !sv->tls.is_on)
        problem(rd, n->key,
                "services.%.*s: some endpoints are https:// and some are not; TLS is for all "
                "endpoints of a service: write https:// everywhere, or `tls: on`",
                SHOWN(n->key->text));
    if (tls_count && lines[KEY_SERVICE_tls] && !sv->tls.is_on)
        problem(rd, n->key, "services.%.*s has https:// endpoints and `tls: off`: remove one",
                SHOWN(n->key->text));
    if (tls_count)
        sv->tls.is_on = true;
    if (sv->health.grpc && sv->protocol != CONF_PROTOCOL_H2 && sv->protocol != CONF_PROTOCOL_H2C)
        problem(rd, n->key,
                "services.%.*s has a health check by `grpc`, which is HTTP/2: add `protocol: h2c`, "
                "or `protocol: h2` over TLS",
                SHOWN(n->key->text));
    if (sv->protocol == CONF_PROTOCOL_H2 && !sv->tls.is_on)
        problem(rd, n->key,
                "services.%.*s has `protocol: h2`, which is over TLS: add `tls: on`, or write "
                "`protocol: h2c`",
                SHOWN(n->key->text));
    if (sv->protocol == CONF_PROTOCOL_AUTO && !sv->tls.is_on)
        problem(rd, n->key,
                "services.%.*s has `protocol: auto`, which asks by ALPN, over TLS: add `tls: on`, "
                "or write `protocol: http1` or `protocol: h2c`",
                SHOWN(n->key->text));
    if (sv->protocol == CONF_PROTOCOL_H2C && sv->tls.is_on)
        problem(rd, n->key,
                "services.%.*s has `protocol: h2c`, which is without TLS: write `protocol: h2`",
                SHOWN(n->key->text));
}

static void parse_service(struct reader *rd, const struct node *n, struct conf_service *sv,
                          uint32_t *lines)
{
    int word;
    parse_service_default(rd, sv);
    if (!read_is(rd, n, NODE_MAP, "{ endpoints: [\"127.0.0.1:3000\"] }"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        int key = read_key(rd, k, LEVEL_SERVICE);
        if (key < 0)
            continue;
        lines[key] = k->line;
        switch (key) {
        case KEY_SERVICE_endpoints:
            parse_endpoints(rd, k, sv);
            break;
        case KEY_SERVICE_objective:
            parse_objective(rd, k, sv);
            break;
        case KEY_SERVICE_mode:
            if (read_word(rd, k, conf_key_row(KEY_SERVICE_mode)->words, &word))
                sv->mode = (enum ev_mode)word;
            break;
        case KEY_SERVICE_balance:
            if (read_word(rd, k, conf_key_row(KEY_SERVICE_balance)->words, &word))
                sv->balance = (enum conf_balance)word;
            break;
        case KEY_SERVICE_tune:
            parse_tune(rd, k, sv);
            break;
        case KEY_SERVICE_queue:
            parse_queue(rd, k, sv);
            break;
        case KEY_SERVICE_success_floor:
            parse_success_floor(rd, k, sv);
            break;
        case KEY_SERVICE_concurrency:
            parse_caps(rd, k, KEY_SERVICE_concurrency, &sv->concurrency, &sv->caps);
            break;
        case KEY_SERVICE_health:
            parse_health(rd, k, sv);
            break;
        case KEY_SERVICE_protocol:
            if (read_word(rd, k, conf_key_row(KEY_SERVICE_protocol)->words, &word))
                sv->protocol = (enum conf_protocol)word;
            break;
        case KEY_SERVICE_proxy_protocol:
            if (read_word(rd, k, conf_key_row(KEY_SERVICE_proxy_protocol)->words, &word))
                sv->proxy_version = (uint8_t)word;
            break;
        case KEY_SERVICE_sticky:
            parse_sticky(rd, k, &sv->sticky);
            break;
        case KEY_SERVICE_agent_check:
            parse_agent(rd, k, &sv->agent);
            break;
        case KEY_SERVICE_load_reports:
            read_bool(rd, k, &sv->has_load_reports);
            break;
        case KEY_SERVICE_eject:
            read_bool(rd, k, &sv->is_ejecting);
            break;
        case KEY_SERVICE_tls:
            parse_tls_out(rd, k, &sv->tls);
            break;
        case KEY_SERVICE_region:
            parse_region(rd, k, &sv->region);
            break;
        case KEY_SERVICE_host:
            read_host(rd, k, &sv->host_header);
            break;
        default:
            break;
        }
    }
    service_tls(rd, n, sv, lines);
    parse_caps_name(&sv->caps, "service", sv->name);
    if (!lines[KEY_SERVICE_endpoints])
        problem(rd, n->key, "services.%.*s has no endpoints: add `endpoints: [\"127.0.0.1:3000\"]`",
                SHOWN(n->key->text));
}

/* ---- endpoints ---- */

static void endpoint_address(struct reader *rd, const struct node *n, const char *service,
                             struct conf_endpoint *ep)
{
    struct span s, host;
    char path[NODE_PATH_BYTES];
    bool is_dns = false;
    if (!read_scalar(rd, n, &s) || parse_discovery(rd, n, ep))
        return;
    node_path(n, path);
    if (span_starts(s, SPAN("dns://"))) {
        is_dns = true;
        s = (struct span){s.at + 6, s.len - 6};
    } else if (span_starts(s, SPAN("http://"))) {
        s = (struct span){s.at + 7, s.len - 7};
        if (s.len && s.at[s.len - 1] == '/')
            s.len--;
    } else if (span_starts(s, SPAN("https://"))) {
        s = (struct span){s.at + 8, s.len - 8};
        if (s.len && s.at[s.len - 1] == '/')
            s.len--;
        ep->is_tls = true;
    } else if (!span_starts(s, SPAN("unix:")) && memmem(s.at, s.len, "://", 3)) {
        problem(rd, n,
                "%s: \"%.*s\" is not in this version yet; write HOST:PORT, unix:/PATH, "
                "dns://NAME:PORT, dns+srv://NAME or file://PATH",
                path, SHOWN(s));
        return;
    }
    if (!is_dns && parse_unix(rd, n, s, service, ep))
        return;
    uint16_t port = 443;
    bool is_bare = ep->is_tls && (value_is_name(s) || value_is_number_host(s));
    if (is_bare)
        host = s;
    else if (!value_address(s, &host, &port) || port == 0) {
        problem(rd, n, "%s must be HOST:PORT with a port of 1..65535, or unix:/PATH, got \"%.*s\"",
                path, SHOWN(n->text));
        return;
    }
    if (host.len == 0)
        host = SPAN("127.0.0.1"); /* ":3000" is the port of a program on this machine */
    bool is_number = value_is_number_host(host);
    if (!is_number && !value_is_name(host)) {
        problem(rd, n, "%s: \"%.*s\" is neither an IP address nor a host name", path, SHOWN(host));
        return;
    }
    if (is_dns && is_number) {
        problem(rd, n, "%s: dns:// is for names; write %.*s without it", path, SHOWN(s));
        return;
    }
    ep->kind = is_number ? CONF_ENDPOINT_ADDRESS : CONF_ENDPOINT_DNS;
    ep->port = port;
    snprintf(ep->host, sizeof ep->host, "%.*s", SPAN_ARG(host));
    if (!is_number)
        for (char *c = ep->host; *c; c++)
            *c = (char)tolower((unsigned char)*c);
}

static void endpoint_weight(struct reader *rd, const struct node *n, struct conf_endpoint *ep)
{
    struct span s;
    char path[NODE_PATH_BYTES];
    double pct;
    if (!read_scalar(rd, n, &s))
        return;
    enum value_fault fault = value_pct(s, &pct);
    uint64_t times; /* `weight=3` of others is three times the share of one without a weight */
    if (fault == VALUE_NO_UNIT && span_to_u64(s, &times) && times >= 1 && times <= 10)
        problem(rd, n, "%s needs a unit, got \"%.*s\"; write %u00%% for %u x an even share",
                node_path(n, path), SHOWN(s), (unsigned)times, (unsigned)times);
    else if (fault == VALUE_NO_UNIT)
        problem(rd, n, "%s needs a unit, got \"%.*s\"; write %.*s%% (100%% is even)",
                node_path(n, path), SHOWN(s), SHOWN(s));
    else if (fault != VALUE_OK || pct > 1000)
        problem(rd, n, "%s must be 0%%..1000%%, got \"%.*s\"", node_path(n, path), SHOWN(s));
    else
        ep->weight_pct = pct;
}

static void endpoint_map(struct reader *rd, const struct node *n, const char *service,
                         struct conf_endpoint *ep)
{
    bool has_address = false;
    struct span s;
    for (const struct node *k = n->first; k; k = k->next) {
        int key = read_key(rd, k, LEVEL_ENDPOINT);
        switch (key) {
        case KEY_ENDPOINT_address:
            has_address = true;
            endpoint_address(rd, k, service, ep);
            break;
        case KEY_ENDPOINT_version:
            if (!read_scalar(rd, k, &s))
                break;
            if (!is_service_name(s) || s.len >= sizeof ep->version)
                problem(rd, k,
                        "version must be 1..31 letters, digits, `-`, `_` or `.`, got \"%.*s\"",
                        SHOWN(s));
            else
                snprintf(ep->version, sizeof ep->version, "%.*s", SPAN_ARG(s));
            break;
        case KEY_ENDPOINT_weight:
            endpoint_weight(rd, k, ep);
            break;
        default:
            parse_endpoint_place(rd, k, key, ep);
            break;
        }
    }
    if (!has_address)
        problem(
            rd, n,
            "an endpoint needs `address`, for example { address: \"10.0.0.1:80\", weight: 50%% }");
}

void parse_endpoints(struct reader *rd, const struct node *n, struct conf_service *sv)
{
    char path[NODE_PATH_BYTES];
    if (!read_is(rd, n, NODE_LIST, "[\"127.0.0.1:3000\"]"))
        return;
    if (n->count == 0) {
        node_path(n, path);
        if (rd->is_list)
            problem(rd, n, "%s is empty: a service needs at least one endpoint", path);
        else
            problem_warn(rd, n,
                         "%s is empty: requests get 503 until `foldback endpoint add` brings one",
                         path);
        return;
    }
    rd->endpoint_total += n->count;
    if (n->count > KNOB_TARGETS_MAX)
        return; /* reported once for all services */
    struct conf_endpoint *at = arena_get(rd->keep, n->count * sizeof *at);
    if (!at)
        return;
    size_t count = 0;
    for (const struct node *k = n->first; k; k = k->next, count++) {
        at[count].weight_pct = 100;
        if (k->kind == NODE_MAP)
            endpoint_map(rd, k, sv->name, &at[count]);
        else
            endpoint_address(rd, k, sv->name, &at[count]);
        for (size_t i = 0; i < count; i++)
            if (*at[count].host && at[i].kind == at[count].kind && at[i].port == at[count].port &&
                strcmp(at[i].host, at[count].host) == 0)
                problem(rd, k, "%s is the same endpoint as number %zu: remove one",
                        node_path(k, path), i + 1);
    }
    sv->endpoints = at;
    sv->endpoint_count = count;
}

/* ---- objective ---- */

/* "< X" of <s>; the part before '<' in *before. */
static bool below(struct span s, struct span *before, struct span *bound)
{
    struct span rest;
    if (!s.len || !memchr(s.at, '<', s.len))
        return false;
    *before = span_trim(span_cut(s, '<', &rest));
    *bound = span_trim(rest);
    return true;
}

static void objective_latency(struct reader *rd, const struct node *n, struct conf_service *sv)
{
    struct span s, quantile, bound;
    double pct = 0;
    uint64_t us = 0;
    char path[NODE_PATH_BYTES];
    if (!read_scalar(rd, n, &s))
        return;
    node_path(n, path);
    if (!below(s, &quantile, &bound) || value_pct(quantile, &pct) != VALUE_OK) {
        problem(rd, n, "%s must look like `99%% < 250ms`, got \"%.*s\"", path, SHOWN(s));
        return;
    }
    if (pct < 50 || pct > 99.99) {
        problem(rd, n, "%s: the share must be 50%%..99.99%%, got %.*s", path, SHOWN(quantile));
        return;
    }
    enum value_fault fault = value_dur_us(bound, &us);
    if (fault == VALUE_NO_UNIT) {
        problem(rd, n, "%s: the bound needs a unit, got \"%.*s\"; write %.*sms", path, SHOWN(bound),
                SHOWN(bound));
        return;
    }
    if (fault != VALUE_OK || us < 100 || us > 600 * US_PER_S) {
        problem(rd, n, "%s: the bound must be 100us..10m, got \"%.*s\"", path, SHOWN(bound));
        return;
    }
    sv->latency_quantile = pct / 100;
    sv->latency_us = us;
}

static void objective_errors(struct reader *rd, const struct node *n, struct conf_service *sv)
{
    struct span s, before, bound;
    double pct = 0;
    char path[NODE_PATH_BYTES];
    if (!read_scalar(rd, n, &s))
        return;
    node_path(n, path);
    if (!below(s, &before, &bound) || before.len || value_pct(bound, &pct) != VALUE_OK)
        problem(rd, n, "%s must look like `< 0.1%%`, got \"%.*s\"", path, SHOWN(s));
    else if (pct < 0.001 || pct > 50)
        problem(rd, n, "%s must be 0.001%%..50%%, got %.*s", path, SHOWN(bound));
    else
        sv->error_ratio_max = pct / 100;
}

static void parse_objective(struct reader *rd, const struct node *n, struct conf_service *sv)
{
    if (!read_is(rd, n, NODE_MAP, "{ latency: 99% < 250ms, errors: < 0.1% }"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_OBJECTIVE)) {
        case KEY_OBJECTIVE_latency:
            objective_latency(rd, k, sv);
            break;
        case KEY_OBJECTIVE_errors:
            objective_errors(rd, k, sv);
            break;
        default:
            break;
        }
    }
}

/* ---- tune ---- */

enum knob_id parse_knob_of_key(struct span key)
{
    for (uint16_t k = 0; k < KNOB_COUNT; k++) {
        const struct knob_row *row = knob_row(k);
        const char *loop = loop_row((uint16_t)row->loop)->name;
        bool is_lower = true;
        for (size_t i = 0; i < key.len; i++)
            is_lower &= !isupper((unsigned char)key.at[i]);
        if (row->loop != LOOP_NONE && is_lower && span_ieq(key, span_of(loop)))
            return (enum knob_id)k;
    }
    return KNOB_COUNT;
}

/* A value in the unit of the knob: ms wants a duration, % a percentage, others are plain numbers.
 */
static bool knob_value(struct reader *rd, const struct node *n, const struct knob_row *row,
                       double *out)
{
    struct span s;
    char path[NODE_PATH_BYTES];
    uint64_t us = 0;
    double value = 0;
    enum value_fault fault;
    const char *unit = "";
    if (!read_scalar(rd, n, &s))
        return false;
    if (strcmp(row->unit, "ms") == 0) {
        fault = value_dur_us(s, &us);
        value = (double)us / 1000;
        unit = "ms";
    } else if (strcmp(row->unit, "%") == 0) {
        fault = value_pct(s, &value);
        unit = "%";
    } else {
        fault = value_number(s, &value);
    }
    node_path(n, path);
    if (fault == VALUE_NO_UNIT) {
        problem(rd, n, "%s needs a unit, got \"%.*s\"; write %.*s%s", path, SHOWN(s), SHOWN(s),
                unit);
        return false;
    }
    if (fault != VALUE_OK || value < row->min || value > row->max) {
        problem(rd, n, "%s must be %g%s..%g%s, got \"%.*s\"", path, row->min, unit, row->max, unit,
                SHOWN(s));
        return false;
    }
    *out = value;
    return true;
}

bool parse_tune_item(struct reader *rd, const struct node *n, enum knob_id knob,
                     struct conf_tune *tune)
{
    const struct knob_row *row = knob_row((uint16_t)knob);
    const char *modes = conf_key_row(KEY_TUNE_mode)->words;
    char path[NODE_PATH_BYTES];
    size_t errors = rd->report->error_count;
    if (n->kind == NODE_SCALAR)
        return read_word(rd, n, modes, &tune->mode);
    if (!read_is(rd, n, NODE_MAP, "recommend, or { mode: act, min: 8, max: 512 }"))
        return false;
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_TUNE)) {
        case KEY_TUNE_mode:
            read_word(rd, k, modes, &tune->mode);
            break;
        case KEY_TUNE_min:
            knob_value(rd, k, row, &tune->min);
            break;
        case KEY_TUNE_max:
            knob_value(rd, k, row, &tune->max);
            break;
        case KEY_TUNE_value:
            knob_value(rd, k, row, &tune->value);
            break;
        default:
            break;
        }
    }
    node_path(n, path);
    if (tune->min > tune->max)
        problem(rd, n, "%s: min (%g) is more than max (%g)", path, tune->min, tune->max);
    else if (tune->value < tune->min || tune->value > tune->max)
        problem(rd, n, "%s: value (%g) is outside min and max", path, tune->value);
    return rd->report->error_count == errors;
}

static void parse_tune(struct reader *rd, const struct node *n, struct conf_service *sv)
{
    if (!read_is(rd, n, NODE_MAP, "{ limit: { min: 8, max: 512 }, timeout: recommend }"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        enum knob_id knob = parse_knob_of_key(k->key->text);
        if (knob != KNOB_COUNT) {
            parse_tune_item(rd, k, knob, &sv->tune[knob]);
            continue;
        }
        struct near near = {.word = k->key->text};
        char names[KNOB_COUNT][32], list[160] = "";
        size_t len = 0;
        for (uint16_t i = 0; i < KNOB_COUNT; i++) {
            const struct knob_row *row = knob_row(i);
            if (row->loop == LOOP_NONE)
                continue;
            snprintf(names[i], sizeof names[i], "%s", loop_row((uint16_t)row->loop)->name);
            for (char *c = names[i]; *c; c++)
                *c = (char)tolower((unsigned char)*c);
            near_try(&near, names[i]);
            len +=
                (size_t)snprintf(list + len, sizeof list - len, "%s%s", len ? ", " : "", names[i]);
        }
        problem(rd, k->key, "tune has no loop `%.*s`; %s%s%s", SHOWN(k->key->text),
                near.best ? "did you mean `" : "there are ", near.best ? near.best : list,
                near.best ? "`?" : "");
    }
}

/* ---- queue, health ---- */

static void parse_queue(struct reader *rd, const struct node *n, struct conf_service *sv)
{
    bool is_on;
    uint64_t value;
    if (n->kind == NODE_SCALAR && !n->is_empty && value_bool(n->text, &is_on) == VALUE_OK) {
        sv->is_queue_off = !is_on;
        return;
    }
    if (!read_is(rd, n, NODE_MAP, "off, or { wait: 100ms, capacity: 200 }"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        int key = read_key(rd, k, LEVEL_QUEUE);
        if (key < 0 || !read_key_number(rd, k, (enum conf_key)key, &value))
            continue;
        if (key == KEY_QUEUE_wait)
            sv->queue_wait_max_ms = value;
        else
            sv->queue_capacity = (uint32_t)value;
    }
}

static bool health_path(struct reader *rd, const struct node *n, struct conf_service *sv)
{
    struct span s;
    if (!read_scalar(rd, n, &s))
        return false;
    bool is_good = s.len > 0 && s.len <= CONF_HEALTH_PATH_MAX && s.at[0] == '/';
    for (size_t i = 0; i < s.len; i++)
        is_good &= s.at[i] > ' ' && s.at[i] < 0x7f && s.at[i] != '#';
    if (!is_good) {
        problem(rd, n,
                "health path must begin with /, hold no blanks and have at most %d bytes, got "
                "\"%.*s\"",
                CONF_HEALTH_PATH_MAX, SHOWN(s));
        return false;
    }
    sv->health.path = arena_text(rd->keep, s);
    return true;
}

/* What stands in a Host field. */
static void read_host(struct reader *rd, const struct node *n, const char **out)
{
    struct span host, s;
    uint16_t port;
    if (read_str(rd, n, out) && (s = n->text, !value_is_name(s) && !value_is_number_host(s)) &&
        (!value_address(s, &host, &port) || (!value_is_name(host) && !value_is_number_host(host))))
        problem(rd, n, "host must be a host name, with a port if need be, got \"%.*s\"", SHOWN(s));
}

/* on, or "pkg.Service". */
static void health_grpc(struct reader *rd, const struct node *n, struct conf_health *h)
{
    struct span s;
    bool is_on;
    if (!read_scalar(rd, n, &s))
        return;
    if (value_bool(s, &is_on) == VALUE_OK) {
        h->grpc = is_on ? "" : NULL;
        return;
    }
    if (s.len > CONF_HEALTH_GRPC_MAX || !value_is_name(s)) {
        problem(rd, n,
                "grpc must be on, or the name of a gRPC service such as shop.Cart, got \"%.*s\"",
                SHOWN(s));
        return;
    }
    h->grpc = arena_text(rd->keep, s);
}

static void parse_health(struct reader *rd, const struct node *n, struct conf_service *sv)
{
    struct conf_health *h = &sv->health;
    uint64_t value;
    bool is_on;
    if (n->kind == NODE_SCALAR && !n->is_empty) {
        if (value_bool(n->text, &is_on) == VALUE_OK)
            h->is_on = is_on;
        else
            h->is_on = health_path(rd, n, sv);
        return;
    }
    if (!read_is(rd, n, NODE_MAP, "off, /health, or { path: /health, interval: 5s }"))
        return;
    h->is_on = true;
    for (const struct node *k = n->first; k; k = k->next) {
        int key = read_key(rd, k, LEVEL_HEALTH);
        if (key == KEY_HEALTH_path)
            health_path(rd, k, sv);
        if (key == KEY_HEALTH_host)
            read_host(rd, k, &h->host);
        if (key == KEY_HEALTH_grpc)
            health_grpc(rd, k, h);
        if (key < 0 || key == KEY_HEALTH_path || key == KEY_HEALTH_host || key == KEY_HEALTH_grpc ||
            !read_key_number(rd, k, (enum conf_key)key, &value))
            continue;
        if (key == KEY_HEALTH_port)
            h->port = (uint16_t)value;
        else if (key == KEY_HEALTH_interval)
            h->interval_ms = value;
        else if (key == KEY_HEALTH_timeout)
            h->timeout_ms = value;
        else if (key == KEY_HEALTH_rise)
            h->rise = (uint32_t)value;
        else
            h->fall = (uint32_t)value;
    }
    if (h->grpc && h->path[0])
        problem(rd, n, "a health check has `grpc` or `path`, not both; remove one of the two");
    if (h->timeout_ms > h->interval_ms)
        h->timeout_ms = h->interval_ms; /* one check at a time per endpoint */
}

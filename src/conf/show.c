/* SPDX-License-Identifier: Apache-2.0 */
/* What is in force and where it comes from; the text of `run --to`; what a reload cannot do. */
#include "base/json.h"
#include "conf/conf_int.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

/* ---- config show ---- */

struct show {
    const struct conf *conf;
    struct buf *out;
    struct json json;
    struct span waiting; /* conf_show_running */
    bool is_json;
    char prefix[96]; /* "services.shop." */
};

static void show_begin(struct show *s)
{
    const char *file = *s->conf->file ? s->conf->file : "(command line)";
    if (!s->is_json) {
        buf_printf(s->out, "# %s, hash %016llx\n", file, (unsigned long long)s->conf->hash);
        return;
    }
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)s->conf->hash);
    json_init(&s->json, s->out);
    json_object_begin(&s->json);
    json_key_str(&s->json, "file", file);
    json_key_str(&s->json, "hash", hash);
    json_key(&s->json, "values");
    json_array_begin(&s->json);
}

/* What is in force of <key> while <waits> does not. */
static bool is_waiting(struct span lines, const char *key, struct span *in_force,
                       struct span *waits)
{
    while (lines.len) {
        struct span line = span_cut(lines, '\n', &lines);
        if (!span_eq(span_cut(line, '\t', &line), span_of(key)))
            continue;
        *in_force = span_cut(line, '\t', waits);
        return true;
    }
    return false;
}

/* One value; <line> 0 is the default. */
static void show_value(struct show *s, const char *key, const char *value, uint32_t line)
{
    char full[160], source[32] = "default", old[400];
    struct span in_force = {"", 0}, waits = {"", 0};
    snprintf(full, sizeof full, "%s%s", s->prefix, key);
    bool is_late = is_waiting(s->waiting, full, &in_force, &waits);
    if (is_late) {
        snprintf(old, sizeof old, "%.*s", SPAN_ARG(in_force));
        value = old;
    }
    if (line)
        snprintf(source, sizeof source, "line %u", line);
    if (!s->is_json) {
        buf_printf(s->out, "%-40s %-28s # %s%s%.*s\n", full, *value ? value : "\"\"", source,
                   is_late ? ", waits for the next start: " : "", SPAN_ARG(waits));
        return;
    }
    json_object_begin(&s->json);
    json_key_str(&s->json, "key", full);
    json_key_str(&s->json, "value", value);
    if (is_late) {
        json_key(&s->json, "waiting");
        json_span(&s->json, waits);
    }
    json_key_str(&s->json, "source", line ? "file" : "default");
    if (line)
        json_key_u64(&s->json, "line", line);
    json_object_end(&s->json);
}

static void show_number(struct show *s, const char *key, enum conf_type type, uint64_t number,
                        uint32_t line)
{
    struct buf text;
    buf_init(&text, 64);
    value_print(type, number, &text);
    show_value(s, key, buf_str(&text), line);
    buf_fini(&text);
}

static void show_word(struct show *s, const char *key, enum conf_key row, int index, uint32_t line)
{
    char text[32];
    struct span rest = span_of(conf_key_row(row)->words), word = {"", 0};
    for (int i = 0; i <= index; i++)
        word = span_cut(rest, '|', &rest);
    snprintf(text, sizeof text, "%.*s", SPAN_ARG(word));
    show_value(s, key, text, line);
}

static void show_tune(struct show *s, enum knob_id knob, const struct conf_tune *t, uint32_t line)
{
    const struct knob_row *row = knob_row((uint16_t)knob);
    const char *unit = strcmp(row->unit, "ms") == 0 || strcmp(row->unit, "%") == 0 ? row->unit : "";
    char loop[24], key[64], text[48];
    snprintf(loop, sizeof loop, "%s", loop_row((uint16_t)row->loop)->name);
    for (char *c = loop; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    if (t->mode >= 0) {
        snprintf(key, sizeof key, "tune.%s.mode", loop);
        show_word(s, key, KEY_TUNE_mode, t->mode, line);
    }
    const struct {
        const char *name;
        double value;
    } parts[] = {{"min", t->min}, {"max", t->max}, {"value", t->value}};
    for (size_t i = 0; i < FB_COUNT(parts); i++) {
        if (isnan(parts[i].value))
            continue;
        snprintf(key, sizeof key, "tune.%s.%s", loop, parts[i].name);
        snprintf(text, sizeof text, "%.10g%s", parts[i].value, unit);
        show_value(s, key, text, line);
    }
}

static void show_endpoints(struct show *s, const struct conf_service *sv, uint32_t line)
{
    char key[64], text[400];
    for (size_t i = 0; i < sv->endpoint_count; i++) {
        const struct conf_endpoint *ep = &sv->endpoints[i];
        bool is_v6 = strchr(ep->host, ':') != NULL;
        snprintf(key, sizeof key, "endpoints[%zu].address", i);
        if (ep->kind == CONF_ENDPOINT_SRV || ep->kind == CONF_ENDPOINT_FILE)
            snprintf(text, sizeof text, "%s%s",
                     ep->kind == CONF_ENDPOINT_SRV ? "dns+srv://" : "file://", ep->host);
        else if (conf_endpoint_is_unix(ep))
            snprintf(text, sizeof text, "%s%s", ep->is_tls ? "https://" : "", ep->host);
        else
            snprintf(text, sizeof text, "%s%s%s%s:%u",
                     ep->is_tls                      ? "https://"
                     : ep->kind == CONF_ENDPOINT_DNS ? "dns://"
                                                     : "",
                     is_v6 ? "[" : "", ep->host, is_v6 ? "]" : "", ep->port);
        show_value(s, key, text, line);
        if (*ep->version) {
            snprintf(key, sizeof key, "endpoints[%zu].version", i);
            show_value(s, key, ep->version, line);
        }
        if (*ep->zone) {
            snprintf(key, sizeof key, "endpoints[%zu].zone", i);
            show_value(s, key, ep->zone, line);
        }
        if (ep->is_backup) {
            snprintf(key, sizeof key, "endpoints[%zu].backup", i);
            show_value(s, key, "true", line);
        }
        if (ep->in_flight_max) {
            snprintf(key, sizeof key, "endpoints[%zu].max_in_flight", i);
            show_number(s, key, CONF_TYPE_u32, ep->in_flight_max, line);
        }
        if (ep->weight_pct != 100) {
            snprintf(key, sizeof key, "endpoints[%zu].weight", i);
            snprintf(text, sizeof text, "%.10g%%", ep->weight_pct);
            show_value(s, key, text, line);
        }
    }
}

static void show_tls(struct show *s, const char *listen, const struct conf_tls *tls, uint32_t line)
{
    char key[128];
    if (!tls->is_on)
        return;
    if (tls->is_internal) {
        snprintf(key, sizeof key, "%s.tls", listen);
        show_value(s, key, "internal", line);
        return;
    }
    for (size_t i = 0; i < tls->cert_count; i++) {
        const struct conf_cert *c = &tls->certs[i];
        const char *const parts[][2] = {{"cert", c->cert}, {"key", c->key}, {"ocsp", c->ocsp}};
        for (size_t k = 0; k < FB_COUNT(parts); k++) {
            if (!parts[k][1][0])
                continue;
            snprintf(key, sizeof key, "%s.tls.certs[%zu].%s", listen, i, parts[k][0]);
            show_value(s, key, parts[k][1], line);
        }
    }
    snprintf(key, sizeof key, "%s.tls.min_version", listen);
    show_word(s, key, KEY_TLS_min_version, tls->is_13_only, line);
    snprintf(key, sizeof key, "%s.tls.verify", listen);
    show_word(s, key, KEY_TLS_verify, (int)tls->verify, line);
    if (tls->client_ca[0]) {
        snprintf(key, sizeof key, "%s.tls.client_ca", listen);
        show_value(s, key, tls->client_ca, line);
    }
    if (tls->ciphers[0]) {
        snprintf(key, sizeof key, "%s.tls.ciphers", listen);
        show_value(s, key, tls->ciphers, line);
    }
}

static void show_tls_out(struct show *s, const struct conf_tls_out *tls, uint32_t line)
{
    if (!tls->is_on) {
        show_value(s, "tls", "off", line);
        return;
    }
    const char *const parts[][2] = {{"tls.ca", tls->ca},
                                    {"tls.name", tls->name},
                                    {"tls.cert", tls->cert},
                                    {"tls.key", tls->key}};
    show_value(s, "tls.verify", tls->is_unverified ? "false" : "true", line);
    for (size_t i = 0; i < FB_COUNT(parts); i++)
        if (parts[i][1][0])
            show_value(s, parts[i][0], parts[i][1], line);
}

static void show_caps(struct show *s, uint32_t all, const struct conf_caps *caps, uint32_t line)
{
    char key[48];
    if (all)
        show_number(s, "concurrency", CONF_TYPE_u32, all, line);
    for (uint8_t i = 0; i < caps->count; i++) {
        const struct conf_cap *c = &caps->at[i];
        snprintf(key, sizeof key, "concurrency[%u].max", i);
        show_number(s, key, CONF_TYPE_u32, c->most, line);
        snprintf(key, sizeof key, "concurrency[%u].by", i);
        show_value(s, key, c->who.text, line);
        snprintf(key, sizeof key, "concurrency[%u].status", i);
        show_number(s, key, CONF_TYPE_u32, c->status, line);
    }
}

static void show_sticky(struct show *s, const struct conf_sticky *st, uint32_t line)
{
    if (!st->cookie)
        return;
    show_value(s, "sticky.cookie", st->cookie, line);
    if (st->ttl_ms)
        show_number(s, "sticky.ttl", CONF_TYPE_dur, st->ttl_ms, line);
    show_value(s, "sticky.path", st->path, line);
    show_word(s, "sticky.secure", KEY_STICKY_secure, (int)st->secure, line);
    show_value(s, "sticky.http_only", st->is_http_only ? "true" : "false", line);
    show_word(s, "sticky.same_site", KEY_STICKY_same_site, (int)st->same_site, line);
    if (*st->secret_file)
        show_value(s, "sticky.secret_file", st->secret_file, line);
}

static void show_service(struct show *s, const struct conf_service *sv, const uint32_t *lines)
{
    char text[64];
    uint32_t line = lines[KEY_SERVICE_objective];
    show_endpoints(s, sv, lines[KEY_SERVICE_endpoints]);
    if (sv->latency_us) {
        if (sv->latency_us % 1000)
            snprintf(text, sizeof text, "%.10g%% < %lluus", sv->latency_quantile * 100,
                     (unsigned long long)sv->latency_us);
        else
            snprintf(text, sizeof text, "%.10g%% < %llums", sv->latency_quantile * 100,
                     (unsigned long long)sv->latency_us / 1000);
        show_value(s, "objective.latency", text, line);
    }
    if (sv->error_ratio_max > 0) {
        snprintf(text, sizeof text, "< %.10g%%", sv->error_ratio_max * 100);
        show_value(s, "objective.errors", text, line);
    }
    show_word(s, "mode", KEY_SERVICE_mode, (int)sv->mode, lines[KEY_SERVICE_mode]);
    show_word(s, "balance", KEY_SERVICE_balance, (int)sv->balance, lines[KEY_SERVICE_balance]);
    for (int k = 0; k < KNOB_COUNT; k++)
        if (knob_row((uint16_t)k)->name)
            show_tune(s, (enum knob_id)k, &sv->tune[k], lines[KEY_SERVICE_tune]);
    line = lines[KEY_SERVICE_queue];
    if (sv->is_queue_off) {
        show_value(s, "queue", "off", line);
    } else {
        if (sv->queue_wait_max_ms)
            show_number(s, "queue.wait", CONF_TYPE_dur, sv->queue_wait_max_ms, line);
        else
            show_value(s, "queue.wait", "auto", line);
        if (sv->queue_capacity)
            show_number(s, "queue.capacity", CONF_TYPE_u32, sv->queue_capacity, line);
        else
            show_value(s, "queue.capacity", "auto", line);
    }
    show_caps(s, sv->concurrency, &sv->caps, lines[KEY_SERVICE_concurrency]);
    line = lines[KEY_SERVICE_health];
    if (sv->health.is_on) {
        if (sv->health.grpc)
            show_value(s, "health.grpc", sv->health.grpc[0] ? sv->health.grpc : "on", line);
        else if (sv->health.path[0] || !sv->is_tcp)
            show_value(s, "health.path", sv->health.path[0] ? sv->health.path : "/", line);
        if (sv->health.host[0])
            show_value(s, "health.host", sv->health.host, line);
        if (sv->health.port)
            show_number(s, "health.port", CONF_TYPE_u32, sv->health.port, line);
        show_number(s, "health.interval", CONF_TYPE_dur, sv->health.interval_ms, line);
        show_number(s, "health.timeout", CONF_TYPE_dur, sv->health.timeout_ms, line);
        show_number(s, "health.rise", CONF_TYPE_u32, sv->health.rise, line);
        show_number(s, "health.fall", CONF_TYPE_u32, sv->health.fall, line);
    } else {
        show_value(s, "health", "off", line);
    }
    show_word(s, "protocol", KEY_SERVICE_protocol, (int)sv->protocol, lines[KEY_SERVICE_protocol]);
    show_word(s, "proxy_protocol", KEY_SERVICE_proxy_protocol, sv->proxy_version,
              lines[KEY_SERVICE_proxy_protocol]);
    show_sticky(s, &sv->sticky, lines[KEY_SERVICE_sticky]);
    if (sv->agent.port) {
        line = lines[KEY_SERVICE_agent_check];
        show_number(s, "agent_check.port", CONF_TYPE_u32, sv->agent.port, line);
        show_number(s, "agent_check.interval", CONF_TYPE_dur, sv->agent.interval_ms, line);
    }
    show_value(s, "load_reports", sv->has_load_reports ? "true" : "false",
               lines[KEY_SERVICE_load_reports]);
    if (sv->success_floor_pct > 0) {
        snprintf(text, sizeof text, "%.10g%%", sv->success_floor_pct);
        show_value(s, "success_floor", text, lines[KEY_SERVICE_success_floor]);
    }
    show_value(s, "eject", sv->is_ejecting ? "true" : "false", lines[KEY_SERVICE_eject]);
    show_value(s, "region", sv->region ? sv->region : "", lines[KEY_SERVICE_region]);
    show_value(s, "host", sv->host_header, lines[KEY_SERVICE_host]);
    show_tls_out(s, &sv->tls, lines[KEY_SERVICE_tls]);
}

static void show_hash(struct show *s, const struct conf_hash *h, uint32_t line)
{
    static const char *const kinds[] = {"address", "path", "header", "cookie", "query"};
    char text[256];
    snprintf(text, sizeof text, "%s%s%s", kinds[h->kind], *h->name ? " " : "", h->name);
    if (line)
        show_value(s, "hash", text, line);
}

static void show_split(struct show *s, const struct conf_split *split, uint32_t line)
{
    char key[48], text[32];
    for (size_t i = 0; i < split->count; i++) {
        snprintf(key, sizeof key, "split.%s", split->parts[i].version);
        snprintf(text, sizeof text, "%.10g%%", split->parts[i].pct);
        show_value(s, key, text, line);
    }
    if (*split->header)
        show_value(s, "split.header", split->header, line);
    if (*split->cookie)
        show_value(s, "split.cookie", split->cookie, line);
}

static void show_prefixes(struct show *s, const char *name, const struct conf_prefix *at,
                          size_t count, uint32_t line)
{
    for (size_t i = 0; i < count; i++) {
        struct buf text;
        char key[48];
        buf_init(&text, KIB);
        snprintf(key, sizeof key, "%s[%zu]", name, i);
        conf_prefix_print(&at[i], &text);
        show_value(s, key, buf_str(&text), line);
        buf_fini(&text);
    }
}

static void show_rates(struct show *s, const struct conf_route *rt, uint32_t line)
{
    char key[48];
    for (size_t i = 0; i < rt->rate_count; i++) {
        const struct conf_rate *r = &rt->rates[i];
        snprintf(key, sizeof key, "rate_limits[%zu].%s", i, r->is_quota ? "quota" : "rate");
        show_value(s, key, r->text, line);
        snprintf(key, sizeof key, "rate_limits[%zu].burst", i);
        if (!r->is_quota)
            show_number(s, key, CONF_TYPE_u32, r->burst, line);
        snprintf(key, sizeof key, "rate_limits[%zu].by", i);
        show_value(s, key, r->who.text, line);
        snprintf(key, sizeof key, "rate_limits[%zu].scope", i);
        show_word(s, key, KEY_RATE_scope, r->is_fleet, line);
        snprintf(key, sizeof key, "rate_limits[%zu].except", i);
        show_prefixes(s, key, r->except, r->except_count, line);
        snprintf(key, sizeof key, "rate_limits[%zu].status", i);
        show_number(s, key, CONF_TYPE_u32, r->status, line);
    }
}

static void show_cache(struct show *s, const struct conf_cache *c, uint32_t line)
{
    char key[48];
    if (!c->is_on) {
        show_value(s, "cache", "off", line);
        return;
    }
    show_number(s, "cache.ttl", CONF_TYPE_dur, c->ttl_ms, line);
    show_number(s, "cache.negative", CONF_TYPE_dur, c->negative_ms, line);
    show_value(s, "cache.heuristic", c->is_heuristic ? "true" : "false", line);
    show_number(s, "cache.stale_while_revalidate", CONF_TYPE_dur, c->stale_while_revalidate_ms,
                line);
    show_number(s, "cache.stale_if_error", CONF_TYPE_dur, c->stale_if_error_ms, line);
    show_word(s, "cache.key", KEY_CACHE_key, c->key, line);
    for (size_t i = 0; i < c->vary_count; i++) {
        snprintf(key, sizeof key, "cache.vary[%zu]", i);
        show_value(s, key, c->vary[i], line);
    }
    if (c->max_object_bytes)
        show_number(s, "cache.max_object", CONF_TYPE_bytes, c->max_object_bytes, line);
    if (c->budget_bytes)
        show_number(s, "cache.budget", CONF_TYPE_bytes, c->budget_bytes, line);
    show_number(s, "cache.collapse", CONF_TYPE_dur, c->collapse_ms, line);
    show_number(s, "cache.guard", CONF_TYPE_dur, c->guard_ms, line);
    show_value(s, "cache.client_control", c->heeds_clients ? "true" : "false", line);
}

static void show_compress(struct show *s, const struct conf_compress *c, uint32_t line)
{
    char key[48];
    if (!c->is_on) {
        show_value(s, "compress", "off", line);
        return;
    }
    for (size_t i = 0; i < c->type_count; i++) {
        snprintf(key, sizeof key, "compress.types[%zu]", i);
        show_value(s, key, c->types[i], line);
    }
    show_number(s, "compress.min_bytes", CONF_TYPE_bytes, c->min_bytes, line);
    show_number(s, "compress.level", CONF_TYPE_u32, c->level, line);
}

static void show_fields(struct show *s, const char *name, const struct conf_fields *f,
                        uint32_t line)
{
    char key[240];
    for (size_t i = 0; i < f->set_count; i++) {
        snprintf(key, sizeof key, "%s.set.%.200s", name, f->set[i].name);
        show_value(s, key, f->set[i].value, line);
    }
    for (size_t i = 0; i < f->add_count; i++) {
        snprintf(key, sizeof key, "%s.add.%.200s", name, f->add[i].name);
        show_value(s, key, f->add[i].value, line);
    }
    for (size_t i = 0; i < f->remove_count; i++) {
        snprintf(key, sizeof key, "%s.remove[%zu]", name, i);
        show_value(s, key, f->remove[i], line);
    }
}

/* One line, as it would stand in quotes. */
static void show_body(struct show *s, const char *key, const char *body, uint32_t line)
{
    struct buf text;
    buf_init(&text, 256 * KIB);
    for (const char *c = body; *c; c++)
        if (*c == '\n' || *c == '\t')
            buf_puts(&text, *c == '\n' ? "\\n" : "\\t");
        else
            buf_putc(&text, *c);
    show_value(s, key, buf_str(&text), line);
    buf_fini(&text);
}

static void show_pages(struct show *s, const struct conf_pages *pages)
{
    char key[48];
    for (size_t i = 0; i < pages->count; i++) {
        const struct conf_page *p = &pages->at[i];
        for (size_t k = 0; k < p->status_count; k++) {
            snprintf(key, sizeof key, "error_pages[%zu].status[%zu]", i, k);
            show_number(s, key, CONF_TYPE_u32, p->status[k], pages->line);
        }
        snprintf(key, sizeof key, "error_pages[%zu].type", i);
        show_value(s, key, p->type, pages->line);
        snprintf(key, sizeof key, "error_pages[%zu].body", i);
        show_body(s, key, p->body, pages->line);
    }
}

static void show_pairs(struct show *s, const char *name, const struct conf_pairs *pairs,
                       uint32_t line)
{
    for (size_t i = 0; i < pairs->count; i++) {
        char key[48];
        struct buf text;
        buf_init(&text, 4 * KIB);
        snprintf(key, sizeof key, "map_back.%s[%zu]", name, i);
        buf_printf(&text, "%s -> %s", pairs->at[i].from, pairs->at[i].to);
        show_value(s, key, buf_str(&text), line);
        buf_fini(&text);
    }
}

static void show_rules(struct show *s, const struct conf_rules *r, const uint32_t *lines)
{
    show_prefixes(s, "allow", r->allow, r->allow_count, lines[KEY_ROUTE_allow]);
    show_prefixes(s, "deny", r->deny, r->deny_count, lines[KEY_ROUTE_deny]);
    show_fields(s, "request_headers", &r->request, lines[KEY_ROUTE_request_headers]);
    show_fields(s, "response_headers", &r->response, lines[KEY_ROUTE_response_headers]);
    if (r->strip_prefix[0])
        show_value(s, "rewrite.strip_prefix", r->strip_prefix, lines[KEY_ROUTE_rewrite]);
    if (r->add_prefix[0])
        show_value(s, "rewrite.add_prefix", r->add_prefix, lines[KEY_ROUTE_rewrite]);
    if (r->rewrite && r->rewrite->pattern[0])
        show_value(s, "rewrite.pattern", r->rewrite->pattern, lines[KEY_ROUTE_rewrite]);
    if (r->rewrite)
        show_value(s, "rewrite.to", r->rewrite->to, lines[KEY_ROUTE_rewrite]);
    if (r->back || lines[KEY_ROUTE_map_back])
        show_value(s, "map_back", r->back ? "on" : "off", lines[KEY_ROUTE_map_back]);
    if (r->back) {
        show_pairs(s, "location", &r->back->location, lines[KEY_ROUTE_map_back]);
        show_pairs(s, "cookie_path", &r->back->cookie_path, lines[KEY_ROUTE_map_back]);
        show_pairs(s, "cookie_domain", &r->back->cookie_domain, lines[KEY_ROUTE_map_back]);
    }
    if (r->own == CONF_OWN_HTTPS || r->own == CONF_OWN_REDIRECT) {
        show_value(s, "redirect.to", r->to, lines[KEY_ROUTE_redirect]);
        show_number(s, "redirect.status", CONF_TYPE_u32, r->status, lines[KEY_ROUTE_redirect]);
    } else if (r->own == CONF_OWN_RESPOND) {
        show_number(s, "respond.status", CONF_TYPE_u32, r->status, lines[KEY_ROUTE_respond]);
        show_value(s, "respond.type", r->type, lines[KEY_ROUTE_respond]);
        show_body(s, "respond.body", r->body, lines[KEY_ROUTE_respond]);
    }
}

static void show_ask(struct show *s, const struct conf_auth *a, uint32_t line)
{
    char key[60];
    show_value(s, "auth.request.service", s->conf->services[a->service].name, line);
    show_value(s, "auth.request.path", a->path, line);
    show_number(s, "auth.request.timeout", CONF_TYPE_dur, a->timeout_ms, line);
    for (size_t i = 0; i < a->copied_count; i++) {
        snprintf(key, sizeof key, "auth.request.response_headers[%zu]", i);
        show_value(s, key, a->copied[i], line);
    }
    show_value(s, "auth.request.redirects", a->takes_redirects ? "true" : "false", line);
    show_word(s, "auth.request.on_failure", KEY_ASK_on_failure, a->is_open, line);
}

static void show_auth(struct show *s, const struct conf_auth *a, uint32_t line)
{
    show_prefixes(s, "auth.except", a->except, a->except_count, line);
    if (!a->file) {
        show_ask(s, a, line);
        return;
    }
    show_value(s, "auth.basic.file", a->file, line);
    show_value(s, "auth.basic.realm", a->realm, line);
    if (a->user_header[0])
        show_value(s, "auth.basic.user_header", a->user_header, line);
    show_number(s, "auth.basic.remember", CONF_TYPE_dur, a->remember_ms, line);
    show_value(s, "auth.basic.forward", a->is_forwarded ? "true" : "false", line);
}

static void show_route(struct show *s, const struct conf_route *rt, const uint32_t *lines)
{
    char key[240];
    uint32_t line = lines[KEY_ROUTE_match];
    show_value(s, "match.path", rt->path, line);
    if (*rt->host)
        show_value(s, "match.host", rt->host, line);
    if (*rt->method)
        show_value(s, "match.method", rt->method, line);
    for (size_t i = 0; i < rt->header_count; i++) {
        snprintf(key, sizeof key, "match.header.%s", rt->headers[i].name);
        show_value(s, key, *rt->headers[i].value ? rt->headers[i].value : "*", line);
    }
    if (rt->rules)
        show_rules(s, rt->rules, lines);
    show_pages(s, &rt->pages);
    if (conf_route_is_own(rt))
        return; /* no other key has anything to do there */
    show_value(s, "service", s->conf->services[rt->service].name, lines[KEY_ROUTE_service]);
    show_word(s, "priority", KEY_ROUTE_priority, rt->class, lines[KEY_ROUTE_priority]);
    if (rt->timeout_ms)
        show_number(s, "timeout", CONF_TYPE_dur, rt->timeout_ms, lines[KEY_ROUTE_timeout]);
    if (rt->deadline_ms)
        show_number(s, "deadline", CONF_TYPE_dur, rt->deadline_ms, lines[KEY_ROUTE_deadline]);
    if (rt->body_bytes != UINT64_MAX)
        show_number(s, "body_bytes", CONF_TYPE_bytes, rt->body_bytes, lines[KEY_ROUTE_body_bytes]);
    show_value(s, "key", rt->key.text, lines[KEY_ROUTE_key]);
    show_hash(s, &rt->hash, lines[KEY_ROUTE_hash]);
    show_caps(s, rt->concurrency, &rt->caps, lines[KEY_ROUTE_concurrency]);
    show_split(s, &rt->split, lines[KEY_ROUTE_split]);
    if (rt->mirror.pct > 0) {
        char text[200];
        snprintf(text, sizeof text, "%s %g%%", s->conf->services[rt->mirror.service].name,
                 rt->mirror.pct);
        show_value(s, "mirror", text, lines[KEY_ROUTE_mirror]);
    }
    show_rates(s, rt, lines[KEY_ROUTE_rate_limits]);
    if (rt->auth)
        show_auth(s, rt->auth, lines[KEY_ROUTE_auth]);
    show_value(s, "region", rt->region ? rt->region : "", lines[KEY_ROUTE_region]);
    show_value(s, "stream", rt->is_stream ? "true" : "false", lines[KEY_ROUTE_stream]);
    show_cache(s, &rt->cache, lines[KEY_ROUTE_cache]);
    show_compress(s, &rt->compress, lines[KEY_ROUTE_compress]);
    if (rt->hedge_delay_ms)
        show_number(s, "hedge", CONF_TYPE_dur, rt->hedge_delay_ms, lines[KEY_ROUTE_hedge]);
    else
        show_value(s, "hedge", rt->hedge == CONF_HEDGE_ON ? "on" : "off", lines[KEY_ROUTE_hedge]);
    show_tune(s, KNOB_TIMEOUT_MS, &rt->timeout_tune, lines[KEY_ROUTE_tune]);
    show_tune(s, KNOB_HEDGE_DELAY_MS, &rt->hedge_tune, lines[KEY_ROUTE_tune]);
}

/* What an address has beside itself. */
static void show_listen(struct show *s, const struct conf_listen *l, uint32_t line)
{
    struct buf text;
    if (l->is_tcp) {
        show_value(s, "protocol", "tcp", line);
        show_value(s, "service", s->conf->services[l->service].name, line);
    }
    if (l->is_http1_off || l->is_h2_off)
        show_value(s, "protocols", l->is_h2_off ? "[http1]" : "[h2]", line);
    show_prefixes(s, "forwarded_from", l->proxies, l->proxy_count, line);
    if (!l->is_proxied)
        return;
    show_value(s, "proxy_protocol", "true", line);
    buf_init(&text, 64 * KIB);
    for (size_t i = 0; i < l->trusted_count; i++) {
        buf_puts(&text, i ? ", " : "");
        conf_prefix_print(&l->trusted[i], &text);
    }
    show_value(s, "trusted", l->trusted_count ? buf_str(&text) : "anybody", line);
    buf_fini(&text);
}

static void show_signal(struct show *s, const struct conf_signal *sig)
{
    char text[32];
    show_value(s, "event", sig->event, sig->line[0]);
    show_word(s, "value", KEY_SIGNAL_value, sig->value, sig->line[1]);
    show_value(s, "service", sig->service, sig->line[2]);
    show_word(s, "better", KEY_SIGNAL_better, sig->better, sig->line[3]);
    snprintf(text, sizeof text, "%.10g%%", sig->harm_pct);
    show_value(s, "harm", text, sig->line[4]);
    show_word(s, "compare", KEY_SIGNAL_compare, sig->has_sides, sig->line[5]);
}

void conf_show(const struct conf *c, bool is_json, struct buf *out)
{
    conf_show_running(c, (struct span){"", 0}, is_json, out);
}

void conf_show_running(const struct conf *c, struct span waiting, bool is_json, struct buf *out)
{
    struct show s = {.conf = c, .out = out, .is_json = is_json, .waiting = waiting};
    const struct conf_private *private = c->private;
    size_t count;
    const struct conf_param_row *rows = conf_param_rows(&count);
    show_begin(&s);
    for (size_t i = 0; i < c->listen_count; i++) {
        char key[32];
        snprintf(key, sizeof key, "listen[%zu]", i);
        show_value(&s, key, c->listens[i].address, private->listen_line[i]);
        show_tls(&s, key, &c->listens[i].tls, private->listen_line[i]);
        snprintf(s.prefix, sizeof s.prefix, "listen[%zu].", i);
        show_listen(&s, &c->listens[i], private->listen_line[i]);
        s.prefix[0] = 0;
    }
    for (size_t i = 0; i < count; i++) {
        struct buf text;
        char key[64];
        bool is_top = strcmp(rows[i].section, "top") == 0;
        buf_init(&text, 64 * KIB);
        conf_param_print(&rows[i], &c->p, &text);
        snprintf(key, sizeof key, "%s%s%s", is_top ? "" : rows[i].section, is_top ? "" : ".",
                 rows[i].name);
        show_value(&s, key, buf_str(&text), private->param_line[i]);
        buf_fini(&text);
    }
    for (size_t i = 0; i < c->service_count; i++) {
        snprintf(s.prefix, sizeof s.prefix, "services.%s.", c->services[i].name);
        show_service(&s, &c->services[i], private->service_line[i]);
    }
    s.prefix[0] = 0;
    show_pages(&s, &c->pages);
    for (size_t i = 0; i < c->route_count; i++) {
        snprintf(s.prefix, sizeof s.prefix, "routes[%zu].", i);
        show_route(&s, &c->routes[i], private->route_line[i]);
    }
    for (size_t i = 0; i < c->signal_count; i++) {
        snprintf(s.prefix, sizeof s.prefix, "signals.%s.", c->signals[i].name);
        show_signal(&s, &c->signals[i]);
    }
    for (size_t i = 0; i < c->connector_count; i++) {
        const struct conf_connector *k = &c->connectors[i];
        snprintf(s.prefix, sizeof s.prefix, "%s.%s.", k->section, k->name);
        for (size_t v = 0; v < k->value_count; v++)
            show_value(&s, k->values[v].key, k->values[v].shown, k->values[v].line);
    }
    if (is_json) {
        json_array_end(&s.json);
        json_object_end(&s.json);
        buf_putc(out, '\n');
    }
}

/* ---- run --to ---- */

static bool is_plain_word(const char *text)
{
    for (const char *c = text; *c; c++)
        if (*c <= ' ' || *c >= 0x7f || *c == '"' || *c == '\\')
            return false;
    return *text != 0;
}

/* ["a", "b"]; a bare number is a port of this machine. */
static enum fb_code put_list(struct buf *out, const char *flag, const char *const *items,
                             size_t count, struct fb_err *err)
{
    buf_putc(out, '[');
    for (size_t i = 0; i < count; i++) {
        uint64_t port;
        if (!is_plain_word(items[i]) || strlen(items[i]) > 300)
            return fb_fail(err, FB_E_USAGE,
                           "%s \"%.60s\" is not an address; write HOST:PORT or :PORT", flag,
                           items[i]);
        buf_printf(out, "%s\"%s%s\"", i ? ", " : "",
                   span_to_u64(span_of(items[i]), &port) ? ":" : "", items[i]);
    }
    buf_puts(out, "]\n");
    return FB_OK;
}

enum fb_code conf_run_text(const struct conf_run *run, struct buf *out, struct fb_err *err)
{
    static const char *const from_default[] = {"127.0.0.1:8080"};
    const char *const *from = run->from_count ? run->from : from_default;
    if (run->to_count == 0)
        return fb_fail(
            err, FB_E_USAGE,
            "run needs --to ADDRESS or --config FILE; for example `foldback run --to :3000`");
    buf_puts(out, "listen: ");
    enum fb_code code = put_list(out, "--from", from, run->from_count ? run->from_count : 1, err);
    if (code != FB_OK)
        return code;
    buf_puts(out, "state: ./foldback-state\nservices:\n  app:\n    endpoints: ");
    code = put_list(out, "--to", run->to, run->to_count, err);
    if (code != FB_OK)
        return code;
    buf_puts(out, "routes:\n  - { match: /, service: app }\n");
    if (out->failed)
        return fb_fail(err, FB_E_NOMEM,
                       "too many --to and --from addresses; use a file with --config");
    return FB_OK;
}

/* ---- reload ---- */

const char *conf_listen_scheme(const struct conf_listen *l)
{
    if (l->is_tcp)
        return l->tls.is_on ? "tls" : "tcp";
    return l->tls.is_on ? "https" : "http";
}

uint32_t conf_listen_line(const struct conf *c, size_t index)
{
    return index < c->listen_count ? c->private->listen_line[index] : 0;
}

size_t conf_restart_changes(const struct conf *was, const struct conf *now, conf_change_fn *fn,
                            void *arg)
{
    size_t differences = 0, count;
    const struct conf_param_row *rows = conf_param_rows(&count);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].apply != APPLY_RESTART)
            continue;
        struct buf a, b;
        char key[100];
        bool is_top = strcmp(rows[i].section, "top") == 0;
        buf_init(&a, 64 * KIB);
        buf_init(&b, 64 * KIB);
        conf_param_print(&rows[i], &was->p, &a);
        conf_param_print(&rows[i], &now->p, &b);
        snprintf(key, sizeof key, "%s%s%s", is_top ? "" : rows[i].section, is_top ? "" : ".",
                 rows[i].name);
        if (!span_eq(buf_span(&a), buf_span(&b))) {
            fn(arg, key, buf_str(&a), buf_str(&b));
            differences++;
        }
        buf_fini(&a);
        buf_fini(&b);
    }
    return differences;
}

static void put_change(void *arg, const char *key, const char *was, const char *now)
{
    buf_printf(arg, "%s: \"%s\" became \"%s\"\n", key, was, now);
}

size_t conf_reload_needs_restart(const struct conf *was, const struct conf *now, struct buf *out)
{
    return conf_restart_changes(was, now, put_change, out);
}

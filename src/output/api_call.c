/* SPDX-License-Identifier: Apache-2.0 */
/* What handlers ask of a request: query, body, targets, scopes, windows. */
#include "io/socket_path.h"
#include "output/admin_int.h"

#include <stdio.h>
#include <stdlib.h>

bool api_query(const struct api_call *c, const char *name, char *out, size_t cap)
{
    struct span rest = c->head->query;
    while (rest.len > 0) {
        struct span value, pair = span_cut(rest, '&', &rest);
        struct span key = span_cut(pair, '=', &value);
        if (span_eq(key, span_of(name)))
            return api_decode(value, true, out, cap);
    }
    return false;
}

bool api_query_u64(struct api_call *c, const char *name, uint64_t range[2], uint64_t *value)
{
    char text[32];
    if (!api_query(c, name, text, sizeof text))
        return true;
    if (span_to_u64(span_of(text), value) && *value >= range[0] && *value <= range[1])
        return true;
    api_fail(c, FB_E_RANGE, "%s must be a whole number from %llu to %llu, got \"%s\"", name,
             (unsigned long long)range[0], (unsigned long long)range[1], text);
    return false;
}

bool api_body(struct api_call *c, struct jsonin *in)
{
    struct fb_err err = {0};
    in->count = in->text_used = 0;
    if (c->conn->body.len == 0)
        return true;
    const struct http1_field *type = http1_find_name(c->head, SPAN("content-type"));
    /* A form of another page cannot send this type without asking first (CORS): second guard. */
    if (!type || !span_starts(type->value, SPAN("application/json"))) {
        api_fail_status(c, 415, FB_E_USAGE, "the body must be application/json");
        return false;
    }
    if (jsonin_parse(in, buf_span(&c->conn->body), &err) == FB_OK)
        return api_fields_known(c, in);
    api_fail_err(c, &err);
    return false;
}

int api_kind_by_name(struct span name)
{
    for (uint8_t k = EV_KIND_ROUTE; k <= EV_KIND_VERSION; k++)
        if (span_ieq(name, span_of(ev_kind_name(k))))
            return k;
    return -1;
}

/* An endpoint is "shop 10.0.0.1:80" in the registry; its address alone does when it is the only
 * one. */
static bool is_short_name(const char *full, const char *name)
{
    const char *blank = strchr(full, ' ');
    return blank && strcmp(blank + 1, name) == 0;
}

int api_look_at_socket(const struct admin *a, uint16_t endpoint)
{
    const char *address = strchr(admin_name(a, EV_KIND_ENDPOINT, endpoint), ' ');
    bool is_unix = address && strncmp(address, " unix:", 6) == 0;
    return is_unix && !admin_has_left(a, EV_KIND_ENDPOINT, endpoint) ? socket_path_look(address + 6)
                                                                     : 0;
}

uint16_t api_target(const struct admin *a, enum ev_kind kind, const char *name)
{
    uint64_t number = 0;
    if (name[0] == '#' && span_to_u64(span_of(name + 1), &number) && number < KNOB_TARGETS_MAX)
        return admin_name(a, kind, (uint16_t)number)[0] ? (uint16_t)number : EV_NONE;
    uint16_t found = EV_NONE;
    uint32_t short_count = 0;
    bool is_left = true; /* as those are that were found so far */
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        const char *full = admin_name(a, kind, i);
        if (full[0] == '\0')
            continue;
        if (strcmp(full, name) == 0)
            return i;
        bool has_left = admin_has_left(a, kind, i);
        if (!is_short_name(full, name) || (has_left && !is_left))
            continue;
        short_count = has_left == is_left ? short_count + 1 : 1; /* those that are there win */
        is_left = has_left;
        found = i;
    }
    return short_count == 1 ? found : EV_NONE;
}

bool api_scope(struct api_call *c, struct fact_scope *scope)
{
    char text[200] = "all";
    struct span name;
    *scope = (struct fact_scope){EV_KIND_NONE, 0};
    if (!api_query(c, "scope", text, sizeof text) || strcmp(text, "all") == 0)
        return true;
    int kind = api_kind_by_name(span_cut(span_of(text), ':', &name));
    uint16_t number = kind < 0 ? EV_NONE : api_target(c->admin, (enum ev_kind)kind, name.at);
    if (number == EV_NONE) {
        api_fail_unknown(c,
                         "scope \"%s\": nothing has this name; use all, service:NAME, route:NAME, "
                         "endpoint:NAME or version:SERVICE VERSION",
                         text);
        return false;
    }
    *scope = (struct fact_scope){(enum ev_kind)kind, number};
    return true;
}

bool api_window(struct api_call *c, enum fact_window *window)
{
    static const char *const names[FACT_WINDOW_COUNT] = {"100ms", "1s", "10s", "60s"};
    char text[16];
    *window = FACT_10S;
    if (!api_query(c, "window", text, sizeof text))
        return true;
    for (size_t i = 0; i < FB_COUNT(names); i++)
        if (strcmp(text, names[i]) == 0) {
            *window = (enum fact_window)i;
            return true;
        }
    api_fail(c, FB_E_RANGE, "window must be 100ms, 1s, 10s or 60s, got \"%s\"", text);
    return false;
}

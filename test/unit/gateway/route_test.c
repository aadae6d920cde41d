/* SPDX-License-Identifier: Apache-2.0 */
/* The compiled routes against a naive reading of the same configuration. */
#include "base/clock.h"
#include "base/regex.h"
#include "base/rng.h"
#include "gateway/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h needs the four above */
#include <cmocka.h>

#define HEAD "listen: [\":80\"]\nservices: { a: { endpoints: [\"127.0.0.1:1\"] } }\nroutes:\n"

static struct conf *conf_of(const char *text)
{
    struct conf *c;
    struct conf_report report;
    enum fb_code code = conf_parse(span_of(text), "test.yaml", &c, &report);
    if (code != FB_OK) {
        struct buf out;
        buf_init(&out, MIB);
        conf_report_print(&report, "test.yaml", span_of(text), &out);
        print_error("%s\n", buf_str(&out));
        buf_fini(&out);
    }
    conf_report_fini(&report);
    assert_int_equal(code, FB_OK);
    return c;
}

/* ---- the naive reading ---- */

static bool naive_glob(const char *p, const char *t)
{
    for (; *p && *p != '*'; p++, t++)
        if (*p != *t)
            return false;
    if (!*p)
        return !*t;
    for (; *t; t++)
        if (naive_glob(p + 1, t))
            return true;
    return naive_glob(p + 1, t);
}

static bool naive_words(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (strncmp(at, word, len) == 0 && (at[len] == 0 || at[len] == '|'))
            return true;
    return false;
}

/* "a|*.b": one of them is it, or holds it as a subdomain. */
static bool naive_host(const char *list, const char *host)
{
    char copy[256], *rest = copy, *one;
    snprintf(copy, sizeof copy, "%s", list);
    while ((one = strsep(&rest, "|")) != NULL) {
        size_t len = strlen(one), whole = strlen(host);
        if (one[0] != '*' ? strcmp(one, host) == 0
                          : whole > len - 1 && strcmp(host + whole - (len - 1), one + 1) == 0)
            return true;
    }
    return false;
}

static uint16_t naive_match(const struct conf *c, const struct route_query *q)
{
    char path[256], host[256], method[32], value[256];
    snprintf(path, sizeof path, "%.*s", SPAN_ARG(q->path));
    snprintf(host, sizeof host, "%.*s", SPAN_ARG(q->host));
    snprintf(method, sizeof method, "%.*s", SPAN_ARG(q->method));
    for (size_t i = 0; i < c->route_count; i++) {
        const struct conf_route *rt = &c->routes[i];
        bool is_match = true;
        if (*rt->host)
            is_match = naive_host(rt->host, host);
        if (rt->path_kind == CONF_PATH_EXACT)
            is_match &= strcmp(path, rt->path) == 0;
        if (rt->path_kind == CONF_PATH_PREFIX)
            is_match &= strncmp(path, rt->path, strlen(rt->path)) == 0;
        if (rt->path_kind == CONF_PATH_GLOB)
            is_match &= naive_glob(rt->path, path);
        if (*rt->method)
            is_match &= naive_words(rt->method, method);
        for (size_t h = 0; h < rt->header_count; h++) {
            bool is_found = false;
            for (uint32_t f = 0; f < q->field_count; f++) {
                snprintf(value, sizeof value, "%.*s", SPAN_ARG(q->fields[f].value));
                if (span_ieq(q->fields[f].name, span_of(rt->headers[h].name)))
                    is_found |= !*rt->headers[h].value || naive_glob(rt->headers[h].value, value);
            }
            is_match &= is_found;
        }
        if (is_match)
            return (uint16_t)i;
    }
    return ROUTE_NONE;
}

/* ---- tests ---- */

static const char table_text[] =
    HEAD "  - { match: { host: api.example.org, path: /v1/ }, service: a }\n"
         "  - { match: { host: \"*.example.org\", method: GET|HEAD }, service: a }\n"
         "  - { match: { path: /, header: { X-Priority: high } }, service: a }\n"
         "  - { match: /exact, service: a }\n"
         "  - { match: /static/, service: a }\n"
         "  - { match: \"/img/*.png\", service: a }\n"
         "  - { match: { path: /any/, header: { X-Debug: \"*\" } }, service: a }\n"
         "  - { match: { path: /ua/, header: { User-Agent: \"*curl*\" } }, service: a }\n"
         "  - { match: { path: /tok/, header: { Authorization: \"Bearer *\" } }, service: a }\n"
         "  - { match: { host: \"[::1]\" }, service: a }\n"
         "  - { match: { host: [Shop.example.net, \"*.shop.example.net\", 192.0.2.7], path: /s/,\n"
         "               method: [GET, HEAD] }, service: a }\n";

#define NOTHING ROUTE_NONE
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
static const struct {
    const char *says, *host, *path, *method, *name, *value;
    uint16_t want;
} rows[] = {
    ROW("host and prefix", .host = "api.example.org", .path = "/v1/x", .method = "POST", .want = 0),
    ROW("the host alone is not enough", .host = "api.example.org", .path = "/v2", .method = "POST",
        .want = NOTHING),
    ROW("a subdomain by GET", .host = "a.b.example.org", .path = "/v2", .method = "GET", .want = 1),
    ROW("a subdomain by HEAD", .host = "a.example.org", .path = "/v2", .method = "HEAD", .want = 1),
    ROW("the second rule sees the host of the first", .host = "api.example.org", .path = "/",
        .method = "GET", .want = 1),
    ROW("the domain itself is no subdomain", .host = "example.org", .path = "/v2", .method = "GET",
        .want = NOTHING),
    ROW("a longer name is no subdomain", .host = "badexample.org", .path = "/v2", .method = "GET",
        .want = NOTHING),
    ROW("header with value", .path = "/x", .method = "GET", .name = "x-priority", .value = "high",
        .want = 2),
    ROW("header with another value", .path = "/x", .method = "GET", .name = "x-priority",
        .value = "low", .want = NOTHING),
    ROW("exact", .path = "/exact", .method = "GET", .want = 3),
    ROW("exact is not a prefix", .path = "/exact/", .method = "GET", .want = NOTHING),
    ROW("exact is case sensitive", .path = "/Exact", .method = "GET", .want = NOTHING),
    ROW("prefix", .path = "/static/a/b", .method = "GET", .want = 4),
    ROW("prefix itself", .path = "/static/", .method = "GET", .want = 4),
    ROW("prefix needs its slash", .path = "/static", .method = "GET", .want = NOTHING),
    ROW("glob", .path = "/img/a/b.png", .method = "GET", .want = 5),
    ROW("glob is bound to the end", .path = "/img/a.pngx", .method = "GET", .want = NOTHING),
    ROW("glob parts do not overlap", .path = "/img/.png", .method = "GET", .want = 5),
    ROW("header present", .path = "/any/", .method = "GET", .name = "X-Debug", .value = "",
        .want = 6),
    ROW("header contains", .path = "/ua/", .method = "GET", .name = "User-Agent",
        .value = "xcurl/8", .want = 7),
    ROW("header begins", .path = "/tok/", .method = "GET", .name = "Authorization",
        .value = "Bearer x", .want = 8),
    ROW("header begins otherwise", .path = "/tok/", .method = "GET", .name = "Authorization",
        .value = "Basic x", .want = NOTHING),
    ROW("IPv6 host", .host = "[::1]", .path = "/zz", .method = "GET", .want = 9),
    ROW("the first of several hosts", .host = "shop.example.net", .path = "/s/", .method = "GET",
        .want = 10),
    ROW("a subdomain of the second", .host = "x.shop.example.net", .path = "/s/", .method = "HEAD",
        .want = 10),
    ROW("the last one", .host = "192.0.2.7", .path = "/s/", .method = "GET", .want = 10),
    ROW("none of several", .host = "example.net", .path = "/s/", .method = "GET", .want = NOTHING),
    ROW("another method than the two", .host = "192.0.2.7", .path = "/s/", .method = "POST",
        .want = NOTHING),
    ROW("asterisk form matches no path", .path = "*", .method = "OPTIONS", .want = NOTHING),
};

static void first_route_that_matches_wins(void **state)
{
    (void)state;
    struct conf *c = conf_of(table_text);
    struct route_table *t = route_table_new(c);
    assert_non_null(t);
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct http1_field field = {.name = span_of(rows[i].name), .value = span_of(rows[i].value)};
        struct route_query q = {.host = span_of(rows[i].host),
                                .path = span_of(rows[i].path),
                                .method = span_of(rows[i].method),
                                .fields = &field,
                                .field_count = rows[i].name != NULL};
        uint16_t got = route_match(t, &q);
        if (got != rows[i].want)
            print_error("%s: got %u, want %u\n", rows[i].says, got, rows[i].want);
        assert_int_equal(got, rows[i].want);
        assert_int_equal(naive_match(c, &q), rows[i].want);
    }
    route_table_free(t);
    conf_unref(c);
}

static void slash_alone_matches_everything(void **state)
{
    (void)state;
    struct conf *c = conf_of(HEAD "  - { match: /, service: a }\n");
    struct route_table *t = route_table_new(c);
    conf_unref(c); /* the table holds its own reference */
    const char *const paths[] = {"/", "/a", "*", "/a/b?", ""};
    for (size_t i = 0; i < FB_COUNT(paths); i++) {
        struct route_query q = {
            .host = SPAN("h"), .path = span_of(paths[i]), .method = SPAN("GET")};
        assert_int_equal(route_match(t, &q), 0);
    }
    route_table_free(t);
}

static void regular_expressions_take_their_turn(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        uint16_t want;
    } asked[] = {{"/users/12", 0},
                 {"/users/12/", 5},
                 {"/users/x", 5},
                 {"/a/b.PNG", 1},
                 {"/api/x.png", 1},
                 {"/api/x", 2},
                 {"/sub/api/x.js", 3},
                 {"/abcdefgh1", 4},
                 {"/abcdefgh", 5},
                 {"*", 5},
                 {"", 5}};
    struct conf *c = conf_of(HEAD "  - { match: '~^/users/[0-9]+$', service: a }\n"
                                  "  - { match: '~* \\.png$', service: a }\n"
                                  "  - { match: /api/, service: a }\n"
                                  "  - { match: '~\\.js$', service: a }\n"
                                  "  - { match: '~^/abcdefgh[0-9]?1', service: a }\n"
                                  "  - { match: /, service: a }\n");
    struct route_table *t = route_table_new(c);
    struct regex_work *work = regex_work_new();
    for (size_t i = 0; i < FB_COUNT(asked); i++) {
        struct route_query q = {
            .path = span_of(asked[i].path), .method = SPAN("GET"), .work = work};
        assert_int_equal(route_match(t, &q), asked[i].want);
    }
    char evil[5000] = "/";
    memset(evil + 1, 'a', sizeof evil - 2);
    struct route_query q = {.path = span_of(evil), .method = SPAN("GET"), .work = work};
    assert_int_equal(route_match(t, &q), ROUTE_COSTLY); /* longer than what may be looked at */
    regex_work_free(work);
    route_table_free(t);
    conf_unref(c);
}

static const char *pick(struct rng *r, const char *const *from, size_t count)
{
    return from[rng_below(r, (uint32_t)count)];
}
#define PICK(r, list) pick(r, list, FB_COUNT(list))

static const char *const hosts[] = {"",        "a.org", "b.org",       "x.a.org",
                                    "*.a.org", "*.org", "deep.x.a.org"};
static const char *const paths[] = {"/",         "/a",         "/a/",          "/a/b", "/a/b/",
                                    "/abcdefgh", "/abcdefgh/", "/abcdefghi/j", "/a*",  "/*b",
                                    "/a/*/c",    "/*a*b*",     "/abcdefgh*z",  "/a/*"};
static const char *const methods[] = {"", "GET", "POST", "GET|HEAD", "PUT|DELETE|GET"};
static const char *const values[] = {"", "x", "x*", "*x", "*x*", "xy"};

static struct conf *random_conf(struct rng *r)
{
    struct buf text;
    buf_init(&text, MIB);
    buf_puts(&text, HEAD);
    uint32_t count = 1 + rng_below(r, 12);
    for (uint32_t i = 0; i < count; i++) {
        const char *host = PICK(r, hosts), *method = PICK(r, methods);
        buf_printf(&text, "  - { service: a, match: { path: \"%s\"", PICK(r, paths));
        uint32_t several = rng_below(r, 4);
        if (several == 3)
            buf_printf(&text, ", host: [\"%s\", \"%s\"]", hosts[1 + rng_below(r, 6)],
                       hosts[1 + rng_below(r, 6)]);
        else if (*host && several >= 1)
            buf_printf(&text, ", host: \"%s\"", host);
        if (*method && rng_below(r, 2))
            buf_printf(&text, ", method: %s", method);
        if (rng_below(r, 3) == 0)
            buf_printf(&text, ", header: { X-A: \"%s\" }", PICK(r, values));
        buf_puts(&text, " } }\n");
    }
    struct conf *c = NULL;
    struct conf_report report;
    enum fb_code code = conf_parse(buf_span(&text), "random.yaml", &c, &report);
    assert_true(code == FB_OK || code == FB_E_CONFIG); /* the latter: the same match twice */
    conf_report_fini(&report);
    buf_fini(&text);
    return c;
}

static void random_routes_match_as_the_naive_reading_does(void **state)
{
    (void)state;
    static const char *const asked_hosts[] = {"",      "a.org", "b.org", "x.a.org", "deep.x.a.org",
                                              "c.com", "org",   "aorg"};
    static const char *const asked_paths[] = {
        "/",         "/a",         "/a/",          "/a/b",       "/a/b/c", "/ab",
        "/abcdefgh", "/abcdefgh/", "/abcdefghi/j", "/abcdefghz", "*",      "/a/x/c",
        "/a//c",     "/xaxbx",     "/b",           "/a/c"};
    static const char *const asked_methods[] = {"GET", "HEAD", "POST", "DELETE", "get", "GE"};
    static const char *const asked_values[] = {"", "x", "xy", "yx", "yxy", "y"};
    struct rng r;
    rng_init(&r, 7);
    uint32_t matched = 0, tried = 0;
    for (int round = 0; round < 600; round++) {
        struct conf *c = random_conf(&r);
        if (!c)
            continue;
        struct route_table *t = route_table_new(c);
        assert_non_null(t);
        for (int k = 0; k < 60; k++) {
            struct http1_field fields[2] = {
                {.name = SPAN("x-a"), .value = span_of(PICK(&r, asked_values))},
                {.name = SPAN("X-A"), .value = span_of(PICK(&r, asked_values))}};
            struct route_query q = {.host = span_of(PICK(&r, asked_hosts)),
                                    .path = span_of(PICK(&r, asked_paths)),
                                    .method = span_of(PICK(&r, asked_methods)),
                                    .fields = fields,
                                    .field_count = rng_below(&r, 3)};
            uint16_t got = route_match(t, &q), want = naive_match(c, &q);
            if (got != want)
                print_error("host %.*s path %.*s: got %u, want %u in\n%s\n", SPAN_ARG(q.host),
                            SPAN_ARG(q.path), got, want, c->text);
            assert_int_equal(got, want);
            matched += got != ROUTE_NONE;
            tried++;
        }
        route_table_free(t);
        conf_unref(c);
    }
    assert_true(tried > 10000); /* the generator must not starve the property */
    assert_true(matched > tried / 5);
    assert_true(matched < tried);
}

static void many_hosts_find_their_own_route(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, MIB);
    buf_puts(&text, HEAD);
    for (int i = 0; i < 500; i++)
        buf_printf(&text, "  - { match: { host: h%d.example.org }, service: a }\n", i);
    struct conf *c = conf_of(buf_str(&text));
    struct route_table *t = route_table_new(c);
    for (int i = 0; i < 500; i++) {
        char host[32];
        snprintf(host, sizeof host, "h%d.example.org", i);
        struct route_query q = {.host = span_of(host), .path = SPAN("/"), .method = SPAN("GET")};
        assert_int_equal(route_match(t, &q), i);
    }
    route_table_free(t);
    conf_unref(c);
    buf_fini(&text);
}

/* Prints the cost; it is a figure to read, the bound is generous so that a busy machine does not
 * fail it. */
static void ten_routes_cost_far_less_than_a_microsecond(void **state)
{
    (void)state;
    enum { ROUNDS = 200000 };
    struct conf *c = conf_of(table_text);
    struct route_table *t = route_table_new(c);
    struct http1_field fields[8];
    for (size_t i = 0; i < FB_COUNT(fields); i++)
        fields[i] = (struct http1_field){.name = SPAN("Accept-Something"), .value = SPAN("value")};
    static const char *const asked[] = {"/static/a.css", "/exact", "/img/a/b.png", "/nothing/here"};
    uint32_t sum = 0;
    uint64_t before_us = fb_thread_cpu_us();
    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct route_query q = {.host = SPAN("www.example.com"),
                                .path = span_of(asked[i % FB_COUNT(asked)]),
                                .method = SPAN("GET"),
                                .fields = fields,
                                .field_count = FB_COUNT(fields)};
        sum += route_match(t, &q);
    }
    uint64_t took_us = fb_thread_cpu_us() - before_us;
    print_message("route_match: %.1f ns with 10 routes (%u)\n", (double)took_us * 1000 / ROUNDS,
                  sum);
    assert_true(took_us < ROUNDS * 2);
    route_table_free(t);
    conf_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_route_that_matches_wins),
        cmocka_unit_test(regular_expressions_take_their_turn),
        cmocka_unit_test(slash_alone_matches_everything),
        cmocka_unit_test(random_routes_match_as_the_naive_reading_does),
        cmocka_unit_test(many_hosts_find_their_own_route),
        cmocka_unit_test(ten_routes_cost_far_less_than_a_microsecond),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

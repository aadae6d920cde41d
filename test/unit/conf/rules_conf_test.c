/* SPDX-License-Identifier: Apache-2.0 */
/* What a configuration may say about fields, rewrites, redirects and own answers, and what it may
 * not. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static struct conf *with_route(const char *route, char problem[400])
{
    struct buf text;
    struct conf *c = NULL;
    struct conf_report report;
    buf_init(&text, 64 * KIB);
    buf_printf(&text,
               "listen: [\":8080\"]\nservices: { app: { endpoints: [\"10.0.0.1:80\"] } }\n"
               "routes: [{ match: /x/, %s }, { match: /, service: app }]\n",
               route);
    enum fb_code code = conf_parse(buf_span(&text), "t.yaml", &c, &report);
    problem[0] = 0;
    if (report.error_count)
        snprintf(problem, 400, "%s", report.at[0].text);
    assert_int_equal(code == FB_OK, report.error_count == 0);
    conf_report_fini(&report);
    buf_fini(&text);
    return c;
}

/* Who reads a list has room for one. */
static void what_is_given_twice_is_read_no_further(void **state)
{
    (void)state;
    struct conf *c;
    struct conf_report report;
    const struct span text =
        SPAN("error_pages: [{ body: x, status: [400, 401, 402, 403, 404, 405, 406, 407, 408, 409, "
             "410, 411, 412, 413, 414, 415], status: [500, 501] }, { status: 302, body: y }]\n");
    assert_int_equal(conf_parse(text, "t.yaml", &c, &report), FB_E_CONFIG);
    assert_int_equal(report.error_count, 1);
    assert_non_null(strstr(report.at[0].text, "status is given twice"));
    conf_report_fini(&report);
}

static void rules_are_read(void **state)
{
    (void)state;
    char problem[400];
    struct conf *c = with_route(
        "service: app, allow: [10.0.0.0/8], deny: [10.1.0.0/16, \"::1\"], redirect: https, "
        "request_headers: { set: { X-A: \"{host}\", Report-To: '{\"group\":\"a\"}' }, remove: "
        "[Cookie] }, "
        "response_headers: { add: { Link: x } }, rewrite: { strip_prefix: /api/, add_prefix: /v2 }",
        problem);
    assert_string_equal(problem, "");
    const struct conf_rules *r = c->routes[0].rules;
    assert_int_equal(r->allow_count, 1);
    assert_int_equal(r->deny_count, 2);
    assert_int_equal(r->own, CONF_OWN_HTTPS);
    assert_string_equal(r->strip_prefix, "/api");
    assert_string_equal(r->add_prefix, "/v2");
    assert_string_equal(r->request.set[1].value, "{\"group\":\"a\"}");
    assert_string_equal(r->request.remove[0], "Cookie");
    assert_string_equal(r->response.add[0].name, "Link");
    assert_false(conf_route_is_own(&c->routes[0]));
    assert_null(c->routes[1].rules);
    conf_unref(c);
    c = with_route("redirect: { to: \"https://e.example{target}\", status: 302 }", problem);
    assert_string_equal(problem, "");
    assert_true(conf_route_is_own(&c->routes[0]));
    assert_string_equal(c->routes[0].name, "redirect /x/");
    assert_int_equal(c->routes[0].rules->status, 302);
    conf_unref(c);
    c = with_route("respond: { body: \"a\\n\\tb\\n\" }", problem);
    assert_string_equal(problem, "");
    assert_string_equal(c->routes[0].rules->body, "a\n\tb\n");
    conf_unref(c);
    c = with_route("service: app, error_pages: [{ status: [502, 503], body: a, type: text/plain }, "
                   "{ status: 503, body: b }]",
                   problem);
    assert_string_equal(problem, "");
    assert_string_equal(conf_page(&c->routes[0].pages, 503)->body, "a");
    assert_string_equal(conf_page(&c->routes[0].pages, 502)->type, "text/plain");
    assert_null(conf_page(&c->routes[0].pages, 504));
    assert_null(conf_page(&c->pages, 503));
    conf_unref(c);
    assert_null(with_route("service: \"a\\nb\"", problem));
    assert_non_null(strstr(problem, "line breaks"));
}

static void answers_are_mapped_back(void **state)
{
    (void)state;
    char problem[400];
    struct conf *c = with_route("service: app, rewrite: { strip_prefix: /a }", problem);
    assert_non_null(c->routes[0].rules->back);
    conf_unref(c);
    c = with_route("service: app, rewrite: { strip_prefix: /a }, map_back: off", problem);
    assert_null(c->routes[0].rules->back);
    conf_unref(c);
    c = with_route("service: app, deny: [10.0.0.1]", problem);
    assert_null(c->routes[0].rules->back);
    conf_unref(c);
    c = with_route("service: app, map_back: { location: { \"http://a/\": \"{scheme}://{host}/\" }, "
                   "cookie_path: { /: /x/ }, cookie_domain: { .a.example: \"\" } }",
                   problem);
    assert_string_equal(problem, "");
    const struct conf_back *back = c->routes[0].rules->back;
    assert_string_equal(back->location.at[0].from, "http://a/");
    assert_string_equal(back->cookie_path.at[0].to, "/x/");
    assert_string_equal(back->cookie_domain.at[0].to, "");
    conf_unref(c);
}

static void paths_may_be_regular_expressions(void **state)
{
    (void)state;
    char problem[400];
    struct conf *c = with_route("service: app, rewrite: { pattern: \"^/(?<who>[a-z]+)/(.)\", "
                                "to: \"/$2/${who}-$$?a=${2}\" }",
                                problem);
    assert_string_equal(problem, "");
    const struct conf_rewrite *rw = c->routes[0].rules->rewrite;
    assert_int_equal(rw->path.count, 5);
    assert_int_equal(rw->path.pieces[1].group, 2);
    assert_int_equal(rw->path.pieces[3].group, 1);
    assert_true(span_eq(rw->path.pieces[4].text, SPAN("-$")));
    assert_true(rw->has_query);
    assert_false(rw->drops_query);
    assert_true(c->has_regex);
    conf_unref(c);
    c = with_route("service: app, rewrite: { pattern: ^/, to: /a? }", problem);
    assert_string_equal(problem, "");
    assert_true(c->routes[0].rules->rewrite->drops_query);
    assert_false(c->routes[0].rules->rewrite->has_query);
    conf_unref(c);
    struct conf_report report;
    static const char text[] =
        "listen: [\":8080\"]\nservices: { app: { endpoints: [\"10.0.0.1:80\"] } }\n"
        "routes:\n  - { match: '~^/u/(\\d+)$', service: app, rewrite: { to: /$1 } }\n"
        "  - { match: { path: '~* \\.png$', host: a.example }, service: app }\n"
        "  - { match: '~^/o/(.*)', redirect: { to: 'https://b.example/$1' } }\n"
        "  - { match: /, service: app }\n";
    assert_int_equal(conf_parse(span_of(text), "t.yaml", &c, &report), FB_OK);
    conf_report_fini(&report);
    assert_int_equal(c->routes[0].path_kind, CONF_PATH_REGEX);
    assert_string_equal(c->routes[0].name, "app ~^/u/(\\d+)$");
    assert_string_equal(c->routes[1].path, "~*\\.png$");
    assert_int_equal(c->routes[2].rules->to_parts.count, 2);
    assert_null(c->routes[3].regex);
    conf_unref(c);
    c = with_route("service: app", problem);
    assert_false(c->has_regex);
    conf_unref(c);
}

static void what_would_harm_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *route, *says;
    } rows[] = {
        {"service: app, request_headers: { set: { Host: a } }", "`host` of the service"},
        {"service: app, request_headers: { set: { content-length: 3 } }", "foldback itself"},
        {"service: app, request_headers: { remove: [Transfer-Encoding] }", "foldback itself"},
        {"service: app, response_headers: { remove: [Content-Encoding] }", "foldback itself"},
        {"service: app, request_headers: { set: { \"X A\": b } }", "not the name"},
        {"service: app, request_headers: { set: { X-A: \"a\\r\\nB: c\" } }", "control characters"},
        {"service: app, request_headers: { set: { X-A: \"{hots}\" } }",
         "{hots} stands for nothing"},
        {"service: app, response_headers: { set: { X-A: \"{path}\" } }", "stands for nothing here"},
        {"service: app, request_headers: {}", "nothing is set"},
        {"service: app, request_headers: { put: { A: b } }", "put"},
        {"service: app, rewrite: { strip_prefix: api }", "must begin with /"},
        {"service: app, rewrite: { add_prefix: //evil }", "another host"},
        {"service: app, rewrite: {}", "empty"},
        {"service: app, error_pages: { 503: x }", "must be a list"},
        {"service: app, error_pages: []", "1..16 pages"},
        {"service: app, error_pages: [{ status: 503 }]", "needs `status` and `body`"},
        {"service: app, error_pages: [{ status: 302, body: x }]", "400..599"},
        {"service: app, error_pages: [{ status: [], body: x }]", "1..16 values"},
        {"service: app, error_pages: [{ status: 503, body: x, type: html }]", "media type"},
        {"service: app, rewrite: { to: /y }", "needs a `pattern`"},
        {"service: app, rewrite: { pattern: \"^/(a\", to: /y }",
         "missing closing parenthesis, at byte 5, behind \"^/(a\""},
        {"service: app, rewrite: { pattern: \"(?>>\", to: /y }", "no regular expression"},
        {"service: app, rewrite: { pattern: \"\\\\C\", to: /y }", "no regular expression"},
        {"service: app, rewrite: { pattern: \"(*UTF)a\", to: /y }", "no regular expression"},
        {"service: app, rewrite: { pattern: \"a b\", to: /y }", "byte 2 of the pattern"},
        {"service: app, rewrite: { pattern: \"\", to: /y }", "1..1024 bytes"},
        {"service: app, rewrite: { pattern: ^/a }", "needs `to`"},
        {"service: app, rewrite: { pattern: ^/a, to: y }", "must begin with /"},
        {"service: app, rewrite: { pattern: ^/a, to: //y }", "another host"},
        {"service: app, rewrite: { pattern: ^/a, to: \"/$1\" }", "the pattern has 0 groups"},
        {"service: app, rewrite: { pattern: \"^/(?<a>.)\", to: \"/${b}\" }",
         "${b} stands for nothing"},
        {"service: app, rewrite: { pattern: ^/(a), to: \"/%$1\" }", "broken escape"},
        {"service: app, rewrite: { pattern: ^/(a), to: \"/../$1\" }", "segments"},
        {"service: app, rewrite: { pattern: ^/(a), to: \"/{query}$1\" }", "stands for nothing"},
        {"service: app, rewrite: { pattern: ^/(a), to: \"/b?c#d\" }", "behind its ?"},
        {"service: app, rewrite: { pattern: ^/(a), to: \"/b\", add_prefix: /c }", "not both"},
        {"service: app, map_back: maybe", "on"},
        {"service: app, map_back: {}", "map_back is empty"},
        {"service: app, map_back: { location: {} }", "1..32 entries"},
        {"service: app, map_back: { location: { app: /x } }", "what is replaced must begin with"},
        {"service: app, map_back: { location: { /a: //x } }", "one /"},
        {"service: app, map_back: { location: { /a: \"/{path}\" } }", "{host} and {scheme}"},
        {"service: app, map_back: { cookie_path: { /: \"/a;b\" } }", "; and"},
        {"service: app, map_back: { cookie_path: { a: / } }", "must begin with /"},
        {"service: app, map_back: { cookie_domain: { \"a b\": c } }", "must be a name"},
        {"service: app, map_back: { cookies: { a: b } }", "cookies"},
        {"redirect: { to: \"/$1\" }", "begin it with ~"},
        {"redirect: { to: \"https://a$1\" }", "to must be"},
        {"service: app, allow: []", "1..64"},
        {"service: app, deny: [10.0.0.1/8]", "no bit set"},
        {"redirect: https", "name the `service`"},
        {"redirect: { to: \"https://a{path}\" }, service: app", "remove its `service`"},
        {"redirect: { to: \"{path}\" }", "to must be"},
        {"redirect: { to: \"/{path}\" }", "to must be"},
        {"redirect: { to: //evil }", "to must be"},
        {"redirect: { to: \"https://{path}\" }", "to must be"},
        {"redirect: { to: \"https://{host}.evil/\" }", "to must be"},
        {"redirect: { to: \"https://a.example{host}\" }", "to must be"},
        {"redirect: { to: \"javascript:alert(1)\" }", "to must be"},
        {"redirect: { to: \"https://a/\", status: 304 }", "301, 302, 303, 307 or 308"},
        {"redirect: { to: \"https://a/\", status: 300 }", "status"},
        {"redirect: { status: 301 }", "needs `to`"},
        {"redirect: http", "must be https"},
        {"respond: { status: 199 }", "status"},
        {"respond: { status: 204, body: x }", "no body"},
        {"respond: { type: html }", "media type"},
        {"respond: { status: 200 }, redirect: { to: \"https://a/\" }", "not both"},
        {"respond: {}, rewrite: { strip_prefix: /x }", "do nothing"},
        {"priority: critical", "`redirect` or `respond`"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        char problem[400];
        conf_unref(with_route(rows[i].route, problem));
        if (!strstr(problem, rows[i].says))
            fail_msg("%s: \"%s\" does not say \"%s\"", rows[i].route, problem, rows[i].says);
    }
    char route[9000], problem[400];
    snprintf(route, sizeof route,
             "service: app, response_headers: { set: { A: %04000d, B: %04000d } }", 1, 2);
    conf_unref(with_route(route, problem));
    assert_string_equal(problem, "");
    snprintf(route, sizeof route,
             "service: app, response_headers: { set: { A: %04096d, B: %04096d } }", 1, 2);
    conf_unref(with_route(route, problem));
    assert_non_null(strstr(problem, "8192 bytes in all, got"));
}

static void words_in_braces_are_found(void **state)
{
    (void)state;
    struct span rest = SPAN("a{b {host}{x_y}{}{A}"), piece;
    static const struct {
        const char *text;
        enum conf_var var;
    } want[] = {{"a{b ", CONF_VAR_NONE},
                {"host", CONF_VAR_HOST},
                {"x_y", CONF_VAR_UNKNOWN},
                {"{}{A}", CONF_VAR_NONE}};
    enum conf_var var;
    for (size_t i = 0; i < FB_COUNT(want); i++) {
        assert_true(conf_var_next(&rest, &piece, &var));
        assert_int_equal(var, want[i].var);
        assert_true(span_eq(piece, span_of(want[i].text)));
    }
    assert_false(conf_var_next(&rest, &piece, &var));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_are_read),
        cmocka_unit_test(what_is_given_twice_is_read_no_further),
        cmocka_unit_test(paths_may_be_regular_expressions),
        cmocka_unit_test(answers_are_mapped_back),
        cmocka_unit_test(what_would_harm_is_refused),
        cmocka_unit_test(words_in_braces_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

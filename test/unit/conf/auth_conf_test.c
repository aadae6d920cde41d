/* SPDX-License-Identifier: Apache-2.0 */
/* What a configuration may say about who may ask. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static struct conf *with_auth(const char *route, char problem[400])
{
    struct buf text;
    struct conf *c = NULL;
    struct conf_report report;
    buf_init(&text, 64 * KIB);
    buf_printf(
        &text,
        "listen: [\":8080\"]\n"
        "services:\n  app: { endpoints: [\"10.0.0.1:80\"] }\n"
        "  login: { endpoints: [\"10.0.0.2:80\"] }\n"
        "routes: [{ match: /x/, %s }, { match: /l/, service: login }, { match: /, service: app "
        "}]\n",
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

static void passwords_are_read(void **state)
{
    (void)state;
    char problem[400];
    struct conf *c = with_auth("service: app, auth: { basic: { file: users } }", problem);
    assert_string_equal(problem, "");
    const struct conf_auth *a = c->routes[0].auth;
    assert_string_equal(a->file, "users");
    assert_string_equal(a->realm, "restricted");
    assert_string_equal(a->user_header, "");
    assert_int_equal(a->remember_ms, 300000);
    assert_false(a->is_forwarded);
    assert_null(c->routes[1].auth);
    conf_unref(c);
    c = with_auth("service: app, auth: { basic: { file: users, realm: \"Staff only\", user_header: "
                  "X-User, remember: 0s, forward: true } }",
                  problem);
    assert_string_equal(problem, "");
    a = c->routes[0].auth;
    assert_string_equal(a->realm, "Staff only");
    assert_string_equal(a->user_header, "X-User");
    assert_int_equal(a->remember_ms, 0);
    assert_true(a->is_forwarded);
    struct buf out;
    buf_init(&out, 64 * KIB);
    conf_show(c, false, &out);
    assert_non_null(strstr(buf_str(&out), "auth.basic.user_header"));
    buf_fini(&out);
    conf_unref(c);
}

static void a_question_is_read(void **state)
{
    (void)state;
    char problem[400];
    struct conf *c = with_auth("service: app, auth: { request: { service: login } }", problem);
    assert_string_equal(problem, "");
    const struct conf_auth *a = c->routes[0].auth;
    assert_null(a->file);
    assert_int_equal(a->service, 1);
    assert_string_equal(a->path, "/");
    assert_int_equal(a->timeout_ms, 2000);
    assert_int_equal(a->copied_count, 0);
    assert_false(a->takes_redirects);
    assert_false(a->is_open);
    conf_unref(c);
    c = with_auth(
        "service: app, auth: { request: { service: login, path: /verify, timeout: 60s, "
        "response_headers: [X-User, Authorization], redirects: true, on_failure: allow }, "
        "except: [10.0.0.0/8, \"::1\"] }",
        problem);
    assert_string_equal(problem, "");
    a = c->routes[0].auth;
    assert_int_equal(a->except_count, 2);
    assert_string_equal(a->path, "/verify");
    assert_int_equal(a->timeout_ms, 60000);
    assert_string_equal(a->copied[1], "Authorization");
    assert_true(a->takes_redirects);
    assert_true(a->is_open);
    struct buf out;
    buf_init(&out, 64 * KIB);
    conf_show(c, false, &out);
    assert_non_null(strstr(buf_str(&out), "auth.request.response_headers[1]"));
    buf_fini(&out);
    conf_unref(c);
}

static void what_would_not_work_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *route, *says;
    } rows[] = {
        {"service: app, auth: on", "must be a map"},
        {"service: app, auth: {}", "auth says nothing"},
        {"service: app, auth: { except: [10.0.0.0/8] }", "auth says nothing"},
        {"service: app, auth: { except: 10.0.0.0/8, request: { service: login } }",
         "must be a list"},
        {"service: app, auth: { basic: {} }", "needs the `file`"},
        {"service: app, auth: { basic: { file: \"\" } }", "must name a file"},
        {"service: app, auth: { basic: { file: u, realm: 'a\"b' } }", "visible characters"},
        {"service: app, auth: { basic: { file: u, user_header: Host } }", "Host is set"},
        {"service: app, auth: { basic: { file: u, user_header: X-Forwarded-For } }", "answers for"},
        {"service: app, auth: { basic: { file: u, user_header: Authorization } }", "forward: true"},
        {"service: app, auth: { basic: { file: u, user_header: a b } }", "not the name"},
        {"service: app, auth: { basic: { file: u, remember: 2h } }", "must be 0..1h"},
        {"service: app, auth: { request: {} }", "needs the `service`"},
        {"service: app, auth: { request: { service: logni } }", "did you mean `login`"},
        {"service: app, auth: { request: { service: login, path: x } }", "must begin with /"},
        {"service: app, auth: { request: { service: login, timeout: 9ms } }", "must be 10ms..60s"},
        {"service: app, auth: { request: { service: login, timeout: 61s } }", "must be 10ms..60s"},
        {"service: app, auth: { request: { service: login, response_headers: [] } }",
         "1..16 names"},
        {"service: app, auth: { request: { service: login, response_headers: [Host] } }",
         "Host is"},
        {"service: app, auth: { request: { service: login, on_failure: pass } }", "deny"},
        {"service: app, auth: { request: { service: login }, basic: { file: u } }", "not both"},
        {"respond: { body: a }, auth: { basic: { file: u } }", "answers by itself"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        char problem[400];
        assert_null(with_auth(rows[i].route, problem));
        if (!strstr(problem, rows[i].says))
            fail_msg("%s: %s", rows[i].route, problem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passwords_are_read),
        cmocka_unit_test(a_question_is_read),
        cmocka_unit_test(what_would_not_work_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

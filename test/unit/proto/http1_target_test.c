/* SPDX-License-Identifier: Apache-2.0 */
/* Normal forms of paths and hosts. */
#include "http1_try.h"

struct row {
    const char *raw;
    const char *want; /* NULL: refused */
};

static const struct row paths[] = {
    {"/", "/"},
    {"/a", "/a"},
    {"/a/", "/a/"},
    {"//", "//"},
    {"/a//b", "/a//b"},
    {"///a", "///a"},
    {"/.", "/"},
    {"/..", "/"},
    {"/./", "/"},
    {"/../", "/"},
    {"/../../a", "/a"},
    {"/a/.", "/a/"},
    {"/a/..", "/"},
    {"/a/./b", "/a/b"},
    {"/a/../b", "/b"},
    {"/a/b/../../c", "/c"},
    {"/a/b/c/./../../g", "/a/g"},
    {"/mid/content=5/../6", "/mid/6"},
    {"/a//../b", "/a/b"},
    {"//..", "/"},
    {"//../a", "/a"},
    {"/a/../..", "/"},
    {"/a/...", "/a/..."},
    {"/.a", "/.a"},
    {"/..a", "/..a"},
    {"/a.", "/a."},
    {"/a..", "/a.."},
    {"/a../b", "/a../b"},
    {"/a/.b/..c/d", "/a/.b/..c/d"},
    {"/%2e", "/"},
    {"/%2E%2e/a", "/a"},
    {"/a/%2e%2E/b", "/b"},
    {"/a/.%2e/b", "/b"},
    {"/a/%2e./b", "/b"},
    {"/a/%2e/b", "/a/b"},
    {"/a%2e%2e/b", "/a../b"},
    {"/%61%62", "/ab"},
    {"/%7e%5F%2d", "/~_-"},
    {"/%41-%5a%30", "/A-Z0"},
    {"/a%2fb", "/a%2Fb"},
    {"/a%2f..%2fb", "/a%2F..%2Fb"},
    {"/..%2fa", "/..%2Fa"},
    {"/a%5cb", "/a%5Cb"},
    {"/%20a%20", "/%20a%20"},
    {"/%0a", "/%0A"},
    {"/%c3%a9", "/%C3%A9"},
    {"/%25%32%65", "/%252e"},
    {"/%3f%23", "/%3F%23"},
    {"/a:@!$&'()*+,;=", "/a:@!$&'()*+,;="},
    {"/a[b]", "/a%5Bb%5D"},
    {"/\"<>^`{|}", "/%22%3C%3E%5E%60%7B%7C%7D"},
    {"/a;b=c/../d", "/d"},
    {"/%00", NULL},
    {"/a%00b", NULL},
    {"/%", NULL},
    {"/%4", NULL},
    {"/%4/", NULL},
    {"/%zz", NULL},
    {"/%4g", NULL},
    {"/%u0041", NULL},
    {"/a\\b", NULL},
    {"/a b", NULL},
    {"/a\tb", NULL},
    {"/\177", NULL},
    {"/\303\251", NULL},
    {"/a#b", NULL},
    {"/a?b", NULL},
    {"", NULL},
    {"a", NULL},
    {"./a", NULL},
};

static void path_has_one_spelling(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(paths); i++) {
        char text[128];
        char again[128];
        struct http1_out w = http1_out(text, sizeof(text));
        enum http1_error error = http1_path_normalise_text(span_of(paths[i].raw), &w);
        if ((error == HTTP1_E_NONE) != (paths[i].want != NULL))
            fail_msg("%s: %s", paths[i].raw, http1_error_name(error));
        if (error != HTTP1_E_NONE) {
            assert_int_equal(error, HTTP1_E_BAD_TARGET);
            continue;
        }
        assert_span(http1_out_span(&w), span_of(paths[i].want));
        struct http1_out v = http1_out(again, sizeof(again));
        assert_int_equal(http1_path_normalise_text(http1_out_span(&w), &v), HTTP1_E_NONE);
        assert_span(http1_out_span(&v), http1_out_span(&w));
    }
}

static const struct {
    const char *line, *target, *path;
} targets[] = {
    {"GET /a/../b?c=%zz&d", "/b?c=%zz&d", "/b"},
    {"GET /?", "/?", "/"},
    {"GET /a", "/a", "/a"},
    {"GET http://h", "/", "/"},
    {"GET http://h?a", "/?a", "/"},
    {"GET http://h/%7Ea?b", "/~a?b", "/~a"},
    {"OPTIONS *", "*", "*"},
    {"OPTIONS http://h", "*", "*"},
    {"OPTIONS http://h/", "/", "/"},
    {"OPTIONS http://h?a", "/?a", "/"},
};

static void forwarded_target_is_the_normal_form(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(targets); i++) {
        char text[128];
        char out[128];
        struct try t;
        struct span target, path;
        int len = snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: h\r\n\r\n", targets[i].line);
        try_whole(&t, false, HTTP1_OTHER, (struct span){text, (size_t)len});
        assert_int_equal(t.step, HTTP1_DONE);
        struct http1_out w = http1_out(out, sizeof(out));
        http1_put(&w, SPAN("before"));
        assert_int_equal(http1_target_normalise(&t.p.head, &w, &target, &path), HTTP1_E_NONE);
        assert_span(target, span_of(targets[i].target));
        assert_span(path, span_of(targets[i].path));
        try_end(&t);
    }
}

static void tunnel_has_no_path(void **state)
{
    (void)state;
    char out[128];
    struct try t;
    struct span path;
    struct http1_out w = http1_out(out, sizeof(out));
    try_whole(&t, false, HTTP1_OTHER, SPAN("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"));
    assert_int_equal(http1_path_normalise(&t.p.head, &w, &path), HTTP1_E_BAD_TARGET);
    try_end(&t);
}

static void full_writer_is_told_and_not_overrun(void **state)
{
    (void)state;
    char out[12];
    struct http1_out w = http1_out(out, 8);
    memset(out, 'X', sizeof(out));
    assert_int_equal(http1_path_normalise_text(SPAN("/a/%2e/"), &w), HTTP1_E_NONE);
    assert_true(w.failed);
    assert_int_equal(w.len, 0);
    assert_true(w.needed > 8);
    w = http1_out(out, 8);
    assert_int_equal(http1_path_normalise_text(SPAN("/abcdefg"), &w), HTTP1_E_NONE);
    assert_false(w.failed);
    assert_memory_equal(out, "/abcdefgXXXX", 12);
}

static const struct {
    const char *raw, *name; /* name NULL: refused */
    uint16_t port;
} hosts[] = {
    {"a", "a", 0},
    {"A.b", "A.b", 0},
    {"a.", "a", 0},
    {"a.:80", "a", 80},
    {"a:", "a", 0},
    {"a:00080", "a", 80},
    {"127.0.0.1:8080", "127.0.0.1", 8080},
    {"[::1]", "[::1]", 0},
    {"[::ffff:1.2.3.4]:1", "[::ffff:1.2.3.4]", 1},
    {"a_b-c.d", "a_b-c.d", 0},
    {"", NULL, 0},
    {".", NULL, 0},
    {".a", NULL, 0},
    {"a..", NULL, 0},
    {"a:000080", NULL, 0},
    {"a:-1", NULL, 0},
    {"a: 1", NULL, 0},
    {"u@a", NULL, 0},
    {"u:p@a", NULL, 0},
    {"a/", NULL, 0},
    {"a?", NULL, 0},
    {"a#", NULL, 0},
    {"a\\", NULL, 0},
    {"a%2e", NULL, 0},
    {"a\"b", NULL, 0},
    {"[]", NULL, 0},
    {"[::1]a", NULL, 0},
    {"[::1", NULL, 0},
    {"[v1.a]", NULL, 0},
    {"a]", NULL, 0},
};

static void host_is_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(hosts); i++) {
        struct span name = {NULL, 0};
        uint16_t port = 1;
        bool is_ok = http1_host_split(span_of(hosts[i].raw), &name, &port);
        if (is_ok != (hosts[i].name != NULL))
            fail_msg("%s", hosts[i].raw);
        if (!is_ok)
            continue;
        assert_span(name, span_of(hosts[i].name));
        assert_int_equal(port, hosts[i].port);
    }
}

static void long_host_is_refused(void **state)
{
    (void)state;
    char text[300];
    struct span name;
    uint16_t port;
    memset(text, 'a', sizeof(text));
    assert_true(http1_host_split((struct span){text, 254}, &name, &port));
    assert_false(http1_host_split((struct span){text, 255}, &name, &port));
    assert_false(http1_host_split(SPAN("[1\0]"), &name, &port));
}

static void host_is_lower_case(void **state)
{
    (void)state;
    char out[64];
    struct try t;
    struct http1_out w = http1_out(out, sizeof(out));
    try_whole(&t, false, HTTP1_OTHER, SPAN("GET / HTTP/1.1\r\nHost: Shop.EXAMPLE.:80\r\n\r\n"));
    assert_span(http1_host_normalise(&t.p.head, &w), SPAN("shop.example"));
    w = http1_out(out, 3);
    assert_int_equal(http1_host_normalise(&t.p.head, &w).len, 0);
    assert_true(w.failed);
    try_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_has_one_spelling),
        cmocka_unit_test(forwarded_target_is_the_normal_form),
        cmocka_unit_test(tunnel_has_no_path),
        cmocka_unit_test(full_writer_is_told_and_not_overrun),
        cmocka_unit_test(host_is_split),
        cmocka_unit_test(long_host_is_refused),
        cmocka_unit_test(host_is_lower_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

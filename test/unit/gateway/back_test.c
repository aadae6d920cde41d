/* SPDX-License-Identifier: Apache-2.0 */
/* What clients get for the addresses and cookies that endpoints name. */
#include "gateway/back.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static const struct conf_back automatic;
static const struct conf_endpoint endpoints[] = {{.host = "10.0.0.1", .port = 3000},
                                                 {.host = "fd00::1", .port = 80}};
static const struct conf_service plain = {
    .host_header = "", .endpoints = endpoints, .endpoint_count = 2};
static const struct conf_service renamed = {
    .host_header = "app.internal:80", .endpoints = endpoints, .endpoint_count = 2};
static const struct conf_service by_tls = {.host_header = "app.internal", .tls = {.is_on = true}};

#define RULES(strip, add) ((struct conf_rules){.strip_prefix = strip, .add_prefix = add})

static const char *written(const struct back_note *b, const char *name, const char *value)
{
    static char room[1000];
    struct http1_out w = http1_out(room, sizeof room - 1);
    if (!back_write(b, span_of(name), span_of(value), &w))
        return "not written";
    assert_false(w.failed);
    assert_true(w.len >= strlen(name) + 4);
    room[w.len - 2] = 0; /* CRLF */
    return room + strlen(name) + 2;
}

#define ROW(...)                                                                                   \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
static const struct {
    const char *strip, *add, *name, *value, *want;
} rows[] = {
    ROW("/api", "", "Location", "/login?a=b#c", "/api/login?a=b#c"),
    ROW("/api", "", "location", "/", "/api/"),
    ROW("/api", "", "Location", "/api/login", "/api/login"), /* it heeds X-Forwarded-Prefix */
    ROW("/api", "", "Location", "/api?x", "/api?x"),
    ROW("/api", "", "Location", "/apis", "/api/apis"),
    ROW("/api", "", "Location", "login", "login"),
    ROW("/api", "", "Location", "../x", "../x"),
    ROW("/api", "", "Location", "?x", "?x"),
    ROW("/api", "", "Location", "", ""),
    ROW("/api", "", "Location", "//other.example/x", "//other.example/x"),
    ROW("/api", "", "Location", "/\\other.example/x", "/\\other.example/x"),
    ROW("/api", "", "Location", "https://other.example/x", "https://other.example/x"),
    ROW("/api", "", "Location", "http://shop.example/x", "http://shop.example/api/x"),
    ROW("/api", "", "Location", "http://SHOP.example:80/x", "http://SHOP.example:80/api/x"),
    ROW("/api", "", "Location", "https://shop.example/x", "https://shop.example/api/x"),
    ROW("/api", "", "Location", "http://shop.example:8080/x", "http://shop.example:8080/x"),
    ROW("/api", "", "Location", "http://shop.example@evil.example/x",
        "http://shop.example@evil.example/x"),
    ROW("/api", "", "Location", "http://shop.example.evil.example/x",
        "http://shop.example.evil.example/x"),
    ROW("/api", "", "Location", "http://shop.example", "http://shop.example/api/"),
    ROW("/api", "", "Location", "http://shop.example?q", "http://shop.example/api/?q"),
    ROW("/api", "", "Location", "http://10.0.0.1:3000/x", "http://shop.example/api/x"),
    ROW("/api", "", "Location", "http://[fd00::1]/x", "http://shop.example/api/x"),
    ROW("/api", "", "Location", "http://10.0.0.1:3001/x", "http://10.0.0.1:3001/x"),
    ROW("/api", "", "Location", "ftp://shop.example/x", "ftp://shop.example/x"),
    ROW("/api", "", "Location", "http://", "http://"),
    ROW("/api", "", "Content-Location", "/a.de.html", "/api/a.de.html"),
    ROW("/api", "", "Refresh", "5; url=/x", "5; url=/api/x"),
    ROW("/api", "", "Refresh", "0;URL='/x'", "0;URL='/api/x'"),
    ROW("/api", "", "Refresh", "5", "5"),
    ROW("/api", "", "Refresh", "5; url=", "5; url="),
    ROW("/api", "", "X-Location", "/x", "not written"),
    ROW("/api", "/v2", "Location", "/v2/x", "/api/x"),
    ROW("/api", "/v2", "Location", "/v2", "/api"),
    ROW("/api", "/v2", "Location", "/other", "/other"),
    ROW("/api", "/v2", "Location", "/v2x", "/v2x"),
    ROW("", "/v2", "Location", "/v2/x", "/x"),
    ROW("", "/v2", "Location", "/v2", "/"),
    ROW("", "/v2", "Location", "/v2?q", "/?q"),
    ROW("", "/v2", "Location", "/v2//evil.example/", "/evil.example/"),
    ROW("", "/v2", "Location", "/v2/\\evil.example/", "/evil.example/"),
    ROW("", "/v2", "Location", "/v2/\t/evil.example/", "/evil.example/"),
    ROW("/api", "", "Set-Cookie", "a=b; Path=/; Secure", "a=b; Path=/; Secure"),
    ROW("/api", "", "Set-Cookie", "a=b; path=/admin; HttpOnly", "a=b; Path=/api/admin; HttpOnly"),
    ROW("/api", "", "Set-Cookie", "a=b;Max-Age=1;Path=/api/x", "a=b;Max-Age=1; Path=/api/x"),
    ROW("/api", "", "Set-Cookie", "a=b", "a=b"),
    ROW("/api", "", "Set-Cookie", "a=b; Path=", "a=b; Path="),
    ROW("/api", "", "Set-Cookie", "path=/x; Domain=x.example", "path=/x; Domain=x.example"),
    ROW("/api", "", "Set-Cookie", "__Host-a=b; Path=/x", "__Host-a=b; Path=/x"),
    ROW("/api", "", "Set-Cookie", "a=b; Expires=Wed, 09 Jun 2027 10:18:14 GMT; Path=/x;",
        "a=b; Expires=Wed, 09 Jun 2027 10:18:14 GMT; Path=/api/x;"),
    ROW("", "/v2", "Set-Cookie", "a=b; Path=/v2/x", "a=b; Path=/x"),
};

static void prefixes_are_mapped_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct conf_rules rules = RULES(rows[i].strip, rows[i].add);
        rules.back = &automatic;
        struct back_note b = {
            .rules = &rules, .sv = &plain, .host = SPAN("shop.example"), .is_stripped = true};
        const char *got = written(&b, rows[i].name, rows[i].value);
        if (strcmp(got, rows[i].want) != 0)
            fail_msg("%s: %s: got %s, want %s", rows[i].name, rows[i].value, got, rows[i].want);
    }
    struct conf_rules rules = RULES("/api", "");
    rules.back = &automatic;
    struct back_note b = {.rules = &rules, .sv = &plain, .host = SPAN("shop.example")};
    assert_string_equal(written(&b, "Location", "/x"), "/x"); /* the path had no prefix */
}

static void the_name_of_the_endpoint_is_mapped_back(void **state)
{
    (void)state;
    struct conf_rules rules = RULES("", "");
    rules.back = &automatic;
    struct back_note b = {.rules = &rules, .sv = &renamed, .host = SPAN("shop.example:8080")};
    assert_string_equal(written(&b, "Location", "http://app.internal/x"),
                        "http://shop.example:8080/x");
    /* asked in the clear, it wants TLS: not where the client just came from */
    assert_string_equal(written(&b, "Location", "https://app.internal/x"),
                        "https://app.internal/x");
    assert_string_equal(written(&b, "Set-Cookie", "a=b; Domain=.App.Internal; Secure"),
                        "a=b; Secure");
    assert_string_equal(written(&b, "Set-Cookie", "a=b; Domain=internal"), "a=b; Domain=internal");
    b.is_https = true;
    assert_string_equal(written(&b, "Location", "http://app.internal/x"),
                        "https://shop.example:8080/x");
    b.sv = &by_tls;
    assert_string_equal(written(&b, "Location", "https://app.internal/x"),
                        "https://shop.example:8080/x");
    b.is_https = false;
    assert_string_equal(written(&b, "Location", "https://app.internal/x"),
                        "http://shop.example:8080/x");
    b.host = SPAN("");
    assert_string_equal(written(&b, "Location", "https://app.internal//x"), "/x");
    struct conf_service clear = by_tls;
    clear.tls.is_on = false;
    b.sv = &clear;
    b.host = SPAN("shop.example:8080");
    assert_string_equal(written(&b, "Location", "https://app.internal/x"),
                        "https://shop.example/x");
}

static void entries_come_first(void **state)
{
    (void)state;
    static const struct conf_pair location[] = {{"http://old.example/", "{scheme}://{host}/new/"},
                                                {"/a", "/b/"}};
    static const struct conf_pair paths[] = {{"/", "/app/"}};
    static const struct conf_pair domains[] = {{".old.example", "new.example"},
                                               {"gone.example", ""}};
    struct conf_back back = {.location = {location, 2}, .cookie_path = {paths, 1}, {domains, 2}};
    struct conf_rules rules = RULES("/api", "");
    rules.back = &back;
    struct back_note b = {.rules = &rules,
                          .sv = &plain,
                          .host = SPAN("shop.example:8443"),
                          .is_stripped = true,
                          .is_https = true};
    assert_string_equal(written(&b, "Location", "http://old.example/x?y"),
                        "https://shop.example/new/x?y");
    assert_string_equal(written(&b, "Location", "/a/evil.example"), "/b/evil.example");
    assert_string_equal(written(&b, "Location", "/a\\\t/evil.example"), "/b/evil.example");
    assert_string_equal(written(&b, "Location", "/c"), "/api/c");
    assert_string_equal(written(&b, "Set-Cookie", "a=b; Path=/"), "a=b; Path=/app/");
    assert_string_equal(written(&b, "Set-Cookie", "a=b; Path=/x; Domain=old.example"),
                        "a=b; Path=/app/x; Domain=new.example");
    assert_string_equal(written(&b, "Set-Cookie", "a=b; Domain=gone.example"), "a=b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_are_mapped_back),
        cmocka_unit_test(the_name_of_the_endpoint_is_mapped_back),
        cmocka_unit_test(entries_come_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

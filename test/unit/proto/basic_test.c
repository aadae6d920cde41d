/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/basic.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static void names_and_passwords_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *value, *user, *password;
    } rows[] = {
        {"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin", "open sesame"},
        {"basic QWxhZGRpbjpvcGVuIHNlc2FtZQ", "Aladdin", "open sesame"},
        {"BASIC   dGVzdDoxMjPCow== ", "test", "123\xc2\xa3"},
        {"Basic YTo=", "a", ""},
        {"Basic YTpiOmM=", "a", "b:c"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct basic b;
        assert_true(basic_read(span_of(rows[i].value), &b));
        assert_string_equal(b.user.at, rows[i].user);
        assert_string_equal(b.password.at, rows[i].password);
        assert_int_equal(b.user.len, strlen(rows[i].user));
        assert_int_equal(b.password.len, strlen(rows[i].password));
    }
}

static void what_names_nobody_is_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "Basic",
        "Basic ",
        "Bearer YTpi",
        "Basic YTpi!",                        /* no digit */
        "Basic YTpi YTpi",                    /* a blank inside */
        "Basic YTp",                          /* without a colon: "a:" would be YTo */
        "Basic YTpiY",                        /* a digit alone */
        "Basic YWI=",                         /* ab */
        "Basic OmI=",                         /* :b */
        "Basic YTpiAA==",                     /* a:b and a NUL */
        "Basic YTpi====",                     /* too much padding */
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZR==", /* bits that mean nothing */
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct basic b;
        if (basic_read(span_of(rows[i]), &b))
            fail_msg("%s is %s", rows[i], b.user.at);
    }
}

/* "a:" and <n> times "bbb". */
static bool reads_long(size_t n)
{
    char text[2048] = "Basic YTpi";
    size_t at = strlen(text);
    struct basic b;
    for (; n; n--, at += 4)
        memcpy(text + at, "YmJi", 4);
    bool is = basic_read((struct span){text, at}, &b);
    assert_true(!is || b.password.len == strlen(b.password.at));
    return is;
}

static void longer_than_any_password_is_refused(void **state)
{
    (void)state;
    assert_true(reads_long(170)); /* 511 bytes */
    assert_false(reads_long(171));
    assert_false(reads_long(400));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_passwords_are_read),
        cmocka_unit_test(what_names_nobody_is_refused),
        cmocka_unit_test(longer_than_any_password_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

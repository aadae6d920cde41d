/* SPDX-License-Identifier: Apache-2.0 */
/* Which certificate a name gets. */
#include "io/tls_cert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static struct tls_names sample(void)
{
    struct tls_names n = {0};
    tls_names_put(&n, SPAN("Example.org"), 0);
    tls_names_put(&n, SPAN("*.example.org"), 1);
    tls_names_put(&n, SPAN("shop.example.org"), 2);
    tls_names_put(&n, SPAN("shop.example.org"), 3);
    tls_names_put(&n, SPAN("*.com"), 4);
    tls_names_sort(&n);
    assert_false(n.has_failed);
    return n;
}

static void the_choice_follows_the_table(void **state)
{
    static const struct {
        const char *name;
        int want;
    } rows[] = {
        {"example.org", 0},
        {"EXAMPLE.ORG", 0},
        {"a.example.org", 1},
        {"shop.example.org", 2},
        {"SHOP.example.org.", 2},
        {"a.b.example.org", -1},
        {"org", -1},
        {"", -1},
        {".", -1},
        {".example.org", -1},
        {"example.com", 4},
        {"*.example.org", 1},
        {"a.example.com", -1},
    };
    (void)state;
    struct tls_names n = sample();
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        int got = tls_names_find(&n, span_of(rows[i].name));
        if (got != rows[i].want)
            print_error("\"%s\" got %d\n", rows[i].name, got);
        assert_int_equal(got, rows[i].want);
    }
    tls_names_fini(&n);
}

static void a_name_beyond_all_length_has_no_certificate(void **state)
{
    char text[400];
    (void)state;
    struct tls_names n = sample();
    memset(text, 'a', sizeof text);
    for (size_t len = 250; len <= sizeof text; len++)
        assert_int_equal(tls_names_find(&n, (struct span){text, len}), -1);
    tls_names_put(&n, (struct span){text, sizeof text}, 9);
    assert_int_equal(n.count, 4);
    tls_names_fini(&n);
}

static void without_names_nothing_is_found(void **state)
{
    (void)state;
    struct tls_names n = {0};
    tls_names_sort(&n);
    assert_int_equal(tls_names_find(&n, SPAN("example.org")), -1);
    tls_names_fini(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_choice_follows_the_table),
        cmocka_unit_test(a_name_beyond_all_length_has_no_certificate),
        cmocka_unit_test(without_names_nothing_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

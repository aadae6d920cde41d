/* SPDX-License-Identifier: Apache-2.0 */
#include "output/auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define TOKEN "0123456789abcdefTOKEN"
static const uint64_t seed[2] = {1, 2};

static struct auth made(const char *address)
{
    struct auth a;
    assert_true(auth_init(&a, TOKEN, address));
    auth_begin(&a, 9180, seed);
    return a;
}

static void the_token_opens_and_another_does_not(void **state)
{
    (void)state;
    struct auth a = made("127.0.0.1:9180");
    struct auth_request r = {.authorization = SPAN("Bearer " TOKEN)};
    assert_int_equal(auth_check(&a, &r, 1), AUTH_OK);
    r.authorization = SPAN("bearer  " TOKEN);
    assert_int_equal(auth_check(&a, &r, 1), AUTH_OK);
    r.authorization = SPAN("Bearer " TOKEN "x");
    assert_int_equal(auth_check(&a, &r, 1), AUTH_WRONG);
    r.authorization = SPAN("Basic " TOKEN);
    assert_int_equal(auth_check(&a, &r, 1), AUTH_MISSING);
    r.authorization = SPAN("");
    assert_int_equal(auth_check(&a, &r, 1), AUTH_MISSING);
}

static void a_token_to_ingest_is_one_role_and_no_other(void **state)
{
    (void)state;
    struct auth a = made("127.0.0.1:9180");
    uint32_t line = 0;
    assert_true(auth_set_ingest(&a, SPAN("# shop\nshop-0123456789abc\n\n  pos-0123456789abcd \r\n"),
                                &line));
    struct auth_request r = {.authorization = SPAN("Bearer pos-0123456789abcd")};
    assert_int_equal(auth_check(&a, &r, 1), AUTH_INGEST);
    assert_true(auth_may_ingest(&a, SPAN("Bearer shop-0123456789abc")));
    assert_true(auth_may_ingest(&a, SPAN("Bearer " TOKEN)));
    assert_false(auth_may_ingest(&a, SPAN("Bearer shop-0123456789abX")));
    assert_false(auth_may_ingest(&a, SPAN("")));
    assert_int_equal(auth_failures(&a, NULL, 1), 0);
    assert_false(auth_set_ingest(&a, SPAN("shop-0123456789abc\nshort\n"), &line));
    assert_int_equal(line, 2);
    assert_int_equal(a.ingest_count, 2); /* those of before */
    assert_true(auth_set_ingest(&a, SPAN(""), &line));
    assert_int_equal(auth_check(&a, &r, 1), AUTH_WRONG);
}

static void ten_wrong_tokens_close_the_door_to_the_wrong_tokens_of_one_address(void **state)
{
    (void)state;
    struct auth a = made("127.0.0.1:9180");
    const unsigned char one[AUTH_SOURCE_BYTES] = {1}, other[AUTH_SOURCE_BYTES] = {2};
    for (int i = 0; i < 10; i++)
        assert_int_equal(auth_login(&a, one, SPAN("wrong"), 1000), AUTH_WRONG);
    assert_int_equal(auth_login(&a, one, SPAN("wrong"), 1000), AUTH_TOO_MANY);
    assert_int_equal(auth_login(&a, one, SPAN(TOKEN), 1000), AUTH_OK);
    assert_int_equal(auth_login(&a, other, SPAN("wrong"), 1000), AUTH_WRONG);
    assert_int_equal(auth_login(&a, one, SPAN("wrong"), 61 * US_PER_S), AUTH_WRONG);
}

static void more_addresses_than_places_forget_the_oldest_one(void **state)
{
    (void)state;
    struct auth a = made("127.0.0.1:9180");
    const unsigned char first[AUTH_SOURCE_BYTES] = {0xff};
    assert_int_equal(auth_login(&a, first, SPAN("wrong"), 1000), AUTH_WRONG);
    for (unsigned i = 0; i < AUTH_SOURCES_MAX; i++) {
        unsigned char at[AUTH_SOURCE_BYTES] = {1, (unsigned char)i};
        assert_int_equal(auth_failures(&a, first, 1001 + i), 1);
        assert_int_equal(auth_login(&a, at, SPAN("wrong"), 1001 + i), AUTH_WRONG);
    }
    assert_int_equal(auth_failures(&a, first, 2000), 0);
}

static void a_session_lasts_its_time_and_only_as_it_was_given(void **state)
{
    (void)state;
    struct auth a = made("127.0.0.1:9180");
    struct buf cookie;
    buf_init(&cookie, 512);
    auth_put_cookie(&a, &cookie, 1000, false);
    assert_non_null(strstr(buf_str(&cookie), "HttpOnly; SameSite=Strict"));
    char value[200];
    snprintf(value, sizeof value, "other=1; %.*s", (int)strcspn(buf_str(&cookie), ";"),
             buf_str(&cookie));
    struct auth_request r = {.cookie = span_of(value)};
    assert_int_equal(auth_check(&a, &r, 2000), AUTH_OK);
    /* Others who guess do not end it. */
    for (int i = 0; i < 12; i++)
        (void)auth_login(&a, NULL, SPAN("wrong"), 2000);
    assert_int_equal(auth_check(&a, &r, 2000), AUTH_OK);
    assert_int_equal(auth_check(&a, &r, 1000 + AUTH_SESSION_US), AUTH_MISSING);
    value[strlen(value) - 1] ^= 1;
    assert_int_equal(auth_check(&a, &r, 2000), AUTH_MISSING);
    buf_fini(&cookie);
}

static void a_rebound_name_is_refused_on_loopback(void **state)
{
    (void)state;
    struct auth a = made("127.0.0.1:9180"), b = made("0.0.0.0:9180");
    assert_true(auth_host_ok(&a, SPAN("127.0.0.1")));
    assert_true(auth_host_ok(&a, SPAN("LOCALHOST")));
    assert_true(auth_host_ok(&a, SPAN("[::1]")));
    assert_false(auth_host_ok(&a, SPAN("evil.example")));
    assert_false(auth_host_ok(&a, SPAN("")));
    assert_true(auth_host_ok(&b, SPAN("proxy.internal")));
}

static void a_page_of_another_origin_may_not_write(void **state)
{
    (void)state;
    struct auth_request r = {.host = SPAN("127.0.0.1:9180"), .is_write = true};
    assert_true(auth_origin_ok(&r));
    r.origin = SPAN("http://127.0.0.1:9180");
    assert_true(auth_origin_ok(&r));
    r.origin = SPAN("http://127.0.0.1:3000");
    assert_false(auth_origin_ok(&r));
    r.origin = SPAN("null");
    assert_false(auth_origin_ok(&r));
    r.origin = SPAN("");
    r.fetch_site = SPAN("cross-site");
    assert_false(auth_origin_ok(&r));
    r.is_write = false;
    assert_true(auth_origin_ok(&r));
}

static void a_short_token_or_a_bare_host_is_refused(void **state)
{
    (void)state;
    struct auth a;
    assert_false(auth_init(&a, "short", "127.0.0.1:1"));
    assert_false(auth_init(&a, "0123456789abcdef with blanks", "127.0.0.1:1"));
    assert_false(auth_init(&a, TOKEN, "localhost"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_token_opens_and_another_does_not),
        cmocka_unit_test(a_token_to_ingest_is_one_role_and_no_other),
        cmocka_unit_test(ten_wrong_tokens_close_the_door_to_the_wrong_tokens_of_one_address),
        cmocka_unit_test(more_addresses_than_places_forget_the_oldest_one),
        cmocka_unit_test(a_session_lasts_its_time_and_only_as_it_was_given),
        cmocka_unit_test(a_rebound_name_is_refused_on_loopback),
        cmocka_unit_test(a_page_of_another_origin_may_not_write),
        cmocka_unit_test(a_short_token_or_a_bare_host_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

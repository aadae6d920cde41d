/* SPDX-License-Identifier: Apache-2.0 */
#include "knob/sources.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct memfile new_file(void)
{
    struct memfile m;
    struct fb_err err;
    assert_int_equal(memfile_create(&m, 1, 64, &err), FB_OK);
    sources_begin(&m, 0);
    return m;
}

static struct source name_of(const char *host, uint16_t port)
{
    struct source s;
    memset(&s, 0, sizeof s);
    s.service = 3;
    s.port = port;
    snprintf(s.host, sizeof s.host, "%s", host);
    return s;
}

static void what_is_said_is_read_and_what_is_dropped_is_gone(void **state)
{
    (void)state;
    struct memfile m = new_file();
    struct source s = name_of("shop.internal", 8080), out;
    uint16_t row = sources_take(&m, 0);
    assert_int_equal(row, 0);
    assert_false(sources_read(&m, row, &out)); /* nothing was said of it yet */
    s.state = SOURCE_NONE;
    sources_say(&m, row, &s);
    assert_true(sources_read(&m, row, &out));
    assert_memory_equal(&out, &s, sizeof s);
    uint32_t version = atomic_load(&m.sources[row].version);
    sources_say(&m, row, &s);
    assert_int_equal(atomic_load(&m.sources[row].version), version); /* the same again is no news */
    s.state = SOURCE_KNOWN;
    s.addresses = 2;
    sources_say(&m, row, &s);
    assert_true(sources_read(&m, row, &out));
    assert_int_equal(out.addresses, 2);
    sources_drop(&m, row);
    assert_false(sources_read(&m, row, &out));
    assert_int_equal(sources_take(&m, 0), 0); /* the place is given again */
    assert_false(sources_read(&m, 0, &out));
    assert_false(sources_read(&m, 900, &out));
    memfile_close(&m);
}

static void readers_see_the_gateway_that_serves_and_a_new_one_begins_with_none(void **state)
{
    (void)state;
    struct memfile m = new_file();
    struct source old = name_of("old.internal", 1), fresh = name_of("_http._tcp.new", 0), out;
    uint16_t a = sources_take(&m, 0), b = sources_take(&m, 1);
    assert_int_not_equal(a, b);
    sources_say(&m, a, &old);
    sources_say(&m, b, &fresh);
    assert_true(sources_read(&m, a, &out));
    assert_false(sources_read(&m, b, &out));
    atomic_store(&m.head->gateway_slot, 1); /* an upgrade */
    assert_false(sources_read(&m, a, &out));
    assert_true(sources_read(&m, b, &out));
    assert_string_equal(out.host, fresh.host);
    /* One that died in the middle of writing leaves nothing. */
    atomic_fetch_add(&m.sources[b].version, 1);
    assert_false(sources_read(&m, b, &out));
    sources_begin(&m, 1);
    assert_false(sources_read(&m, b, &out));
    assert_int_equal(sources_take(&m, 1), b);
    sources_say(&m, b, &fresh);
    assert_true(sources_read(&m, b, &out));
    memfile_close(&m);
}

static void the_rows_of_one_that_says_no_more_are_for_its_successor(void **state)
{
    (void)state;
    struct memfile m = new_file();
    uint32_t old = 0, fresh = 0, lack = 0;
    for (; old < 600; old++)
        assert_int_equal(sources_take(&m, 0), old);
    assert_int_equal(sources_lack(&m), 0);
    for (uint32_t i = 0; i < 600; i++) /* an upgrade: each has its own */
        sources_take(&m, 1) == EV_NONE ? lack++ : fresh++;
    assert_int_equal(fresh, MEMFILE_SOURCES - 600);
    assert_int_equal(sources_lack(&m), lack);
    sources_begin(&m, 0); /* the old one is retired */
    for (uint32_t i = 0; i < lack; i++)
        assert_int_not_equal(sources_take(&m, 1), EV_NONE);
    sources_say_lack(&m, 0);
    assert_int_equal(sources_lack(&m), 0);
    for (uint32_t i = 600; i < MEMFILE_SOURCES; i++)
        assert_int_not_equal(sources_take(&m, 0), EV_NONE);
    assert_int_equal(sources_take(&m, 0), EV_NONE);
    assert_int_equal(sources_lack(&m), 1);
    memfile_close(&m);
}

static void a_full_table_gives_none_and_texts_are_as_the_file_has_them(void **state)
{
    (void)state;
    struct memfile m = new_file();
    for (uint32_t i = 0; i < MEMFILE_SOURCES; i++)
        assert_int_equal(sources_take(&m, 0), i);
    assert_int_equal(sources_take(&m, 0), EV_NONE);
    assert_int_equal(sources_top(&m), MEMFILE_SOURCES);
    sources_drop(&m, 77);
    assert_int_equal(sources_take(&m, 0), 77);
    char text[SOURCE_TEXT_BYTES], longest[256];
    struct source s = name_of("shop.internal", 65535);
    sources_text(&s, text);
    assert_string_equal(text, "dns://shop.internal:65535");
    s = name_of("_http._tcp.shop.internal", 0);
    sources_text(&s, text);
    assert_string_equal(text, "dns+srv://_http._tcp.shop.internal");
    memset(longest, 'a', 255);
    longest[255] = '\0';
    s = name_of(longest, 65535);
    sources_text(&s, text);
    assert_int_equal(strlen(text), strlen("dns://:65535") + 255);
    assert_string_equal(sources_state_name(SOURCE_KEPT), "stale");
    assert_string_equal(sources_state_name(200), "");
    memfile_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_said_is_read_and_what_is_dropped_is_gone),
        cmocka_unit_test(readers_see_the_gateway_that_serves_and_a_new_one_begins_with_none),
        cmocka_unit_test(the_rows_of_one_that_says_no_more_are_for_its_successor),
        cmocka_unit_test(a_full_table_gives_none_and_texts_are_as_the_file_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

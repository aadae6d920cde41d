/* SPDX-License-Identifier: Apache-2.0 */
/* cli: numbers for people, tables, nearest words, encoding. */
#include "cli/cli_int.h"
#include "cli/table.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define ROW(...)                                                                                   \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

struct number_row {
    const char *(*print)(double v, char room[CLI_ROOM]);
    double v;
    const char *want;
};
static const struct number_row numbers[] = {
    ROW(cli_ms, 0, "0.00 ms"),
    ROW(cli_ms, 3.214, "3.21 ms"),
    ROW(cli_ms, 9.994, "9.99 ms"),
    ROW(cli_ms, 9.996, "10.0 ms"),
    ROW(cli_ms, 38.44, "38.4 ms"),
    ROW(cli_ms, 99.96, "100 ms"),
    ROW(cli_ms, 420, "420 ms"),
    ROW(cli_ms, 9999, "9999 ms"),
    ROW(cli_ms, 15000, "15 s"),
    ROW(cli_ms, 12345, "12.3 s"),
    ROW(cli_ms, NAN, "-"),
    ROW(cli_count, 0, "0"),
    ROW(cli_count, 7, "7"),
    ROW(cli_count, 1200, "1200"),
    ROW(cli_count, 12.54, "12.5"),
    ROW(cli_count, 0.216, "0.22"),
    ROW(cli_count, 1234.5, "1234"),
    ROW(cli_count, NAN, "-"),
    ROW(cli_rate, 12.54, "12.5/s"),
    ROW(cli_rate, NAN, "-"),
    ROW(cli_pct, 0, "0.0 %"),
    ROW(cli_pct, 0.0005, "0.05 %"),
    ROW(cli_pct, 0.0021, "0.2 %"),
    ROW(cli_pct, 1, "100.0 %"),
    ROW(cli_pct, NAN, "-"),
    ROW(cli_bytes, 0, "0 B"),
    ROW(cli_bytes, 1023, "1023 B"),
    ROW(cli_bytes, 1024, "1.0 KiB"),
    ROW(cli_bytes, 3565158, "3.4 MiB"),
    ROW(cli_bytes, 5e14, "455 TiB"),
    ROW(cli_bytes, 5e18, "4547474 TiB"),
    ROW(cli_bytes, NAN, "-"),
    ROW(cli_ago, 0, "0 s"),
    ROW(cli_ago, 119, "119 s"),
    ROW(cli_ago, 120, "2 min"),
    ROW(cli_ago, 7500, "2 h 5 min"),
    ROW(cli_ago, 200000, "2 days"),
    ROW(cli_ago, NAN, "-"),
    ROW(cli_rate, 1e300, NULL), /* whatever it prints, it stays in its room */
};

static void numbers_have_three_digits_that_matter(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(numbers); i++) {
        char room[CLI_ROOM + 8];
        memset(room, '#', sizeof room);
        const char *got = numbers[i].print(numbers[i].v, room);
        assert_true(strlen(got) < CLI_ROOM);
        assert_memory_equal(room + CLI_ROOM, "########", 8);
        if (numbers[i].want)
            assert_string_equal(got, numbers[i].want);
    }
}

static void nearest_word_is_within_a_third(void **state)
{
    static const char *const words[] = {"status", "simulate", "set", "get"};
    static const struct {
        const char *typed, *want;
    } rows[] = {
        {"staus", "status"}, {"statsu", "status"}, {"simulat", "simulate"},
        {"sett", "set"},     {"gte", NULL},        {"demo", NULL},
        {"", NULL},          {"xyzxyzxyz", NULL},
    };
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        const char *got = cli_closest(rows[i].typed, words, FB_COUNT(words));
        if (rows[i].want)
            assert_string_equal(got ? got : "none", rows[i].want);
        else if (got)
            fail_msg("\"%s\" became %s", rows[i].typed, got);
    }
    char long_word[200];
    memset(long_word, 'x', sizeof long_word - 1);
    long_word[sizeof long_word - 1] = '\0';
    assert_null(cli_closest(long_word, words, FB_COUNT(words)));
}

static void columns_line_up_in_every_script(void **state)
{
    static const char *const heads[] = {"NAME", ">N", "LAST"};
    struct table t;
    struct buf out;
    (void)state;
    buf_init(&out, 4096);
    table_init(&t, heads, FB_COUNT(heads));
    table_put(&t, "\xc3\xa4\xc3\xb6\xc3\xbc"); /* three letters, six bytes */
    table_putf(&t, "%d", 7);
    table_put(&t, "");
    table_put(&t, "abcde");
    table_putf(&t, "%d", 1234);
    table_put(&t, "x");
    table_print(&t, false, &out);
    assert_string_equal(buf_str(&out), "NAME      N  LAST\n"
                                       "\xc3\xa4\xc3\xb6\xc3\xbc       7  -\n"
                                       "abcde  1234  x\n");
    buf_clear(&out);
    table_print(&t, true, &out);
    assert_true(span_starts(buf_span(&out), SPAN("\033[1mNAME")));
    table_fini(&t);
    buf_fini(&out);
}

static void a_table_without_rows_is_its_head(void **state)
{
    static const char *const heads[] = {"A", ">B"};
    struct table t;
    struct buf out;
    (void)state;
    buf_init(&out, 4096);
    table_init(&t, heads, FB_COUNT(heads));
    table_print(&t, false, &out);
    assert_string_equal(buf_str(&out), "A  B\n");
    table_fini(&t);
    buf_fini(&out);
}

static void names_are_encoded_for_a_path(void **state)
{
    struct buf out;
    (void)state;
    buf_init(&out, 4096);
    client_encode(&out, "shop /a?b&c=\xc3\xa4~1.2-3_4");
    assert_string_equal(buf_str(&out), "shop%20%2Fa%3Fb%26c%3D%C3%A4~1.2-3_4");
    buf_clear(&out);
    buf_puts(&out, "/v1/x");
    cli_query(&out, "a", NULL);
    cli_query(&out, "b", "1 2");
    cli_query(&out, "c", "d");
    assert_string_equal(buf_str(&out), "/v1/x?b=1%202&c=d");
    buf_fini(&out);
}

static void members_that_are_missing_are_empty(void **state)
{
    (void)state;
    json_t *o = json_pack("{s:s, s:f, s:n, s:b, s:{s:s}}", "s", "x", "n", 1.5, "z", "b", 1,
                          "target", "name", "shop");
    assert_string_equal(cli_str(o, "s"), "x");
    assert_string_equal(cli_str(o, "n"), "");
    assert_string_equal(cli_str(o, "none"), "");
    assert_string_equal(cli_str(NULL, "s"), "");
    assert_true(cli_num(o, "n") == 1.5);
    assert_true(isnan(cli_num(o, "z")) && isnan(cli_num(o, "s")) && isnan(cli_num(NULL, "n")));
    assert_true(cli_is(o, "b"));
    assert_false(cli_is(o, "s") || cli_is(o, "none"));
    assert_string_equal(cli_target(o), "shop");
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_three_digits_that_matter),
        cmocka_unit_test(nearest_word_is_within_a_third),
        cmocka_unit_test(columns_line_up_in_every_script),
        cmocka_unit_test(a_table_without_rows_is_its_head),
        cmocka_unit_test(names_are_encoded_for_a_path),
        cmocka_unit_test(members_that_are_missing_are_empty),
    };
    return cmocka_run_group_tests_name("cli_text", tests, NULL, NULL);
}

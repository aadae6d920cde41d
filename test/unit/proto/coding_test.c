/* SPDX-License-Identifier: Apache-2.0 */
/* Which content coding a client gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/coding.h"

#include <stdlib.h>

static enum coding choose(const char *lines)
{
    static struct http1_field fields[32];
    static struct http1_parser parser;
    static char text[4096];
    static const struct http1_limits limits = {4096, 4096, 32};
    strcpy(text, "GET / HTTP/1.1\r\nHost: a\r\n");
    strcat(text, lines);
    strcat(text, "\r\n");
    http1_request_begin(&parser, &limits, fields);
    assert_int_equal(http1_parse(&parser, span_of(text)), HTTP1_DONE);
    return coding_choose(&parser.head);
}

static const struct row {
    const char *lines;
    enum coding want;
} rows[] = {
    {"", CODING_IDENTITY},
    {"Accept-Encoding:\r\n", CODING_IDENTITY},
    {"Accept-Encoding: gzip\r\n", CODING_GZIP},
    {"Accept-Encoding: GZIP\r\n", CODING_GZIP},
    {"Accept-Encoding: gzip, deflate, br, zstd\r\n", CODING_ZSTD},
    {"Accept-Encoding: gzip, br\r\n", CODING_BR},
    {"Accept-Encoding: gzip\r\nAccept-Encoding: br\r\n", CODING_BR},
    {"Accept-Encoding: gzip;q=1, br;q=0.9, zstd;q=0.1\r\n", CODING_GZIP},
    {"Accept-Encoding: gzip;q=0\r\n", CODING_IDENTITY},
    {"Accept-Encoding: gzip;q=0.0, br;q=0.001\r\n", CODING_BR},
    {"Accept-Encoding: *\r\n", CODING_ZSTD},
    {"Accept-Encoding: *;q=0.5, zstd;q=0\r\n", CODING_BR},
    {"Accept-Encoding: *;q=0\r\n", CODING_IDENTITY},
    {"Accept-Encoding: identity\r\n", CODING_IDENTITY},
    {"Accept-Encoding: identity, gzip\r\n", CODING_GZIP},
    {"Accept-Encoding: identity;q=0.6, gzip;q=0.5\r\n", CODING_IDENTITY},
    {"Accept-Encoding: gzip;q=0.5\r\n", CODING_GZIP},
    {"Accept-Encoding: deflate, compress\r\n", CODING_IDENTITY},
    {"Accept-Encoding: gzip;q=2, br;q=nan\r\n", CODING_IDENTITY},
    {"Accept-Encoding: gzip\r\nCache-Control: no-transform\r\n", CODING_IDENTITY},
};

static void the_highest_weight_wins_and_ties_go_to_the_better_coding(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (choose(rows[i].lines) != rows[i].want)
            fail_msg("row %zu: %s gives %s", i, rows[i].lines, coding_name(choose(rows[i].lines)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_weight_wins_and_ties_go_to_the_better_coding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "io/srv.h"

/* An answer is put together part by part: header, one question, records. */
static char m[4096];
static size_t len;
static struct srv_list list;

static void put(const char *bytes, size_t n)
{
    memcpy(m + len, bytes, n);
    len += n;
}
static void put16(uint32_t v)
{
    put((const char[]){(char)(v >> 8), (char)v}, 2);
}
#define PUT(text) put(text, sizeof(text) - 1)

static void begin(uint32_t answers)
{
    len = 0;
    put16(1);
    put16(0x8180);
    put16(1);
    put16(answers);
    put16(0);
    put16(0);
    PUT("\5_http\4_tcp\4shop\4test\0\0\x21\0\1");
}

static void record(uint32_t type, uint32_t ttl_s, const char *data, size_t n)
{
    PUT("\xc0\x0c");
    put16(type);
    put16(1);
    put16(0);
    put16(ttl_s);
    put16((uint32_t)n);
    put(data, n);
}
#define SRV(ttl_s, data) record(33, ttl_s, data, sizeof(data) - 1)

static bool parse(void)
{
    return srv_parse((struct span){m, len}, &list);
}

static void records_come_sorted_with_their_shortest_time(void **state)
{
    (void)state;
    begin(3);
    SRV(30, "\0\2\0\12\0\x50\1B\4Test\0");
    SRV(20, "\0\1\0\0\x1f\x90\1a\xc0\x17"); /* compressed: a.shop.test */
    SRV(40, "\0\2\0\5\0\x50\1a\4test\0");
    assert_true(parse());
    assert_int_equal(list.count, 3);
    assert_int_equal(list.ttl_s, 20);
    assert_string_equal(list.at[0].host, "a.shop.test");
    assert_int_equal(list.at[0].port, 8080);
    assert_string_equal(list.at[1].host, "a.test");
    assert_string_equal(list.at[2].host, "b.test");
    assert_int_equal(list.at[2].weight, 10);
    assert_int_equal(list.at[2].priority, 2);
}

static void what_is_no_host_is_left_out(void **state)
{
    (void)state;
    begin(4);
    SRV(30, "\0\1\0\1\0\x50\0");            /* ".": decidedly not there */
    SRV(30, "\0\1\0\1\0\0\1a\4test\0");     /* port 0 */
    SRV(30, "\0\1\0\1\0\x50\3a/b\4test\0"); /* no name of a host */
    record(5, 30, "\1x\4test\0", 8);        /* CNAME */
    assert_true(parse());
    assert_int_equal(list.count, 0);
}

static void broken_answers_are_refused_whole(void **state)
{
    (void)state;
    begin(1);
    SRV(30, "\0\1\0\1\0\x50\1a\xc0\x3b"); /* points at itself */
    assert_false(parse());
    assert_int_equal(list.count, 0);
    begin(1);
    SRV(30, "\0\1\0\1\0\x50\1a\xc3\xff"); /* points beyond the end */
    assert_false(parse());
    begin(2);
    SRV(30, "\0\1\0\1\0\x50\1a\4test\0"); /* one is missing */
    assert_false(parse());
    begin(1);
    SRV(30, "\0\1\0\1\0\x50\1a\4test\0");
    for (size_t cut = 0; cut < len; cut++)
        assert_false(srv_parse((struct span){m, cut}, &list));
    begin(1);
    record(33, 30, "\0\1\0\1\0\x50\1a\4test\0", 9); /* the name passes its record */
    assert_false(parse());
}

static void lists_are_compared_without_their_time(void **state)
{
    (void)state;
    struct srv_list other;
    begin(2);
    SRV(30, "\0\1\0\1\0\x50\1a\4test\0");
    SRV(30, "\0\1\0\1\0\x50\1b\4test\0");
    assert_true(parse());
    other = list;
    begin(2);
    SRV(99, "\0\1\0\1\0\x50\1b\4test\0"); /* another order */
    SRV(99, "\0\1\0\1\0\x50\1a\4test\0");
    assert_true(parse());
    assert_true(srv_same(&list, &other));
    begin(1);
    SRV(30, "\0\1\0\1\0\x50\1a\4test\0");
    assert_true(parse());
    assert_false(srv_same(&list, &other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_sorted_with_their_shortest_time),
        cmocka_unit_test(what_is_no_host_is_left_out),
        cmocka_unit_test(broken_answers_are_refused_whole),
        cmocka_unit_test(lists_are_compared_without_their_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Thrift's compact protocol, the hybrid encoding, pages and whole files, byte by byte.  That others
 * read the files is shown in test/e2e/test_42_parquet.py. */
#include "query/hybrid.h"
#include "query/parquet_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define BYTES(...)                                                                                 \
    (const unsigned char[]){__VA_ARGS__}, sizeof((const unsigned char[]){__VA_ARGS__})

static struct buf out;

static int setup(void **state)
{
    (void)state;
    buf_init(&out, 64 * MIB);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_fini(&out);
    return 0;
}

/* What is in <out>, which is then empty. */
static void expect(const unsigned char *bytes, size_t len)
{
    assert_false(out.failed);
    assert_int_equal(out.len, len);
    if (len)
        assert_memory_equal(out.at, bytes, len);
    buf_clear(&out);
}

static void same(const char *at, const unsigned char *bytes, size_t len)
{
    assert_memory_equal(at, bytes, len);
}

/* ---- thrift ---- */

static void numbers_of_thrift_are_zigzag_varints(void **state)
{
    (void)state;
    struct thrift t;
    thrift_varint(&out, 0);
    thrift_varint(&out, 127);
    thrift_varint(&out, 300);
    expect(BYTES(0x00, 0x7f, 0xac, 0x02));
    thrift_init(&t, &out);
    thrift_i32(&t, 1, -1);
    thrift_i32(&t, 2, 1);
    thrift_i64(&t, 3, INT64_MAX);
    thrift_i64(&t, 4, INT64_MIN);
    thrift_i16(&t, 5, -2);
    thrift_struct_end(&t);
    expect(BYTES(0x15, 0x01, 0x15, 0x02, 0x16, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                 0x01, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x14, 0x03,
                 0x00));
}

static void fields_of_thrift_say_how_far_their_ids_are_apart(void **state)
{
    (void)state;
    struct thrift t;
    thrift_init(&t, &out);
    thrift_bool(&t, 1, true);
    thrift_bool(&t, 16, false); /* 15 further */
    thrift_byte(&t, 32, -3);    /* 16 further: the id itself, zigzag */
    thrift_struct_begin(&t, 33);
    thrift_binary(&t, 2, SPAN("ab")); /* counts from 0 again */
    thrift_struct_end(&t);
    thrift_i32(&t, 34, 0); /* and goes on behind the struct */
    thrift_struct_end(&t);
    expect(BYTES(0x11, 0xf2, 0x03, 0x40, 0xfd, 0x1c, 0x28, 0x02, 'a', 'b', 0x00, 0x15, 0x00, 0x00));
}

static void lists_of_thrift_have_a_short_and_a_long_head(void **state)
{
    (void)state;
    struct thrift t;
    thrift_init(&t, &out);
    thrift_list_begin(&t, 1, THRIFT_I32, 2);
    thrift_item_i32(&t, 3);
    thrift_item_i32(&t, -3);
    thrift_list_begin(&t, 2, THRIFT_STRUCT, 1);
    thrift_item_struct_begin(&t);
    thrift_bool(&t, 1, true);
    thrift_struct_end(&t);
    thrift_list_begin(&t, 3, THRIFT_BINARY, 200);
    expect(BYTES(0x19, 0x25, 0x06, 0x05, 0x19, 0x1c, 0x11, 0x00, 0x19, 0xf8, 0xc8, 0x01));
}

/* ---- hybrid ---- */

static void eight_values_are_packed_as_the_specification_shows(void **state)
{
    (void)state;
    /* Encodings.md: 0..7 in three bits are 10001000 11000110 11111010 */
    hybrid_put(&out, (uint32_t[]){0, 1, 2, 3, 4, 5, 6, 7}, 8, 3);
    expect(BYTES(0x03, 0x88, 0xc6, 0xfa));
}

static void equal_values_become_a_run(void **state)
{
    (void)state;
    uint32_t same[300];
    for (size_t i = 0; i < FB_COUNT(same); i++)
        same[i] = 0x1234;
    hybrid_put(&out, same, 300, 13);
    expect(BYTES(0xd8, 0x04, 0x34, 0x12)); /* 300 << 1; the value in two bytes */
    hybrid_put(&out, same, 0, 13);
    expect(NULL, 0);
}

static void groups_and_runs_take_turns(void **state)
{
    (void)state;
    uint32_t v[8 + 20 + 3] = {1, 0, 1, 0, 1, 0, 1, 0};
    for (size_t i = 8; i < 28; i++)
        v[i] = 1;
    v[28] = 1, v[29] = 0, v[30] = 1;
    hybrid_put(&out, v, 31, 1);
    /* a group of 01010101, 21 times 1, a group that is filled up */
    expect(BYTES(0x03, 0x55, 0x2a, 0x01, 0x03, 0x02));
}

static void widths_hold_the_largest_value(void **state)
{
    (void)state;
    assert_int_equal(hybrid_bits(0), 1);
    assert_int_equal(hybrid_bits(1), 1);
    assert_int_equal(hybrid_bits(2), 2);
    assert_int_equal(hybrid_bits(255), 8);
    assert_int_equal(hybrid_bits(256), 9);
    assert_int_equal(hybrid_bits(UINT32_MAX), 32);
}

/* Reads what hybrid_put writes, by the words of Encodings.md. */
static uint32_t unpack(const struct buf *b, uint32_t bits, uint32_t *to, uint32_t count)
{
    size_t at = 0;
    uint32_t n = 0;
    while (at < b->len) {
        uint64_t head = 0;
        for (uint32_t shift = 0;; shift += 7) {
            unsigned char c = (unsigned char)b->at[at++];
            head |= (uint64_t)(c & 0x7f) << shift;
            if (c < 0x80)
                break;
        }
        uint64_t values = head & 1 ? (head >> 1) * 8 : head >> 1, one = 0;
        for (uint32_t k = 0; !(head & 1) && k < (bits + 7) / 8; k++)
            one |= (uint64_t)(unsigned char)b->at[at++] << (8 * k);
        for (uint64_t i = 0; i < values; i++) {
            for (uint32_t k = 0; head & 1 && k < bits; k++) {
                uint64_t bit = i * bits + k;
                uint64_t is_set = (unsigned char)b->at[at + bit / 8] >> (bit % 8) & 1;
                one = k ? one | is_set << k : is_set;
            }
            if (n < count)
                to[n++] = (uint32_t)one;
        }
        at += head & 1 ? values / 8 * bits : 0;
    }
    return n;
}

static void whatever_is_packed_can_be_unpacked(void **state)
{
    (void)state;
    uint32_t v[400], back[400];
    uint64_t seed = 7;
    for (uint32_t turn = 0; turn < 2000; turn++) {
        uint32_t bits = 1 + turn % 32, count = turn % 400;
        for (uint32_t i = 0; i < count; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
            bool is_same = i && seed >> 60 < turn % 16;
            v[i] = is_same ? v[i - 1] : (uint32_t)(seed >> 32) >> (32 - bits);
        }
        hybrid_put(&out, v, count, bits);
        assert_int_equal(unpack(&out, bits, back, count), count);
        if (count)
            assert_memory_equal(v, back, count * sizeof *v);
        buf_clear(&out);
    }
}

/* ---- pages ---- */

static void put(struct chunk *c, struct query_value v)
{
    assert_true(chunk_put(c, &v));
}

static struct query_value text(struct span s)
{
    return (struct query_value){.type = QUERY_TEXT, .text = s};
}

static struct query_value integer(int64_t v)
{
    return (struct query_value){.type = QUERY_INTEGER, .integer = v};
}

static struct query_value real(double v)
{
    return (struct query_value){.type = QUERY_REAL, .real = v};
}

static const struct query_value null = {.type = QUERY_NULL};

static void a_page_of_plain_numbers_is_their_bytes(void **state)
{
    (void)state;
    struct chunk c;
    const struct parquet_column column = {.name = "a", .type = PARQUET_U32};
    assert_true(chunk_init(&c, &column, 10));
    put(&c, integer(1));
    put(&c, integer(UINT32_MAX));
    chunk_choose(&c);
    assert_false(c.is_coded);
    assert_int_equal(chunk_put_page(&c, 0, 2, 0, &out), 2);
    expect(BYTES(1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff));
    chunk_fini(&c);
}

static void a_page_with_nulls_has_levels_before_the_values(void **state)
{
    (void)state;
    struct chunk c;
    const struct parquet_column column = {.name = "a", .type = PARQUET_F64, .is_optional = true};
    assert_true(chunk_init(&c, &column, 10));
    put(&c, null);
    put(&c, real(1.0));
    put(&c, null);
    chunk_choose(&c);
    assert_int_equal(chunk_put_page(&c, 0, 3, 0, &out), 1);
    expect(BYTES(2, 0, 0, 0, 0x03, 0x02, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f));
    /* pages share the values between them */
    assert_int_equal(chunk_put_page(&c, 0, 1, 0, &out), 0);
    expect(BYTES(2, 0, 0, 0, 0x03, 0x00));
    chunk_fini(&c);
}

static void texts_that_repeat_get_a_dictionary(void **state)
{
    (void)state;
    struct chunk c;
    const struct parquet_column column = {.name = "a", .type = PARQUET_TEXT};
    assert_true(chunk_init(&c, &column, 100));
    for (int i = 0; i < 16; i++)
        put(&c, text(i % 2 ? SPAN("bb") : SPAN("a")));
    chunk_choose(&c);
    assert_true(c.is_coded);
    chunk_put_dictionary(&c, &out);
    expect(BYTES(1, 0, 0, 0, 'a', 2, 0, 0, 0, 'b', 'b'));
    assert_int_equal(chunk_put_page(&c, 0, 16, 0, &out), 16);
    expect(BYTES(0x01, 0x05, 0xaa, 0xaa)); /* bits; two groups */
    /* the next row group begins anew */
    chunk_clear(&c);
    put(&c, text(SPAN("only")));
    chunk_choose(&c);
    assert_false(c.is_coded);
    assert_int_equal(chunk_put_page(&c, 0, 1, 0, &out), 1);
    expect(BYTES(4, 0, 0, 0, 'o', 'n', 'l', 'y'));
    chunk_fini(&c);
}

static void numbers_with_too_many_values_stay_plain(void **state)
{
    (void)state;
    struct chunk c;
    const uint32_t rows = CHUNK_DISTINCT_MAX + 1;
    const struct parquet_column column = {.name = "a", .type = PARQUET_I64};
    assert_true(chunk_init(&c, &column, rows * 4));
    for (uint32_t i = 0; i < rows * 4; i++)
        put(&c, integer(i % (rows - 1)));
    chunk_choose(&c);
    assert_true(c.is_coded);
    chunk_clear(&c);
    for (uint32_t i = 0; i < rows * 4; i++)
        put(&c, integer(i % rows));
    chunk_choose(&c);
    assert_false(c.is_coded);
    chunk_fini(&c);
}

static void what_is_no_utf8_is_replaced(void **state)
{
    (void)state;
    struct chunk c;
    const struct parquet_column column = {.name = "a", .type = PARQUET_TEXT};
    assert_true(chunk_init(&c, &column, 10));
    put(&c, text(SPAN("\xc3\xa4\xff"
                      "b\xe2\x82")));
    chunk_choose(&c);
    chunk_put_page(&c, 0, 1, 0, &out);
    assert_memory_equal(out.at + 4, "\xc3\xa4\xef\xbf\xbd\x62\xef\xbf\xbd\xef\xbf\xbd", 12);
    chunk_fini(&c);
}

static void ranges_follow_the_order_of_the_type(void **state)
{
    (void)state;
    struct chunk c;
    struct chunk_range r;
    const struct parquet_column number = {.name = "a", .type = PARQUET_I64};
    assert_true(chunk_init(&c, &number, 10));
    chunk_range(&c, &r);
    assert_false(r.has_any);
    put(&c, integer(5));
    put(&c, integer(-1));
    chunk_range(&c, &r);
    same(r.min_at.at, BYTES(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff));
    same(r.max_at.at, BYTES(5, 0, 0, 0, 0, 0, 0, 0));
    chunk_fini(&c);
    const struct parquet_column words = {.name = "a", .type = PARQUET_TEXT};
    assert_true(chunk_init(&c, &words, 10));
    put(&c, text(SPAN("b")));
    put(&c, text(SPAN("\xc3\xa4"))); /* bytes without sign */
    put(&c, text(SPAN("ab")));
    put(&c, text(SPAN("a")));
    chunk_range(&c, &r);
    assert_true(span_eq(r.min_at, SPAN("a")));
    assert_true(span_eq(r.max_at, SPAN("\xc3\xa4")));
    chunk_fini(&c);
    const struct parquet_column zero = {.name = "a", .type = PARQUET_F64};
    assert_true(chunk_init(&c, &zero, 10));
    put(&c, real(0.0));
    chunk_range(&c, &r);
    same(r.min_at.at, BYTES(0, 0, 0, 0, 0, 0, 0, 0x80));
    same(r.max_at.at, BYTES(0, 0, 0, 0, 0, 0, 0, 0));
    chunk_fini(&c);
}

/* ---- files ---- */

struct taker {
    uint64_t room; /* bytes that it takes before it says no */
};

static bool take(void *arg, struct span bytes)
{
    struct taker *t = arg;
    if (bytes.len > t->room)
        return false;
    t->room -= bytes.len;
    buf_put_span(&out, bytes);
    return !out.failed;
}

static const struct parquet_column two[] = {{.name = "n", .type = PARQUET_I64},
                                            {.name = "t", .type = PARQUET_TEXT, .is_optional = 1}};

static enum fb_code write_file(uint32_t rows, struct taker *t, struct fb_err *err)
{
    struct parquet *p;
    const struct parquet_conf conf = {
        .columns = two, .column_count = 2, .sorted_by = 0, .group_rows = 1000};
    enum fb_code code = parquet_open(&p, &conf, &(struct parquet_to){take, t}, err);
    assert_int_equal(code, FB_OK);
    for (uint32_t i = 0; code == FB_OK && i < rows; i++)
        code =
            parquet_row(p, (struct query_value[]){integer(i), i % 3 ? text(SPAN("x")) : null}, err);
    if (code == FB_OK)
        code = parquet_end(p, err);
    parquet_free(p);
    return code;
}

static uint32_t footer_bytes(void)
{
    uint32_t n;
    assert_true(out.len >= 12);
    assert_memory_equal(out.at, "PAR1", 4);
    assert_memory_equal(out.at + out.len - 4, "PAR1", 4);
    memcpy(&n, out.at + out.len - 8, 4);
    assert_true(n + 12 <= out.len);
    return n;
}

static void a_file_without_rows_is_a_footer(void **state)
{
    (void)state;
    struct taker t = {.room = UINT64_MAX};
    assert_int_equal(write_file(0, &t, NULL), FB_OK);
    assert_int_equal(footer_bytes() + 12, out.len);
    /* version 2; three elements: the root with two children */
    same(out.at + 4, BYTES(0x15, 0x04, 0x19, 0x3c, 0x48, 0x06, 's', 'c', 'h', 'e', 'm', 'a', 0x15,
                           0x04, 0x00, 0x15, 0x04, 0x25, 0x00, 0x18, 0x01, 'n', 0x00));
}

static void a_file_that_cannot_be_written_has_no_end(void **state)
{
    (void)state;
    struct fb_err err = {0};
    struct taker t = {.room = UINT64_MAX};
    assert_int_equal(write_file(2500, &t, NULL), FB_OK);
    uint64_t whole = out.len;
    assert_true(footer_bytes() > 100);
    for (uint64_t room = 0; room < whole; room += 1 + room / 20) {
        buf_clear(&out);
        t.room = room;
        assert_int_equal(write_file(2500, &t, &err), FB_E_IO);
        assert_true(out.len < whole);
        if (out.len >= 8)
            assert_memory_not_equal(out.at + out.len - 4, "PAR1", 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(numbers_of_thrift_are_zigzag_varints, setup, teardown),
        cmocka_unit_test_setup_teardown(fields_of_thrift_say_how_far_their_ids_are_apart, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lists_of_thrift_have_a_short_and_a_long_head, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(eight_values_are_packed_as_the_specification_shows, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(equal_values_become_a_run, setup, teardown),
        cmocka_unit_test_setup_teardown(groups_and_runs_take_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(widths_hold_the_largest_value, setup, teardown),
        cmocka_unit_test_setup_teardown(whatever_is_packed_can_be_unpacked, setup, teardown),
        cmocka_unit_test_setup_teardown(a_page_of_plain_numbers_is_their_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_page_with_nulls_has_levels_before_the_values, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(texts_that_repeat_get_a_dictionary, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_with_too_many_values_stay_plain, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_utf8_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(ranges_follow_the_order_of_the_type, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_without_rows_is_a_footer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_cannot_be_written_has_no_end, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

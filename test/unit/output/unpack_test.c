/* SPDX-License-Identifier: Apache-2.0 */
#include "output/unpack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#define ROOM (64 * KIB)

static void pack_gzip(struct buf *out, struct span in, int window)
{
    static unsigned char room[ROOM];
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.at, .avail_in = (uInt)in.len};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = room;
    z.avail_out = sizeof room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    buf_put(out, room, sizeof room - z.avail_out);
    deflateEnd(&z);
}

static void pack_zstd(struct buf *out, struct span in)
{
    static unsigned char room[ROOM];
    size_t n = ZSTD_compress(room, sizeof room, in.at, in.len, 3);
    assert_false(ZSTD_isError(n));
    buf_put(out, room, n);
}

static void pack(enum unpack_coding coding, struct buf *out, struct span in)
{
    if (coding == UNPACK_ZSTD)
        pack_zstd(out, in);
    else
        pack_gzip(out, in, 15 + 16);
}

static void a_coding_has_one_name(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        enum unpack_coding coding;
    } rows[] = {{"", UNPACK_PLAIN},
                {"identity", UNPACK_PLAIN},
                {" GZip ", UNPACK_ZLIB},
                {"x-gzip", UNPACK_ZLIB},
                {"deflate", UNPACK_ZLIB},
                {"zstd", UNPACK_ZSTD},
                {"gzip, gzip", UNPACK_UNKNOWN},
                {"br", UNPACK_UNKNOWN},
                {"gzi", UNPACK_UNKNOWN}};
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        assert_int_equal(unpack_coding_of(span_of(rows[i].value)), rows[i].coding);
}

static void what_was_packed_comes_out_also_in_several_parts(void **state)
{
    (void)state;
    static const enum unpack_coding codings[] = {UNPACK_PLAIN, UNPACK_ZLIB, UNPACK_ZSTD};
    static const size_t edges[] = {1, 16383, 16384, 16385, 32768}; /* of the decoder's steps */
    static char text[40000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * i % 251);
    for (size_t i = 0; i < FB_COUNT(codings); i++) {
        struct buf in, out;
        buf_init(&in, MIB);
        buf_init(&out, MIB);
        for (int n = 0; n < 2; n++) {
            if (codings[i] == UNPACK_PLAIN)
                buf_put(&in, text, sizeof text);
            else
                pack(codings[i], &in, (struct span){text, sizeof text});
        }
        assert_int_equal(unpack(codings[i], buf_span(&in), &out), UNPACK_OK);
        assert_int_equal(out.len, 2 * sizeof text);
        assert_memory_equal(out.at, text, sizeof text);
        assert_memory_equal(out.at + sizeof text, text, sizeof text);
        buf_fini(&in);
        buf_fini(&out);
    }
    for (size_t i = 0; i < FB_COUNT(edges) * 2; i++) {
        struct buf packed, plain;
        buf_init(&packed, MIB);
        buf_init(&plain, MIB);
        pack(codings[1 + i % 2], &packed, (struct span){text, edges[i / 2]});
        assert_int_equal(unpack(codings[1 + i % 2], buf_span(&packed), &plain), UNPACK_OK);
        assert_int_equal(plain.len, edges[i / 2]);
        buf_fini(&packed);
        buf_fini(&plain);
    }
    struct buf in, out; /* deflate in its zlib frame */
    buf_init(&in, MIB);
    buf_init(&out, MIB);
    pack_gzip(&in, (struct span){text, sizeof text}, 15);
    assert_int_equal(unpack(UNPACK_ZLIB, buf_span(&in), &out), UNPACK_OK);
    assert_int_equal(out.len, sizeof text);
    buf_fini(&in);
    buf_fini(&out);
}

static void each_cut_and_each_tail_is_told(void **state)
{
    (void)state;
    static const enum unpack_coding codings[] = {UNPACK_ZLIB, UNPACK_ZSTD};
    for (size_t i = 0; i < FB_COUNT(codings); i++) {
        struct buf in, out;
        buf_init(&in, MIB);
        buf_init(&out, MIB);
        pack(codings[i], &in, SPAN("{\"name\":\"a\"}{\"name\":\"a\"}{\"name\":\"a\"}"));
        for (size_t len = 0; len < in.len; len++) {
            buf_clear(&out);
            assert_int_equal(unpack(codings[i], (struct span){in.at, len}, &out), UNPACK_BROKEN);
        }
        buf_puts(&in, "tail");
        buf_clear(&out);
        assert_int_equal(unpack(codings[i], buf_span(&in), &out), UNPACK_BROKEN);
        buf_fini(&in);
        buf_fini(&out);
    }
}

static void a_bomb_takes_no_more_than_the_bound(void **state)
{
    (void)state;
    static const enum unpack_coding codings[] = {UNPACK_ZLIB, UNPACK_ZSTD};
    char *zeros = calloc(1, 32 * MIB);
    for (size_t i = 0; zeros && i < FB_COUNT(codings); i++) {
        struct buf in, out;
        buf_init(&in, MIB);
        buf_init(&out, MIB);
        pack(codings[i], &in, (struct span){zeros, 32 * MIB});
        assert_in_range(in.len, 1, 64 * KIB);
        assert_int_equal(unpack(codings[i], buf_span(&in), &out), UNPACK_TOO_LARGE);
        assert_in_range(out.len, 0, MIB);
        buf_fini(&in);
        buf_fini(&out);
    }
    free(zeros);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_coding_has_one_name),
        cmocka_unit_test(what_was_packed_comes_out_also_in_several_parts),
        cmocka_unit_test(each_cut_and_each_tail_is_told),
        cmocka_unit_test(a_bomb_takes_no_more_than_the_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

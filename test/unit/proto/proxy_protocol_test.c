/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of the PROXY protocol: what is read, what is refused, what is written. */
#include "base/assert.h"
#include "proto/proxy_protocol.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka needs the headers above. */
#include <cmocka.h>

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define BYTES(literal) .bytes = {(literal), sizeof(literal) - 1}
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }

struct row {
    const char *says;
    struct span bytes;
    enum proxy_step want;
    uint32_t head_bytes;
    uint8_t version, family;
    bool is_local;
    uint16_t source_port, target_port;
    unsigned char first, last; /* of the source address */
};

#define V4_BODY "\300\0\2\1\306\063\144\2\334\4\1\273"
static const struct row rows[] = {
    ROW("tcp4", BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET"), .want = PROXY_DONE,
        .head_bytes = 45, .version = 1, .family = PROXY_IPV4, .source_port = 56324,
        .target_port = 443, .first = 192, .last = 1),
    ROW("tcp6", BYTES("PROXY TCP6 2001:db8::7 ::1 0 65535\r\n"), .want = PROXY_DONE,
        .head_bytes = 36, .version = 1, .family = PROXY_IPV6, .source_port = 0,
        .target_port = 65535, .first = 0x20, .last = 7),
    ROW("unknown", BYTES("PROXY UNKNOWN\r\n"), .want = PROXY_DONE, .head_bytes = 15, .version = 1),
    ROW("unknown with anything behind", BYTES("PROXY UNKNOWN a b c d e f\r\n"), .want = PROXY_DONE,
        .head_bytes = 27, .version = 1),
    ROW("nothing yet", BYTES(""), .want = PROXY_MORE),
    ROW("a part of the word", BYTES("PRO"), .want = PROXY_MORE),
    ROW("a line without its end", BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r"),
        .want = PROXY_MORE),
    ROW("a request", BYTES("GET / HTTP/1.1\r\n"), .want = PROXY_FAILED),
    ROW("a method that begins with P", BYTES("PROPFIND"), .want = PROXY_FAILED),
    ROW("small letters", BYTES("proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n"), .want = PROXY_FAILED),
    ROW("bare line feed", BYTES("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n"), .want = PROXY_FAILED),
    ROW("carriage return inside", BYTES("PROXY TCP4 1.1.1.1 2.2.2.2\r1 2\r\n"),
        .want = PROXY_FAILED),
    ROW("two blanks", BYTES("PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n"), .want = PROXY_FAILED),
    ROW("blank at the end", BYTES("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n"), .want = PROXY_FAILED),
    ROW("tab", BYTES("PROXY TCP4 1.1.1.1\t2.2.2.2 1 2\r\n"), .want = PROXY_FAILED),
    ROW("a word too few", BYTES("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n"), .want = PROXY_FAILED),
    ROW("a word too many", BYTES("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n"), .want = PROXY_FAILED),
    ROW("a port too large", BYTES("PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n"), .want = PROXY_FAILED),
    ROW("a port with a zero before it", BYTES("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n"),
        .want = PROXY_FAILED),
    ROW("a port with a sign", BYTES("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n"), .want = PROXY_FAILED),
    ROW("an address with a zero before it", BYTES("PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n"),
        .want = PROXY_FAILED),
    ROW("an address of the other family", BYTES("PROXY TCP4 ::1 ::1 1 2\r\n"),
        .want = PROXY_FAILED),
    ROW("a name", BYTES("PROXY TCP4 localhost 2.2.2.2 1 2\r\n"), .want = PROXY_FAILED),
    ROW("another protocol", BYTES("PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n"), .want = PROXY_FAILED),
    ROW("unknown, glued", BYTES("PROXY UNKNOWNX\r\n"), .want = PROXY_FAILED),
    ROW("a zero byte", BYTES("PROXY UNKNOWN \0\r\n"), .want = PROXY_FAILED),
    ROW("v2 tcp4", BYTES(V2 "\x21\x11\0\x0c" V4_BODY "GET"), .want = PROXY_DONE, .head_bytes = 28,
        .version = 2, .family = PROXY_IPV4, .source_port = 0xdc04, .target_port = 443, .first = 192,
        .last = 1),
    ROW("v2 tcp4 with extensions", BYTES(V2 "\x21\x11\0\x12" V4_BODY "\4\0\0\1\0\0"),
        .want = PROXY_DONE, .head_bytes = 34, .version = 2, .family = PROXY_IPV4,
        .source_port = 0xdc04, .target_port = 443, .first = 192, .last = 1),
    ROW("v2 local", BYTES(V2 "\x20\0\0\0"), .want = PROXY_DONE, .head_bytes = 16, .version = 2,
        .is_local = true),
    ROW("v2 local, what follows is ignored", BYTES(V2 "\x20\xff\0\2ab"), .want = PROXY_DONE,
        .head_bytes = 18, .version = 2, .is_local = true),
    ROW("v2 unspecified", BYTES(V2 "\x21\0\0\0"), .want = PROXY_DONE, .head_bytes = 16,
        .version = 2),
    ROW("v2 in parts",
        BYTES(V2 "\x21\x11\0\x0c"
                 "\300\0\2"),
        .want = PROXY_MORE),
    ROW("v2 signature in parts", BYTES("\r\n\r\n\0\r"), .want = PROXY_MORE),
    ROW("v2 wrong signature", BYTES("\r\n\r\n\0\r\nQUIX"), .want = PROXY_FAILED),
    ROW("v2 unknown version", BYTES(V2 "\x31\x11\0\x0c"), .want = PROXY_FAILED),
    ROW("v2 unknown command", BYTES(V2 "\x22\x11\0\x0c"), .want = PROXY_FAILED),
    ROW("v2 unknown family", BYTES(V2 "\x21\x41\0\x0c"), .want = PROXY_FAILED),
    ROW("v2 unknown transport", BYTES(V2 "\x21\x13\0\x0c"), .want = PROXY_FAILED),
    ROW("v2 no room for the addresses", BYTES(V2 "\x21\x21\0\x0c"), .want = PROXY_FAILED),
    ROW("v2 too long", BYTES(V2 "\x21\x11\x10\0"), .want = PROXY_FAILED),
    ROW("v2 extension beyond the end", BYTES(V2 "\x21\x11\0\x10" V4_BODY "\4\0\2a"),
        .want = PROXY_FAILED),
    ROW("v2 half an extension", BYTES(V2 "\x21\x11\0\x0e" V4_BODY "\4\0"), .want = PROXY_FAILED),
};

/* From memory that ends where the bytes end: a read beyond is seen by the sanitizers. */
static enum proxy_step read_copy(struct span bytes, struct proxy_head *head)
{
    char *copy = malloc(bytes.len ? bytes.len : 1);
    assert_non_null(copy);
    if (bytes.len)
        memcpy(copy, bytes.at, bytes.len);
    enum proxy_step step = proxy_read((struct span){copy, bytes.len}, head);
    free(copy);
    return step;
}

static void header_says_who_the_client_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        const struct row *r = &rows[i];
        struct proxy_head head;
        enum proxy_step step = read_copy(r->bytes, &head);
        size_t last = head.family == PROXY_IPV4 ? 3 : 15;
        bool is_good = step == r->want && head.head_bytes == r->head_bytes &&
                       head.version == r->version && head.family == r->family &&
                       head.is_local == r->is_local && head.source_port == r->source_port &&
                       head.target_port == r->target_port && head.source[0] == r->first &&
                       head.source[last] == r->last;
        if (!is_good)
            fail_msg("%s: step %d, %u bytes, version %u, family %u", r->says, step, head.head_bytes,
                     head.version, head.family);
    }
}

static void cut_does_not_change_the_outcome(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        const struct row *r = &rows[i];
        for (size_t cut = 0; cut <= r->bytes.len; cut++) {
            struct proxy_head head;
            enum proxy_step step = read_copy((struct span){r->bytes.at, cut}, &head);
            if (step == PROXY_MORE)
                assert_true(r->want != PROXY_DONE || cut < r->head_bytes);
            else if (step != r->want || head.head_bytes != r->head_bytes)
                fail_msg("%s: cut at %zu gave step %d", r->says, cut, step);
        }
    }
}

static void waiting_for_a_line_has_an_end(void **state)
{
    (void)state;
    char text[PROXY_V1_MAX_BYTES + 1] = "PROXY UNKNOWN ";
    struct proxy_head head;
    memset(text + 14, 'x', sizeof text - 14);
    assert_int_equal(proxy_read((struct span){text, PROXY_V1_MAX_BYTES - 1}, &head), PROXY_MORE);
    assert_int_equal(proxy_read((struct span){text, PROXY_V1_MAX_BYTES}, &head), PROXY_FAILED);
    memcpy(text + PROXY_V1_MAX_BYTES - 2, "\r\n", 2);
    assert_int_equal(proxy_read((struct span){text, PROXY_V1_MAX_BYTES}, &head), PROXY_DONE);
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    for (uint8_t version = 1; version <= 2; version++) {
        for (uint8_t family = PROXY_NONE; family <= PROXY_IPV6; family++) {
            struct proxy_head head = {.version = version, .family = family}, again;
            char text[PROXY_WRITE_MAX_BYTES];
            size_t each = family == PROXY_NONE ? 0 : family == PROXY_IPV4 ? 4 : 16;
            memset(head.source, 0xfe, each);
            memset(head.target, 0xab, each);
            head.source_port = each ? 65535 : 0;
            head.target_port = each ? 258 : 0;
            size_t len = proxy_write(&head, text);
            assert_true(len <= sizeof text);
            assert_int_equal(proxy_read((struct span){text, len}, &again), PROXY_DONE);
            assert_int_equal(again.head_bytes, len);
            head.head_bytes = again.head_bytes;
            assert_memory_equal(again.source, head.source, sizeof head.source);
            assert_memory_equal(again.target, head.target, sizeof head.target);
            assert_int_equal(again.source_port, head.source_port);
            assert_int_equal(again.target_port, head.target_port);
            assert_int_equal(again.family, head.family);
            assert_int_equal(again.version, head.version);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_says_who_the_client_is),
        cmocka_unit_test(cut_does_not_change_the_outcome),
        cmocka_unit_test(waiting_for_a_line_has_an_end),
        cmocka_unit_test(what_is_written_is_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

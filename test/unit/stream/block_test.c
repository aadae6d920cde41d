/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../bench/traffic.h"
#include "base/mix.h"
#include "random_events.h"
#include "stream/block.h"
#include "stream/crc32c.h"

static unsigned char *raw, *out; /* BLOCK_RAW_BYTES_MAX each */

static int set_up(void **state)
{
    *state = block_codec_new();
    raw = aligned_alloc(64, BLOCK_RAW_BYTES_MAX);
    out = aligned_alloc(64, BLOCK_RAW_BYTES_MAX);
    return *state && raw && out ? 0 : -1;
}

static int tear_down(void **state)
{
    block_codec_free(*state);
    free(raw);
    free(out);
    return 0;
}

/* Encodes and seals <len> bytes of <raw>; the block is the codec's. */
static struct span make_block(struct block_codec *c, size_t len, struct block_head *head)
{
    struct span block;
    *head =
        (struct block_head){.node = 77, .epoch = 3, .first_offset = 1000, .wall_minus_mono_us = -5};
    assert_int_equal(block_encode(c, head, (struct span){(char *)raw, len}, &block), FB_OK);
    block_seal(c, head, 9, 4096);
    return block;
}

static void check_round_trip(struct block_codec *c, size_t len)
{
    struct block_head wrote, head;
    struct span block = make_block(c, len, &wrote);
    assert_int_equal(block_head_read(block, &head), FB_OK);
    assert_int_equal(head.node, 77);
    assert_int_equal(head.epoch, 3);
    assert_int_equal(head.segment, 9);
    assert_int_equal(head.position, 4096);
    assert_int_equal(head.first_offset, 1000);
    assert_int_equal(head.wall_minus_mono_us, -5);
    assert_int_equal(head.count, wrote.count);
    assert_int_equal(head.codec, wrote.codec);
    assert_int_equal(head.first_us, wrote.first_us);
    assert_int_equal(head.last_us, wrote.last_us);
    assert_int_equal(block_bytes(&head), block.len);
    struct span body = {block.at + BLOCK_HEADER_BYTES, block.len - BLOCK_HEADER_BYTES};
    assert_true(block_body_is_good(&head, body));
    memset(out, 0xee, BLOCK_RAW_BYTES_MAX);
    assert_int_equal(block_decode(c, &head, body, out), FB_OK);
    assert_int_equal(head.raw_bytes, len);
    assert_memory_equal(raw, out, len);
}

static void decoding_gives_back_the_same_bytes(void **state)
{
    struct rng rng;
    rng_init(&rng, 42);
    for (int i = 0; i < 300; i++) {
        uint32_t count = i % 10 == 0 ? 4096 : 1 + rng_below(&rng, 120);
        size_t len = random_events(&rng, raw, BLOCK_RAW_BYTES_MAX, count);
        check_round_trip(*state, len);
    }
}

/* As the gateway makes them: counts that are mixed, of several threads, some strangers among them.
 */
static void numbers_that_were_counted_cost_a_byte(void **state)
{
    struct rng rng;
    struct ev_request *r = (void *)raw;
    uint64_t next[3];
    size_t n = BLOCK_RAW_BYTES_MAX / sizeof *r;
    rng_init(&rng, 5);
    for (int i = 0; i < 3; i++)
        next[i] = rng_u64(&rng);
    for (uint64_t x = 1; x; x <<= 1)
        assert_int_equal(unmix_u64(mix_u64(x * 3)), x * 3);
    for (size_t i = 0; i < n; i++) {
        uint32_t thread = rng_below(&rng, 3);
        r[i] = EV_INIT(REQUEST, request, 1000 + i);
        r[i].head.origin = (uint8_t)thread;
        next[thread] += rng_below(&rng, 4);
        r[i].request_id = mix_u64(next[thread]) ^ mix_salt(77);
        if (i % 700 == 300)
            r[i].request_id = rng_u64(&rng); /* one that a client brought along */
    }
    struct block_head head;
    check_round_trip(*state, n * sizeof *r);
    struct span block = make_block(*state, n * sizeof *r, &head);
    assert_true(head.has_counted);
    assert_true(block.len < n * 2);
    /* Chance is left as it is, and readable for older versions. */
    for (size_t i = 0; i < n; i++)
        r[i].request_id = rng_u64(&rng);
    make_block(*state, n * sizeof *r, &head);
    assert_false(head.has_counted);
    check_round_trip(*state, n * sizeof *r);
}

static void every_type_alone_comes_back(void **state)
{
    struct rng rng;
    rng_init(&rng, 7);
    for (uint8_t type = 1; type < EV_TYPE_END; type++) {
        size_t len = 0;
        if (!ev_type_row(type)->name)
            continue;
        for (uint32_t i = 0; i < 200; i++)
            len += random_event(&rng, (union ev_any *)(void *)(raw + len), type, i);
        check_round_trip(*state, len);
    }
}

static void the_fields_of_each_type_cover_every_byte(void **state)
{
    (void)state;
    for (uint8_t type = 1; type < EV_TYPE_END; type++) {
        const struct ev_type_row *t = ev_type_row(type);
        size_t at = sizeof(struct ev_head);
        if (!t->name)
            continue;
        for (int i = 0; i < t->field_count; i++) {
            assert_int_equal(t->fields[i].offset, at); /* no hole: padding would not come back */
            at += t->fields[i].bytes;
        }
        assert_int_equal(at, (size_t)t->cells * EV_CELL_BYTES);
    }
}

static void a_change_of_any_byte_is_detected(void **state)
{
    struct rng rng;
    rng_init(&rng, 5);
    size_t len = random_events(&rng, raw, BLOCK_RAW_BYTES_MAX, 25);
    struct block_head wrote, head;
    struct span block = make_block(*state, len, &wrote);
    unsigned char *copy = malloc(block.len);
    assert_non_null(copy);
    for (size_t i = 0; i < block.len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, block.at, block.len);
            copy[i] = (unsigned char)(copy[i] ^ (1 << bit));
            struct span b = {(char *)copy, block.len};
            struct span body = {b.at + BLOCK_HEADER_BYTES, b.len - BLOCK_HEADER_BYTES};
            bool is_good = block_head_read(b, &head) == FB_OK && block_body_is_good(&head, body);
            assert_false(is_good);
        }
    }
    free(copy);
}

/* Behind the checksum: a body that lies must give FB_E_DAMAGED or records that are valid, nothing
 * else. */
static void a_lying_body_is_refused_or_harmless(void **state)
{
    struct rng rng;
    rng_init(&rng, 6);
    unsigned char *copy = malloc(BLOCK_BYTES_MAX);
    assert_non_null(copy);
    int refused = 0;
    for (int i = 0; i < 3000; i++) {
        struct block_head head;
        size_t len = random_events(&rng, raw, 16 * KIB, 1 + rng_below(&rng, 40));
        struct span block = make_block(*state, len, &head);
        memcpy(copy, block.at, block.len);
        for (uint32_t n = 1 + rng_below(&rng, 4); n > 0; n--)
            copy[BLOCK_HEADER_BYTES + rng_below(&rng, head.stored_bytes)] =
                (unsigned char)rng_u64(&rng);
        if (rng_below(&rng, 4) == 0)
            head.count = 1 + rng_below(&rng, 4096);
        if (rng_below(&rng, 4) == 0)
            head.raw_bytes = rng_below(&rng, (uint32_t)BLOCK_RAW_BYTES_MAX + 1);
        struct span body = {(char *)copy + BLOCK_HEADER_BYTES, head.stored_bytes};
        if (block_decode(*state, &head, body, out) != FB_OK) {
            refused++;
            continue;
        }
        for (size_t at = 0; at < head.raw_bytes;) {
            const struct ev_head *ev = (const void *)(out + at);
            assert_true(ev_is_valid(ev));
            at += (size_t)ev->cells * EV_CELL_BYTES;
        }
    }
    assert_true(refused > 500);
    free(copy);
}

static void bytes_that_are_no_records_are_refused(void **state)
{
    struct block_head head = {.node = 1};
    struct span block;
    struct ev_request good = EV_INIT(REQUEST, request, 1);
    struct {
        const char *says;
        uint8_t type, cells, version;
        size_t len;
    } rows[] = {
        {"unknown type", 200, 1, 1, 64},         {"type 0", 0, 1, 1, 64},
        {"wrong size", EV_REQUEST, 1, 1, 64},    {"other version", EV_REQUEST, 2, 2, 128},
        {"half a record", EV_REQUEST, 2, 1, 64}, {"cut in the second cell", EV_DECISION, 4, 1, 128},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        memset(raw, 0, 512);
        memcpy(raw, &good, sizeof good);
        raw[0] = rows[i].type;
        raw[1] = rows[i].cells;
        raw[3] = rows[i].version;
        if (block_encode(*state, &head, (struct span){(char *)raw, rows[i].len}, &block) !=
            FB_E_FORMAT)
            fail_msg("%s was taken", rows[i].says);
    }
}

static void noise_is_stored_as_it_is(void **state)
{
    struct rng rng;
    rng_init(&rng, 8);
    for (int i = 0; i < 64; i++) {
        struct ev_request *r = (struct ev_request *)(void *)raw + i;
        for (size_t k = 0; k < sizeof *r; k++)
            ((unsigned char *)r)[k] = (unsigned char)rng_u64(&rng);
        r->head.type = EV_REQUEST;
        r->head.cells = sizeof *r / EV_CELL_BYTES;
        r->head.version = 1;
    }
    struct block_head head;
    make_block(*state, 64 * sizeof(struct ev_request), &head);
    assert_true(head.stored_bytes <= head.raw_bytes);
    check_round_trip(*state, 64 * sizeof(struct ev_request));
}

static void a_request_costs_at_most_16_bytes(void **state)
{
    struct traffic t;
    struct block_head head;
    traffic_init(&t, 3, 2, 200000);
    t.node = 77;
    size_t n = BLOCK_RAW_BYTES_MAX / sizeof(struct ev_request);
    for (size_t i = 0; i < n; i++)
        traffic_next(&t, (struct ev_request *)(void *)raw + i);
    struct span block = make_block(*state, BLOCK_RAW_BYTES_MAX, &head);
    assert_true(block.len <= 16 * n);
    check_round_trip(*state, BLOCK_RAW_BYTES_MAX);
}

static void the_checksum_is_crc32c(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 9);
    /* RFC 3720 B.4 and the usual check value. */
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u);
    unsigned char zero[32] = {0}, bytes[300];
    assert_int_equal(crc32c(0, zero, 32), 0x8a9136aau);
    assert_int_equal(crc32c(0, "", 0), 0);
    for (size_t len = 0; len < sizeof bytes; len++) {
        for (size_t i = 0; i < len; i++)
            bytes[i] = (unsigned char)rng_u64(&rng);
        uint32_t whole = crc32c(0, bytes, len);
        assert_int_equal(whole, crc32c_table(0, bytes, len));
        assert_int_equal(whole, crc32c(crc32c(0, bytes, len / 3), bytes + len / 3, len - len / 3));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_gives_back_the_same_bytes),
        cmocka_unit_test(numbers_that_were_counted_cost_a_byte),
        cmocka_unit_test(every_type_alone_comes_back),
        cmocka_unit_test(the_fields_of_each_type_cover_every_byte),
        cmocka_unit_test(a_change_of_any_byte_is_detected),
        cmocka_unit_test(a_lying_body_is_refused_or_harmless),
        cmocka_unit_test(bytes_that_are_no_records_are_refused),
        cmocka_unit_test(noise_is_stored_as_it_is),
        cmocka_unit_test(a_request_costs_at_most_16_bytes),
        cmocka_unit_test(the_checksum_is_crc32c),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

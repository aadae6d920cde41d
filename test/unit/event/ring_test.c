/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "event/ring.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static struct ring *ring_new(uint32_t cells)
{
    struct ring *r = aligned_alloc(64, ring_bytes(cells));
    assert_non_null(r);
    memset(r, 0, ring_bytes(cells));
    ring_init(r, cells);
    return r;
}

/* A record of 1 to 4 cells whose bytes all tell its number. */
static void record(union ev_any *any, uint32_t cells, uint32_t number)
{
    static const uint8_t types[] = {0, EV_REQUEST, EV_NAME, 0, EV_SAMPLE};
    memset(any, (int)(number & 0x7f), sizeof *any);
    any->head = (struct ev_head){
        .type = types[cells], .cells = (uint8_t)cells, .version = 1, .time_us = number};
}

static bool is_record(const struct ev_head *ev, uint32_t number)
{
    const unsigned char *bytes = (const unsigned char *)ev;
    if (ev->time_us != number)
        return false;
    for (size_t i = sizeof *ev; i < (size_t)ev->cells * EV_CELL_BYTES; i++)
        if (bytes[i] != (number & 0x7f))
            return false;
    return true;
}

static void records_come_out_in_order_and_whole(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 2, 4};
    struct ring *r = ring_new(64);
    struct rng rng;
    uint32_t put = 0, got = 0;
    rng_init(&rng, 5);
    for (int round = 0; round < 20000; round++) {
        union ev_any any;
        if (rng_below(&rng, 2)) {
            record(&any, sizes[rng_below(&rng, 3)], put);
            put += ring_put(r, &any.head);
        } else {
            uint64_t cursor = ring_cursor(r);
            const struct ev_head *ev = ring_peek(r, &cursor);
            if (!ev)
                continue;
            assert_true(is_record(ev, got));
            got++;
            ring_release(r, cursor);
        }
    }
    uint64_t cursor = ring_cursor(r);
    for (const struct ev_head *ev; (ev = ring_peek(r, &cursor)) != NULL; got++)
        assert_true(is_record(ev, got));
    assert_true(put > 5000);
    assert_int_equal(put, got);
    free(r);
}

static void a_full_ring_drops_counts_and_shows_the_hole(void **state)
{
    (void)state;
    struct ring *r = ring_new(64);
    union ev_any any;
    for (uint32_t i = 0; i < 70; i++) {
        record(&any, 1, i);
        assert_true(ring_put(r, &any.head) == (i < 64));
    }
    assert_int_equal(r->lost, 6);
    uint64_t cursor = ring_cursor(r);
    for (uint32_t i = 0; i < 64; i++)
        assert_int_equal(ring_peek(r, &cursor)->sequence, i);
    assert_null(ring_peek(r, &cursor));
    ring_release(r, cursor);
    record(&any, 1, 70);
    assert_true(ring_put(r, &any.head));
    assert_int_equal(ring_peek(r, &cursor)->sequence, 70); /* 64 to 69 are missing */
    free(r);
}

static void a_record_never_straddles_the_end(void **state)
{
    (void)state;
    struct ring *r = ring_new(64);
    union ev_any any;
    uint64_t cursor = ring_cursor(r);
    for (uint32_t i = 0; i < 62; i++) {
        record(&any, 1, i);
        assert_true(ring_put(r, &any.head));
        assert_non_null(ring_peek(r, &cursor));
    }
    ring_release(r, cursor);
    record(&any, 4, 62); /* two cells are left: filled up, and four from the start */
    assert_true(ring_put(r, &any.head));
    const struct ev_head *ev = ring_peek(r, &cursor);
    assert_true(is_record(ev, 62));
    assert_ptr_equal(ev, r->cell);
    free(r);
}

static void what_was_not_released_is_seen_again(void **state)
{
    (void)state;
    struct ring *r = ring_new(64);
    union ev_any any;
    record(&any, 2, 1);
    assert_true(ring_put(r, &any.head));
    for (int i = 0; i < 2; i++) {
        uint64_t cursor = ring_cursor(r);
        assert_true(is_record(ring_peek(r, &cursor), 1));
        assert_null(ring_peek(r, &cursor));
    }
    free(r);
}

enum { SENT = 200000 };
static void *producer(void *arg)
{
    struct ring *r = arg;
    union ev_any any;
    for (uint32_t i = 0; i < SENT;) {
        record(&any, 1 + i % 2, i);
        if (ring_put(r, &any.head))
            i++;
        else
            sched_yield();
    }
    return NULL;
}

static void two_threads_lose_nothing_that_was_accepted(void **state)
{
    (void)state;
    struct ring *r = ring_new(256);
    pthread_t thread;
    uint32_t got = 0;
    assert_int_equal(pthread_create(&thread, NULL, producer, r), 0);
    while (got < SENT) {
        uint64_t cursor = ring_cursor(r);
        const struct ev_head *ev;
        uint32_t before = got;
        while ((ev = ring_peek(r, &cursor)) != NULL) {
            assert_true(is_record(ev, got));
            got++;
        }
        if (got == before)
            sched_yield();
        ring_release(r, cursor);
    }
    pthread_join(thread, NULL);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_out_in_order_and_whole),
        cmocka_unit_test(a_full_ring_drops_counts_and_shows_the_hole),
        cmocka_unit_test(a_record_never_straddles_the_end),
        cmocka_unit_test(what_was_not_released_is_seen_again),
        cmocka_unit_test(two_threads_lose_nothing_that_was_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "stream/sequencer.h"

#define RINGS 3
#define CELLS 256

static struct ring *ring[RINGS];
static struct sequencer *sq;

static int set_up(void **state)
{
    (void)state;
    for (int i = 0; i < RINGS; i++) {
        size_t bytes = ring_bytes(CELLS);
        ring[i] = aligned_alloc(64, bytes);
        if (!ring[i])
            return -1;
        memset(ring[i], 0, bytes);
        ring_init(ring[i], CELLS);
    }
    sq = sequencer_new(&(struct sequencer_conf){.next_offset = 500, .batch_bytes = 64 * KIB});
    for (uint32_t i = 0; i < RINGS; i++)
        sequencer_ring_set(sq, i, ring[i]);
    sequencer_begin(sq);
    return sq ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    sequencer_free(sq);
    for (int i = 0; i < RINGS; i++)
        free(ring[i]);
    return 0;
}

static bool put(int place, uint64_t when_us)
{
    struct ev_gauge r = EV_INIT(GAUGE, gauge, when_us); /* one cell */
    r.head.origin = (uint8_t)place;
    return ring_put(ring[place], &r.head);
}

static uint64_t cells_free(int place)
{
    return CELLS - (atomic_load(&ring[place]->head) - atomic_load(&ring[place]->tail));
}

static void rings_become_one_order_by_time(void **state)
{
    (void)state;
    for (uint64_t us = 1; us <= 60; us++)
        put((int)((us * 7) % RINGS), us);
    assert_int_equal(sequencer_drain(sq, 1000), 60);
    const struct batch *b = sequencer_batch(sq);
    assert_int_equal(b->first_offset, 500);
    assert_int_equal(b->count, 60);
    const struct ev_head *ev;
    uint64_t want = 1;
    for (size_t at = 0; (ev = batch_next(b, &at));)
        assert_int_equal(ev->time_us, want++);
    assert_int_equal(want, 61);
    sequencer_begin(sq);
    assert_int_equal(sequencer_batch(sq)->first_offset, 560);
    assert_int_equal(sequencer_batch(sq)->len, 0);
    assert_int_equal(sequencer_drain(sq, 1000), 0);
}

static void a_hole_in_the_sequence_becomes_a_gap_event(void **state)
{
    (void)state;
    put(1, 10);
    put(1, 20);
    ring[1]->sequence += 7; /* as ring_put does when it drops */
    put(1, 90);
    put(0, 95);
    assert_int_equal(sequencer_drain(sq, 1000), 5);
    const struct ev_head *ev[5];
    size_t at = 0;
    for (int i = 0; i < 5; i++)
        ev[i] = batch_next(sequencer_batch(sq), &at);
    assert_int_equal(ev[2]->type, EV_GAP);
    const struct ev_gap *gap = (const void *)ev[2];
    assert_int_equal(gap->lost, 7);
    assert_int_equal(gap->from_us, 20);
    assert_int_equal(gap->to_us, 90);
    assert_int_equal(gap->source, 1);
    assert_int_equal(gap->reason, REASON_LOSS_RING_FULL);
    assert_int_equal(gap->head.origin, EV_ORIGIN_BRAIN);
    assert_int_equal(ev[3]->time_us, 90);
    struct sequencer_stats st;
    sequencer_stats_read(sq, &st);
    assert_int_equal(st.gaps, 1);
    assert_int_equal(st.lost, 7);
    assert_int_equal(st.next_offset, 505);
}

static void a_full_ring_is_told_with_the_exact_number(void **state)
{
    (void)state;
    uint64_t refused = 0;
    for (uint64_t us = 1; us <= CELLS + 50; us++)
        refused += !put(0, us);
    assert_int_equal(refused, 50);
    sequencer_drain(sq, 1000);
    sequencer_release(sq, UINT64_MAX);
    sequencer_begin(sq);
    put(0, 1000);
    assert_int_equal(sequencer_drain(sq, 1000), 2);
    size_t at = 0;
    const struct ev_gap *gap = (const void *)batch_next(sequencer_batch(sq), &at);
    assert_int_equal(gap->head.type, EV_GAP);
    assert_int_equal(gap->lost, 50);
}

static void the_sequence_may_wrap(void **state)
{
    (void)state;
    ring[2]->sequence = UINT32_MAX - 1;
    for (uint64_t us = 1; us <= 5; us++)
        put(2, us);
    assert_int_equal(sequencer_drain(sq, 1000), 5);
    struct sequencer_stats st;
    sequencer_stats_read(sq, &st);
    assert_int_equal(st.gaps, 0);
}

static void cells_come_back_when_the_log_has_them(void **state)
{
    (void)state;
    for (uint64_t us = 1; us <= 10; us++)
        put(0, us);
    sequencer_drain(sq, 1000); /* offsets 500 .. 509 */
    sequencer_begin(sq);
    for (uint64_t us = 11; us <= 30; us++)
        put(0, us);
    sequencer_drain(sq, 1000); /* 510 .. 529 */
    assert_int_equal(cells_free(0), CELLS - 30);
    sequencer_release(sq, 509);
    assert_int_equal(cells_free(0), CELLS - 30);
    sequencer_release(sq, 510);
    assert_int_equal(cells_free(0), CELLS - 20);
    sequencer_release(sq, 530);
    assert_int_equal(cells_free(0), CELLS);
}

static void a_disk_that_never_acknowledges_does_not_fill_the_rings(void **state)
{
    (void)state;
    for (uint64_t us = 1; us <= 100 * CELLS; us++) {
        assert_true(put(0, us));
        if (us % 20 == 0) {
            sequencer_begin(sq);
            sequencer_drain(sq, 1000);
        }
    }
    struct sequencer_stats st;
    sequencer_stats_read(sq, &st);
    assert_int_equal(st.lost, 0);
    assert_int_equal(st.events, 100 * CELLS);
}

static void marks_that_wait_are_bounded_and_never_early(void **state)
{
    (void)state;
    sequencer_free(sq);
    size_t bytes = ring_bytes(4096);
    struct ring *big = aligned_alloc(64, bytes);
    assert_non_null(big);
    memset(big, 0, bytes);
    ring_init(big, 4096);
    sq = sequencer_new(&(struct sequencer_conf){.next_offset = 0, .batch_bytes = 64 * KIB});
    sequencer_ring_set(sq, 0, big);
    for (uint64_t us = 0; us < 1000; us++) { /* a mark each, four times as many as are kept */
        struct ev_gauge r = EV_INIT(GAUGE, gauge, us + 1);
        assert_true(ring_put(big, &r.head));
        sequencer_begin(sq);
        assert_int_equal(sequencer_drain(sq, 10), 1);
    }
    for (uint64_t offset = 0; offset <= 1000; offset += 50) {
        sequencer_release(sq, offset);
        assert_true(atomic_load(&big->tail) <= offset);
    }
    assert_int_equal(atomic_load(&big->tail), 1000);
    free(big);
}

/* A brain dies after the log took 6 of 10 records, none of which it released. */
static void a_new_brain_leaves_out_what_the_log_has(void **state)
{
    (void)state;
    for (uint64_t us = 1; us <= 10; us++)
        put(0, us);
    sequencer_drain(sq, 1000);
    unsigned char first_six[6 * 64];
    memcpy(first_six, sequencer_batch(sq)->bytes, sizeof first_six);
    sequencer_free(sq);

    sq = sequencer_new(&(struct sequencer_conf){.next_offset = 506, .batch_bytes = 64 * KIB});
    sequencer_ring_set(sq, 0, ring[0]);
    for (size_t i = 0; i < 6; i++)
        sequencer_resume(sq, (const void *)(first_six + i * 64));
    sequencer_begin(sq);
    assert_int_equal(sequencer_drain(sq, 1000), 4);
    size_t at = 0;
    assert_int_equal(batch_next(sequencer_batch(sq), &at)->time_us, 7);
    struct sequencer_stats st;
    sequencer_stats_read(sq, &st);
    assert_int_equal(st.repeated, 6);
    assert_int_equal(st.gaps, 0);
    assert_int_equal(st.next_offset, 510);
}

static void what_a_dying_brain_took_along_is_told(void **state)
{
    (void)state;
    struct sequencer_saved saved;
    put(0, 1);
    sequencer_drain(sq, 1000);
    sequencer_save(sq, &saved);
    for (uint64_t us = 2; us <= 9; us++)
        put(0, us);
    sequencer_drain(sq, 1000);
    sequencer_release(sq, UINT64_MAX); /* released, then died before the log had them */
    sequencer_free(sq);

    sq = sequencer_new(&(struct sequencer_conf){.next_offset = 501, .batch_bytes = 64 * KIB});
    sequencer_ring_set(sq, 0, ring[0]);
    sequencer_load(sq, &saved);
    sequencer_begin(sq);
    put(0, 10);
    assert_int_equal(sequencer_drain(sq, 1000), 2);
    size_t at = 0;
    const struct ev_gap *gap = (const void *)batch_next(sequencer_batch(sq), &at);
    assert_int_equal(gap->head.type, EV_GAP);
    assert_int_equal(gap->lost, 8);
    assert_int_equal(gap->reason, REASON_LOSS_BRAIN_AWAY);
}

static void a_new_gateway_may_count_from_zero(void **state)
{
    (void)state;
    for (uint64_t us = 1; us <= 20; us++)
        put(0, us);
    sequencer_drain(sq, 1000);
    ring[0]->sequence = 0;
    put(0, 21);
    sequencer_begin(sq);
    assert_int_equal(sequencer_drain(sq, 1000), 1);
}

static void the_brains_own_events_are_numbered(void **state)
{
    (void)state;
    struct ev_tick tick = EV_INIT(TICK, tick, 5);
    assert_true(sequencer_put(sq, &tick.head));
    assert_true(sequencer_put(sq, &tick.head));
    size_t at = 0;
    for (uint32_t i = 0; i < 2; i++) {
        const struct ev_head *ev = batch_next(sequencer_batch(sq), &at);
        assert_int_equal(ev->origin, EV_ORIGIN_BRAIN);
        assert_int_equal(ev->sequence, i);
    }
    struct sequencer_saved saved;
    sequencer_save(sq, &saved);
    sequencer_load(sq, &saved);
    assert_true(sequencer_put(sq, &tick.head));
    assert_int_equal(batch_next(sequencer_batch(sq), &at)->sequence, 2);
}

static void a_batch_is_bounded_and_keeps_room_for_the_brain(void **state)
{
    (void)state;
    sequencer_free(sq);
    sq = sequencer_new(&(struct sequencer_conf){.next_offset = 0, .batch_bytes = 4 * KIB});
    sequencer_ring_set(sq, 0, ring[0]);
    sequencer_begin(sq);
    for (uint64_t us = 1; us <= 200; us++)
        put(0, us);
    uint32_t first = sequencer_drain(sq, 1000);
    assert_in_range(first, 50, 64);
    assert_int_equal(sequencer_drain(sq, 1000), 0); /* full */
    struct ev_alert alert = EV_INIT(ALERT, alert, 5);
    for (int i = 0; i < 32; i++)
        assert_true(sequencer_put(sq, &alert.head));
    int more = 0;
    while (sequencer_put(sq, &alert.head))
        more++;
    assert_in_range(more, 0, 2);
    uint64_t drained = first;
    for (int i = 0; i < 10; i++) {
        sequencer_begin(sq);
        drained += sequencer_drain(sq, 1000);
    }
    assert_int_equal(drained, 200); /* nothing was skipped at the border */
    assert_int_equal(sequencer_drain(sq, 0), 0);
}

static void what_is_no_record_is_left_out_and_counted(void **state)
{
    (void)state;
    put(0, 1);
    put(0, 2);
    put(0, 3);
    ring[0]->cell[64] = 99;                         /* type of the second */
    assert_int_equal(sequencer_drain(sq, 1000), 3); /* 1, a gap, 3 */
    struct sequencer_stats st;
    sequencer_stats_read(sq, &st);
    assert_int_equal(st.invalid, 1);
    assert_int_equal(st.lost, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rings_become_one_order_by_time),
        TEST(a_hole_in_the_sequence_becomes_a_gap_event),
        TEST(a_full_ring_is_told_with_the_exact_number),
        TEST(the_sequence_may_wrap),
        TEST(cells_come_back_when_the_log_has_them),
        TEST(a_disk_that_never_acknowledges_does_not_fill_the_rings),
        TEST(marks_that_wait_are_bounded_and_never_early),
        TEST(a_new_brain_leaves_out_what_the_log_has),
        TEST(what_a_dying_brain_took_along_is_told),
        TEST(a_new_gateway_may_count_from_zero),
        TEST(the_brains_own_events_are_numbered),
        TEST(a_batch_is_bounded_and_keeps_room_for_the_brain),
        TEST(what_is_no_record_is_left_out_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

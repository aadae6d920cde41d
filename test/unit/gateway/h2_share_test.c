/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is among incremental streams, without a session. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/h2_share.c"

#define COUNT 3

static struct h2_conn conn;
static struct h2_stream streams[COUNT];
static struct chunk waiting = {.to = 5};
static int32_t without_window;

bool h2_has_window(const struct h2 *s, int32_t id)
{
    assert_ptr_equal(s, conn.session);
    return id != without_window;
}

static int begin(void **state)
{
    (void)state;
    without_window = 0;
    conn = (struct h2_conn){.streams = streams, .stream_count = COUNT, .share_turn = 1};
    for (int32_t i = 0; i < COUNT; i++)
        streams[i] = (struct h2_stream){.conn = &conn,
                                        .id = 2 * i + 1,
                                        .c = {.out = &waiting},
                                        .next = i + 1 < COUNT ? &streams[i + 1] : NULL,
                                        .urgency = 3,
                                        .is_incremental = true};
    return 0;
}

static void one_that_is_a_quantum_ahead_lets_the_others_go_first(void **state)
{
    (void)state;
    h2_share_sent(&streams[0], QUANTUM_BYTES);
    assert_true(h2_share_steps_back(&streams[0]));
    assert_false(h2_share_steps_back(&streams[1]));
    h2_share_sent(&streams[1], QUANTUM_BYTES);
    h2_share_sent(&streams[2], QUANTUM_BYTES);
    assert_false(h2_share_steps_back(&streams[0]));
}

static void nobody_steps_back_for_one_that_cannot_send(void **state)
{
    (void)state;
    conn.streams = &streams[1];
    streams[2].next = NULL;
    h2_share_sent(&streams[2], QUANTUM_BYTES);
    without_window = streams[1].id;
    assert_false(h2_share_steps_back(&streams[2]));
    without_window = 0;
    streams[1].c.out = NULL;
    assert_false(h2_share_steps_back(&streams[2]));
    streams[1].c.out = &waiting;
    streams[1].is_closed = true;
    assert_false(h2_share_steps_back(&streams[2]));
    streams[1].is_closed = false;
    assert_true(h2_share_steps_back(&streams[2]));
}

static void nobody_steps_back_for_another_urgency_or_one_that_does_not_share(void **state)
{
    (void)state;
    h2_share_sent(&streams[0], QUANTUM_BYTES);
    streams[1].urgency = 5;
    streams[2].is_incremental = false;
    assert_false(h2_share_steps_back(&streams[0]));
}

/* The library may know a reason that we do not: then the second question must end it. */
static void who_stepped_back_and_nobody_went_goes(void **state)
{
    (void)state;
    h2_share_sent(&streams[0], QUANTUM_BYTES);
    assert_true(h2_share_steps_back(&streams[0]));
    assert_false(h2_share_steps_back(&streams[0]));
}

static void rest_is_not_saved_up(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        h2_share_sent(&streams[0], QUANTUM_BYTES);
    h2_share_ready(&streams[1]);
    int turns = 0;
    while (h2_share_steps_back(&streams[0])) {
        h2_share_sent(&streams[1], QUANTUM_BYTES);
        h2_share_sent(&streams[2], 64 * QUANTUM_BYTES);
        turns++;
    }
    assert_in_range(turns, 1, LAG_BYTES / QUANTUM_BYTES + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_that_is_a_quantum_ahead_lets_the_others_go_first, begin),
        cmocka_unit_test_setup(nobody_steps_back_for_one_that_cannot_send, begin),
        cmocka_unit_test_setup(nobody_steps_back_for_another_urgency_or_one_that_does_not_share,
                               begin),
        cmocka_unit_test_setup(who_stepped_back_and_nobody_went_goes, begin),
        cmocka_unit_test_setup(rest_is_not_saved_up, begin),
    };
    return cmocka_run_group_tests_name("gateway/h2_share", tests, NULL, NULL);
}

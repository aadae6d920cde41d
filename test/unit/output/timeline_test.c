/* SPDX-License-Identifier: Apache-2.0 */
#include "output/timeline.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void decide(struct timeline *t, uint64_t id)
{
    struct ev_decision d = EV_INIT(DECISION, decision, id * 100);
    d.decision_id = id;
    timeline_feed(t, &d.head, id + 7);
}

static void the_newest_decisions_stay(void **state)
{
    (void)state;
    struct timeline t;
    assert_true(timeline_init(&t));
    for (uint64_t id = 1; id <= TIMELINE_MAX + 10; id++)
        decide(&t, id);
    assert_int_equal(timeline_at(&t, 0)->decision.decision_id, TIMELINE_MAX + 10);
    assert_int_equal(timeline_at(&t, 0)->offset, TIMELINE_MAX + 17);
    assert_int_equal(timeline_at(&t, TIMELINE_MAX - 1)->decision.decision_id, 11);
    assert_null(timeline_at(&t, TIMELINE_MAX));
    assert_null(timeline_find(&t, 10));
    assert_non_null(timeline_find(&t, 11));
    timeline_fini(&t);
}

static void an_outcome_joins_its_decision(void **state)
{
    (void)state;
    struct timeline t;
    struct ev_outcome o = EV_INIT(OUTCOME, outcome, 900);
    assert_true(timeline_init(&t));
    decide(&t, 4);
    decide(&t, 5);
    o.decision_id = 4;
    o.outcome = EV_OUTCOME_WORSE;
    timeline_feed(&t, &o.head, 99);
    assert_true(timeline_find(&t, 4)->has_outcome);
    assert_false(timeline_find(&t, 5)->has_outcome);
    timeline_fini(&t);
}

static void a_decision_read_twice_is_one(void **state)
{
    (void)state;
    struct timeline t;
    assert_true(timeline_init(&t));
    decide(&t, 4);
    decide(&t, 5);
    decide(&t, 4);
    assert_int_equal(t.count, 2);
    timeline_fini(&t);
}

static void an_alert_stands_until_it_is_over(void **state)
{
    (void)state;
    struct timeline t;
    struct ev_alert a = EV_INIT(ALERT, alert, 1000);
    struct ev_tick tick = EV_INIT(TICK, tick, 500);
    assert_true(timeline_init(&t));
    tick.wall_us = 1000500;
    timeline_feed(&t, &tick.head, 1);
    a.reason = REASON_ALERT_DISK;
    timeline_feed(&t, &a.head, 2);
    timeline_feed(&t, &a.head, 3); /* said again: still one */
    assert_int_equal(t.alert_count, 1);
    assert_int_equal(timeline_alert_at(&t, 0)->wall_us, 1001000);
    assert_int_equal(timeline_alert_at(&t, 0)->over_us, 0);
    a.is_over = 1;
    a.head.time_us = 2000;
    timeline_feed(&t, &a.head, 4);
    assert_int_equal(timeline_alert_at(&t, 0)->over_us, 1002000);
    timeline_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_decisions_stay),
        cmocka_unit_test(an_outcome_joins_its_decision),
        cmocka_unit_test(a_decision_read_twice_is_one),
        cmocka_unit_test(an_alert_stands_until_it_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

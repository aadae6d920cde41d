/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

static void propose(struct world *w, uint16_t endpoint, uint32_t from, uint32_t to)
{
    struct ev_proposal p = EV_INIT(PROPOSAL, proposal, w->now_us + 1000);
    p.endpoint = endpoint;
    p.limit_from = from;
    p.limit_to = to;
    p.latency_us = 30000;
    p.base_us = 20000;
    p.ratio = 1.5;
    p.error = 0.1;
    p.samples = 20;
    p.base_samples = 400;
    p.moves = 1;
    p.reason = to < from ? REASON_LEARN_DOWN : REASON_LEARN_PROBE_UP;
    world_put(w, &p.head);
}

static void all_moves_of_a_tick_become_one_decision_with_the_learners_figures(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    propose(w, 1, 4, 8);
    propose(w, 1, 8, 16);
    propose(w, 1, 16, 11);
    world_tick(w, 1);
    assert_int_equal(w->count, 1);
    const struct ev_decision *d = world_decision(w, REASON_LIMIT_FOLLOWS);
    assert_near(d->from, 4, 0);
    assert_near(d->to, 11, 0);
    assert_int_equal(d->target, 1);
    assert_int_equal(d->is_applied, 1);
    assert_int_equal(d->fact1, FACT_LEARNER_LATENCY);
    assert_near(d->value1, 30, 0);
    assert_int_equal(d->n1, 20);
    assert_int_equal(d->fact2, FACT_LEARNER_BASE);
    assert_near(d->value2, 20, 0);
    assert_int_equal(d->n2, 400);
    assert_near(d->value3, 1.5, 0);
    assert_int_equal(d->cause_us, w->now_us - 100 * US_PER_MS + 1000);
    assert_int_equal(d->head.time_us, w->now_us);
    assert_near(world_value(w, KNOB_LIMIT, 1), 11, 0);
    world_tick(w, 5);
    assert_int_equal(w->count, 1);
    world_free(w);
}

static void the_learned_limit_stays_within_the_bounds(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    propose(w, 0, 40, 200);
    world_tick(w, 1);
    assert_near(world_decision(w, REASON_LIMIT_BOUNDED)->to, 64, 0);
    propose(w, 0, 64, 1);
    world_tick(w, 1);
    assert_near(world_decision(w, REASON_LIMIT_BOUNDED)->to, 2, 0);
    assert_near(world_value(w, KNOB_LIMIT, 0), 2, 0);
    world_free(w);
}

static void without_act_the_decision_is_told_and_not_applied(void **state)
{
    (void)state;
    for (enum ev_mode mode = EV_MODE_OBSERVE; mode <= EV_MODE_RECOMMEND; mode++) {
        struct world *w = world_new(mode);
        propose(w, 0, 20, 10);
        world_tick(w, 1);
        const struct ev_decision *d = world_decision(w, REASON_LIMIT_FOLLOWS);
        assert_non_null(d);
        assert_int_equal(d->is_applied, 0);
        assert_int_equal(d->mode, mode);
        assert_int_equal(world_layer(w, KNOB_LIMIT, 0)->is_learned, 0);
        world_free(w);
    }
}

static void a_pinned_limit_is_left_alone(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    world_command(w, EV_VERB_PIN, KNOB_LIMIT, 0, 33);
    propose(w, 0, 20, 10);
    world_tick(w, 1);
    assert_null(world_decision(w, REASON_LIMIT_FOLLOWS));
    assert_near(world_value(w, KNOB_LIMIT, 0), 33, 0);
    world_free(w);
}

static void the_effect_is_judged_but_the_learner_is_not_overruled(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    world_requests(w, REASON_ANSWERED, 20000, 300);
    world_tick(w, 10);
    world_requests(w, REASON_ANSWERED, 20000, 300);
    propose(w, 0, 20, 10);
    world_tick(w, 1);
    for (int i = 0; i < 13; i++) {
        world_requests(w, REASON_ANSWERED, 90000, 30);
        world_tick(w, 1);
    }
    const union ev_any *o = world_last(w, EV_OUTCOME, REASON_NONE);
    assert_non_null(o);
    assert_int_equal(o->outcome.outcome, EV_OUTCOME_WORSE);
    assert_int_equal(o->outcome.is_reverted, 0);
    assert_near(world_value(w, KNOB_LIMIT, 0), 10, 0);
    world_free(w);
}

static void gauge(struct world *w, uint16_t endpoint, uint32_t limit)
{
    struct ev_gauge g = EV_INIT(GAUGE, gauge, w->now_us);
    g.kind = EV_KIND_ENDPOINT;
    g.number = endpoint;
    g.limit = limit;
    world_put(w, &g.head);
}

static void the_start_value_of_the_learner_is_known_without_a_decision(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    gauge(w, 0, 4);
    world_tick(w, 3);
    assert_int_equal(w->count, 0);
    assert_near(world_value(w, KNOB_LIMIT, 0), 4, 0);
    assert_int_equal(world_layer(w, KNOB_LIMIT, 0)->is_learned, 1);
    /* gauges follow moves; the first decision still tells where the learner came from */
    propose(w, 0, 4, 8);
    gauge(w, 0, 8);
    world_tick(w, 1);
    const struct ev_decision *d = world_decision(w, REASON_LIMIT_FOLLOWS);
    assert_non_null(d);
    assert_near(d->from, 4, 0);
    assert_near(d->to, 8, 0);
    /* from then on decisions alone move the book */
    gauge(w, 0, 16);
    world_tick(w, 1);
    assert_near(world_value(w, KNOB_LIMIT, 0), 8, 0);
    world_free(w);
}

static void a_limit_that_is_held_is_no_learned_value(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_OBSERVE);
    gauge(w, 0, 1024);
    world_tick(w, 1);
    assert_int_equal(world_layer(w, KNOB_LIMIT, 0)->is_learned, 0);
    world_free(w);
    w = world_new(EV_MODE_ACT);
    world_command(w, EV_VERB_PIN, KNOB_LIMIT, 0, 33);
    gauge(w, 0, 33);
    world_tick(w, 1);
    assert_int_equal(world_layer(w, KNOB_LIMIT, 0)->is_learned, 0);
    world_free(w);
}

static void a_limit_that_begins_anew_promises_nothing(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct ev_proposal p = EV_INIT(PROPOSAL, proposal, w->now_us + 1000);
    p.endpoint = 1;
    p.limit_from = 40;
    p.limit_to = 4;
    p.moves = 1;
    p.reason = REASON_LEARN_RESET;
    world_put(w, &p.head);
    world_tick(w, 1);
    const struct ev_decision *d = world_decision(w, REASON_LIMIT_FOLLOWS);
    assert_near(d->to, 4, 0);
    assert_int_equal(d->expected, EXPECT_NONE);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_moves_of_a_tick_become_one_decision_with_the_learners_figures),
        cmocka_unit_test(the_learned_limit_stays_within_the_bounds),
        cmocka_unit_test(without_act_the_decision_is_told_and_not_applied),
        cmocka_unit_test(a_pinned_limit_is_left_alone),
        cmocka_unit_test(the_effect_is_judged_but_the_learner_is_not_overruled),
        cmocka_unit_test(the_start_value_of_the_learner_is_known_without_a_decision),
        cmocka_unit_test(a_limit_that_is_held_is_no_learned_value),
        cmocka_unit_test(a_limit_that_begins_anew_promises_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

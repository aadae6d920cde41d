/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

static struct ev_command command(const struct world *w, enum ev_verb verb)
{
    struct ev_command c = EV_INIT(COMMAND, command, w->now_us);
    c.verb = (uint8_t)verb;
    c.target = c.knob = c.loop = EV_NONE;
    return c;
}

static void a_pin_wins_and_ends_by_itself(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    world_tick(w, 1);
    struct ev_command c = command(w, EV_VERB_PIN);
    c.knob = KNOB_TIMEOUT_MS;
    c.target_kind = EV_KIND_ROUTE;
    c.target = 0;
    c.value = 700;
    c.expires_us = w->now_us + 2 * US_PER_S;
    snprintf(c.why, sizeof c.why, "%s", "sale");
    world_put(w, &c.head);
    const struct ev_decision *d = world_decision(w, REASON_OPERATOR_PIN);
    assert_int_equal(d->actor, ACTOR_OPERATOR);
    assert_near(d->from, 15000, 0);
    assert_near(d->to, 700, 0);
    assert_string_equal(d->note, "sale");
    enum knob_source source;
    knob_effective(knob_row(KNOB_TIMEOUT_MS), world_layer(w, KNOB_TIMEOUT_MS, 0), &source);
    assert_int_equal(source, KNOB_FROM_PIN);
    world_tick(w, 19);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 700, 0);
    world_tick(w, 2);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 15000, 0);
    d = world_decision(w, REASON_OPERATOR_UNPIN);
    assert_string_equal(d->note, "expired");
    world_free(w);
}

static void a_pin_beyond_the_row_is_clamped(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    world_command(w, EV_VERB_PIN, KNOB_RETRY_PCT, 0, 5000);
    assert_near(world_value(w, KNOB_RETRY_PCT, 0), 10, 0);
    world_command(w, EV_VERB_UNPIN, KNOB_RETRY_PCT, 0, 0);
    assert_int_equal(world_layer(w, KNOB_RETRY_PCT, 0)->is_pinned, 0);
    world_free(w);
}

static void a_mode_for_a_loop_turns_all_its_knobs_and_is_told_once(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct ev_command c = command(w, EV_VERB_MODE);
    c.loop = LOOP_LIMIT;
    c.value = EV_MODE_OBSERVE;
    world_put(w, &c.head);
    for (uint16_t i = 0; i < 3; i++)
        assert_int_equal(world_layer(w, KNOB_LIMIT, i)->mode, EV_MODE_OBSERVE);
    assert_int_equal(world_layer(w, KNOB_TIMEOUT_MS, 0)->mode, EV_MODE_ACT);
    assert_int_equal(w->count, 1);
    assert_int_equal(world_decision(w, REASON_OPERATOR_MODE)->target, EV_NONE);
    assert_int_equal(world_decision(w, REASON_OPERATOR_MODE)->mode, EV_MODE_OBSERVE);
    c.value = EV_MODE_RECOMMEND;
    world_put(w, &c.head);
    assert_int_equal(world_decision(w, REASON_OPERATOR_MODE)->mode, EV_MODE_RECOMMEND);
    world_free(w);
}

static void a_mode_for_a_time_goes_back(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    world_tick(w, 1);
    struct ev_command c = command(w, EV_VERB_MODE);
    c.loop = LOOP_TIMEOUT;
    c.value = EV_MODE_RECOMMEND;
    c.expires_us = w->now_us + US_PER_S;
    world_put(w, &c.head);
    c.value =
        EV_MODE_OBSERVE; /* again, before it ended: the mode before both is the one to go back to */
    world_put(w, &c.head);
    assert_int_equal(world_layer(w, KNOB_TIMEOUT_MS, 1)->mode, EV_MODE_OBSERVE);
    world_tick(w, 11);
    assert_int_equal(world_layer(w, KNOB_TIMEOUT_MS, 1)->mode, EV_MODE_ACT);
    world_free(w);
}

static void freeze_holds_and_unfreeze_lets_go(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    world_command(w, EV_VERB_FREEZE, KNOB_LIMIT, 1, 0);
    assert_int_equal(world_layer(w, KNOB_LIMIT, 1)->is_frozen, 1);
    assert_int_equal(world_layer(w, KNOB_LIMIT, 0)->is_frozen, 0);
    assert_non_null(world_decision(w, REASON_OPERATOR_FREEZE));
    world_tick(w, 100);
    assert_int_equal(world_layer(w, KNOB_LIMIT, 1)->is_frozen, 1);
    world_command(w, EV_VERB_UNFREEZE, KNOB_LIMIT, 1, 0);
    assert_int_equal(world_layer(w, KNOB_LIMIT, 1)->is_frozen, 0);
    assert_non_null(world_decision(w, REASON_OPERATOR_UNFREEZE));
    assert_null(world_last(w, EV_ALERT, REASON_NONE));
    world_free(w);
}

static void reset_drops_what_was_learned(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct knob_layer *mine = control_layer(w->e, KNOB_TIMEOUT_MS, 0);
    mine->is_learned = 1;
    mine->learned = 400;
    world_command(w, EV_VERB_RESET, KNOB_TIMEOUT_MS, 0, 0);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 15000, 0);
    const struct ev_decision *d = world_decision(w, REASON_OPERATOR_RESET);
    assert_near(d->from, 400, 0);
    assert_near(d->to, 15000, 0);
    /* told to the gateway too, whose learner of limits begins anew */
    assert_int_equal(world_layer(w, KNOB_TIMEOUT_MS, 0)->resets, 1);
    assert_int_equal(world_layer(w, KNOB_LIMIT, 0)->resets, 0);
    world_free(w);
}

static void a_drain_ends_by_itself_or_by_hand(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    world_tick(w, 1);
    struct ev_command c = command(w, EV_VERB_DRAIN);
    c.target_kind = EV_KIND_ENDPOINT;
    c.target = 2;
    world_put(w, &c.head);
    assert_true(engine_is_drained(w->e, 2));
    assert_false(engine_is_drained(w->e, 1));
    assert_int_equal(world_decision(w, REASON_OPERATOR_DRAIN)->target, 2);
    c.verb = EV_VERB_UNDRAIN;
    world_put(w, &c.head);
    assert_false(engine_is_drained(w->e, 2));
    c.verb = EV_VERB_DRAIN;
    c.expires_us = w->now_us + US_PER_S;
    world_put(w, &c.head);
    world_tick(w, 9);
    assert_true(engine_is_drained(w->e, 2));
    world_tick(w, 2);
    assert_false(engine_is_drained(w->e, 2));
    assert_string_equal(world_decision(w, REASON_OPERATOR_UNDRAIN)->note, "expired");
    assert_false(engine_is_drained(w->e, EV_NONE));
    world_free(w);
}

static void nonsense_is_ignored(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct ev_command c = command(w, EV_VERB_PIN);
    c.knob = 999;
    world_put(w, &c.head);
    c.knob = KNOB_TIMEOUT_MS;
    c.target = 4000;
    world_put(w, &c.head);
    c.target = 900; /* in range, but no such route */
    world_put(w, &c.head);
    c.target = 0;
    c.value = NAN;
    world_put(w, &c.head);
    c.verb = 77;
    world_put(w, &c.head);
    assert_int_equal(w->count, 0);
    assert_int_equal(world_layer(w, KNOB_TIMEOUT_MS, 0)->is_pinned, 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pin_wins_and_ends_by_itself),
        cmocka_unit_test(a_pin_beyond_the_row_is_clamped),
        cmocka_unit_test(a_mode_for_a_loop_turns_all_its_knobs_and_is_told_once),
        cmocka_unit_test(a_mode_for_a_time_goes_back),
        cmocka_unit_test(freeze_holds_and_unfreeze_lets_go),
        cmocka_unit_test(reset_drops_what_was_learned),
        cmocka_unit_test(a_drain_ends_by_itself_or_by_hand),
        cmocka_unit_test(nonsense_is_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

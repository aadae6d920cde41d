/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

static void tell(struct world *w, uint32_t share_ppm)
{
    struct ev_fleet_share s = EV_INIT(FLEET_SHARE, fleet_share, w->now_us);
    s.share_ppm = share_ppm;
    s.nodes = 3;
    s.controller = 0xabc;
    s.own_per_s = 120;
    s.all_per_s = 480;
    s.limit_per_s = 400;
    world_put(w, &s.head);
}

static void the_word_of_the_controller_is_a_decision_of_this_node(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    assert_near(world_value(w, KNOB_FLEET_SHARE_PCT, 0), 100, 0);
    w->count = 0;
    tell(w, 250000);
    assert_near(world_value(w, KNOB_FLEET_SHARE_PCT, 0), 25, 1e-9);
    assert_int_equal(w->count, 1);
    const struct ev_decision *d = &w->room[0].decision;
    assert_int_equal(d->reason, REASON_FLEET_SHARE);
    assert_int_equal(d->loop, LOOP_FLEET);
    assert_near(d->value1, 120, 0);
    assert_near(d->value2, 480, 0);
    tell(w, 250000); /* said again: nothing new */
    assert_int_equal(w->count, 1);
    tell(w, 500000); /* at once, and undamped: the sum over all nodes must hold */
    assert_near(world_value(w, KNOB_FLEET_SHARE_PCT, 0), 50, 1e-9);
    world_free(w);
}

static void a_pin_holds_against_the_fleet(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct ev_command c = EV_INIT(COMMAND, command, w->now_us);
    c.verb = EV_VERB_PIN;
    c.target_kind = EV_KIND_ROUTE;
    c.target = 0;
    c.knob = KNOB_FLEET_SHARE_PCT;
    c.loop = EV_NONE;
    c.value = 10;
    world_put(w, &c.head);
    tell(w, 900000);
    assert_near(world_value(w, KNOB_FLEET_SHARE_PCT, 0), 10, 1e-9);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_word_of_the_controller_is_a_decision_of_this_node),
        cmocka_unit_test(a_pin_holds_against_the_fleet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

static void configure(struct world *w, uint8_t value, uint8_t better)
{
    struct signal_conf conf = {.name = "orders",
                               .event = "orders.placed",
                               .value = value,
                               .better = better,
                               .change_min = 0.05};
    struct engine_conf all = {.signals = &conf, .signal_count = 1, .mode = EV_MODE_ACT};
    engine_configure(w->e, &all);
}

/* <seconds> with <times> events of <value> each. */
static void say(struct world *w, uint32_t seconds, uint32_t times, double value)
{
    struct ev_custom c = EV_INIT(CUSTOM, custom, w->now_us);
    snprintf(c.name, sizeof c.name, "orders.placed");
    for (uint32_t s = 0; s < seconds; s++) {
        for (uint32_t i = 0; i < times; i++) {
            c.value = value * (1 + 0.01 * (double)((s + i) % 7));
            world_put(w, &c.head);
        }
        world_tick(w, 10);
    }
}

static const struct ev_alert *alert(const struct world *w)
{
    const union ev_any *ev = world_last(w, EV_ALERT, REASON_ALERT_SIGNAL_UNUSUAL);
    return ev ? &ev->alert : NULL;
}

static enum signal_state state_of(const struct world *w)
{
    struct signal_view view;
    assert_true(engine_signal(w->e, 0, &view));
    return view.state;
}

static void a_drop_is_told_once_and_its_end_once(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    configure(w, SIGNAL_RATE, SIGNAL_HIGHER);
    assert_int_equal(state_of(w), SIGNAL_STATE_INSUFFICIENT);
    say(w, 300, 40, 1);
    assert_int_equal(state_of(w), SIGNAL_STATE_OK);
    assert_null(alert(w));
    say(w, 60, 10, 1);
    assert_non_null(alert(w));
    assert_int_equal(alert(w)->is_over, 0);
    assert_int_equal(alert(w)->severity, 1);
    assert_non_null(strstr(alert(w)->text, "/s in the last minute; usual is 40"));
    assert_int_equal(state_of(w), SIGNAL_STATE_UNUSUAL);
    size_t had = w->count;
    say(w, 60, 10, 1);
    assert_int_equal(w->count, had); /* once */
    say(w, 100, 40, 1);
    assert_int_equal(alert(w)->is_over, 1);
    assert_int_equal(state_of(w), SIGNAL_STATE_OK);
    world_free(w);
}

static void what_stays_is_the_new_normal(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    configure(w, SIGNAL_MEAN, SIGNAL_NONE);
    say(w, 300, 5, 10);
    say(w, 100, 5, 20); /* without a direction both ways are told */
    assert_non_null(alert(w));
    say(w, 1900, 5, 20);
    assert_int_equal(alert(w)->is_over, 1);
    size_t had = w->count;
    say(w, 300, 5, 20);
    assert_int_equal(w->count, had);
    world_free(w);
}

static void what_gets_better_is_nothing_to_tell(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    configure(w, SIGNAL_RATE, SIGNAL_HIGHER);
    say(w, 300, 10, 1);
    say(w, 300, 30, 1);
    assert_null(alert(w));
    world_free(w);
}

static void slow_pages_are_told_by_their_quantile(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    configure(w, SIGNAL_P75, SIGNAL_LOWER);
    say(w, 400, 10, 1000);
    assert_null(alert(w));
    say(w, 90, 10, 2500);
    assert_non_null(alert(w));
    assert_non_null(strstr(alert(w)->text, "of the last minute were above 10"));
    say(w, 200, 10, 1000);
    assert_int_equal(alert(w)->is_over, 1);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drop_is_told_once_and_its_end_once),
        cmocka_unit_test(what_stays_is_the_new_normal),
        cmocka_unit_test(what_gets_better_is_nothing_to_tell),
        cmocka_unit_test(slow_pages_are_told_by_their_quantile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

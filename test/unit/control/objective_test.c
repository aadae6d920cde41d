/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

/* The alerts about the objective so far, and whether the last one said that it is over. */
static int alerts(const struct world *w, bool *is_over)
{
    int n = 0;
    for (size_t i = 0; i < w->count; i++) {
        const struct ev_alert *a = &w->room[i].alert;
        if (a->head.type != EV_ALERT || a->reason != REASON_ALERT_OBJECTIVE_MISSED)
            continue;
        n++;
        *is_over = a->is_over != 0;
    }
    return n;
}

/* 99 % within 500 ms, and nothing else configured. */
static struct world *promising_world(void)
{
    struct world *w = world_new(EV_MODE_OBSERVE);
    struct engine_target t = {
        .kind = EV_KIND_SERVICE, .name = "shop", .latency_quantile = 0.99, .latency_us = 500000};
    for (size_t k = 0; k < KNOB_COUNT; k++)
        t.knob[k] = (struct knob_setting){NAN, NAN, NAN, EV_MODE_OBSERVE};
    struct engine_conf conf = {
        .config_hash = 8, .targets = &t, .target_count = 1, .mode = EV_MODE_OBSERVE};
    engine_configure(w->e, &conf);
    return w;
}

static void run_s(struct world *w, uint32_t seconds, uint32_t total_us)
{
    for (uint32_t t = 0; t < seconds * 10; t++) {
        world_requests(w, REASON_ANSWERED, total_us, 10);
        world_tick(w, 1);
    }
}

static void a_missed_objective_is_said_once_and_its_end_once(void **state)
{
    (void)state;
    struct world *w = promising_world();
    bool is_over = false;
    run_s(w, 70, 20000);
    assert_int_equal(alerts(w, &is_over), 0);
    run_s(w, 20, 5000000);
    assert_int_equal(alerts(w, &is_over), 1);
    assert_false(is_over);
    run_s(w, 90, 20000);
    assert_int_equal(alerts(w, &is_over), 2);
    assert_true(is_over);
    world_free(w);
}

static void few_requests_say_nothing(void **state)
{
    (void)state;
    struct world *w = promising_world();
    bool is_over = false;
    for (int i = 0; i < 100; i++) {
        world_requests(w, REASON_ANSWERED, 5000000, 1);
        world_tick(w, 10);
    }
    assert_int_equal(alerts(w, &is_over), 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missed_objective_is_said_once_and_its_end_once),
        cmocka_unit_test(few_requests_say_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#define HALF_KIB 32768.0

static struct world *with_caches(enum ev_mode mode)
{
    struct world *w = world_new(mode);
    static struct engine_target t[2];
    memset(t, 0, sizeof t);
    for (size_t i = 0; i < 2; i++) {
        t[i].kind = EV_KIND_ROUTE;
        snprintf(t[i].name, sizeof t[i].name, "%s", i ? "shop /api/" : "shop /");
        for (size_t k = 0; k < KNOB_COUNT; k++)
            t[i].knob[k] = (struct knob_setting){NAN, NAN, NAN, mode};
        t[i].knob[KNOB_CACHE_KIB].configured = HALF_KIB;
    }
    struct engine_conf conf = {.config_hash = 8, .targets = t, .target_count = 2, .mode = mode};
    engine_configure(w->e, &conf);
    return w;
}

/* 30 s in which <route> walks over <keys> of 8 KiB again and again. */
static void walk(struct world *w, uint16_t route, uint32_t keys, uint32_t origin_us)
{
    static uint32_t at;
    for (uint32_t i = 0; i < 20000; i++) {
        struct ev_cache_sample s = EV_INIT(CACHE_SAMPLE, cache_sample, w->now_us);
        s.key = (at++ % keys + 1 + route * 100000u) * UINT64_C(0x9e3779b97f4a7c15);
        s.bytes = 8192;
        s.origin_us = origin_us;
        s.references = 1;
        s.route = route;
        engine_feed(w->e, &s.head, NULL);
    }
}

static void half_a_minute(struct world *w)
{
    world_tick(w, 300);
}

static void memory_goes_where_it_saves(void **state)
{
    (void)state;
    struct world *w = with_caches(EV_MODE_ACT);
    world_tick(w, 1);
    walk(w, 0, 4096, 20000); /* 32 MiB fit, and a little is missing */
    walk(w, 0, 4200, 20000);
    walk(w, 1, 8000, 20000); /* 64 MiB: 32 are as good as nothing */
    half_a_minute(w);
    double a = world_value(w, KNOB_CACHE_KIB, 0), b = world_value(w, KNOB_CACHE_KIB, 1);
    assert_true(a > HALF_KIB);
    assert_near(a + b, 2 * HALF_KIB, 1e-9);
    assert_true(a - HALF_KIB <= 6 * 0.01 * 2 * HALF_KIB);
    uint32_t grew = 0, shrank = 0;
    for (size_t i = 0; i < w->count; i++) {
        const struct ev_decision *d = &w->room[i].decision;
        grew += d->head.type == EV_DECISION && d->reason == REASON_CACHE_GROW && d->target == 0;
        shrank += d->head.type == EV_DECISION && d->reason == REASON_CACHE_SHRINK && d->target == 1;
    }
    assert_int_equal(grew, 1);
    assert_int_equal(shrank, 1);
    world_free(w);
}

static void with_few_samples_it_holds(void **state)
{
    (void)state;
    struct world *w = with_caches(EV_MODE_ACT);
    world_tick(w, 1);
    for (int i = 0; i < 10; i++)
        half_a_minute(w);
    assert_near(world_value(w, KNOB_CACHE_KIB, 0), HALF_KIB, 1e-9);
    world_free(w);
}

static void in_mode_observe_nothing_moves(void **state)
{
    (void)state;
    struct world *w = with_caches(EV_MODE_OBSERVE);
    world_tick(w, 1);
    walk(w, 0, 4200, 20000);
    half_a_minute(w);
    assert_near(world_value(w, KNOB_CACHE_KIB, 0), HALF_KIB, 1e-9);
    world_free(w);
}

static void the_floor_holds(void **state)
{
    (void)state;
    struct world *w = with_caches(EV_MODE_ACT);
    world_tick(w, 1);
    for (int i = 0; i < 60; i++) {
        walk(w, 0, 8100, 20000);
        half_a_minute(w);
        assert_true(world_value(w, KNOB_CACHE_KIB, 1) >= 1024);
        assert_true(world_value(w, KNOB_CACHE_KIB, 0) + world_value(w, KNOB_CACHE_KIB, 1) <=
                    2 * HALF_KIB + 0.5);
    }
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_goes_where_it_saves),
        cmocka_unit_test(with_few_samples_it_holds),
        cmocka_unit_test(in_mode_observe_nothing_moves),
        cmocka_unit_test(the_floor_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

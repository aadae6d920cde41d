/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

static struct move move_to(struct world *w, double to)
{
    struct move m;
    w->e->s.now_us = w->now_us;
    move_init(&m, w->e, KNOB_TIMEOUT_MS, 0);
    m.d.to = to;
    m.d.reason = REASON_TIMEOUT_LOWER;
    return m;
}

static bool submit(struct world *w, double to)
{
    struct move m = move_to(w, to);
    struct engine_out out = {.at = w->room + w->count, .max = FB_COUNT(w->room) - w->count};
    w->e->out = &out;
    bool moved = arbiter_submit(w->e, &m);
    w->e->out = NULL;
    w->count += out.count;
    return moved;
}

static void a_move_becomes_the_learned_value_and_one_decision(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    assert_true(submit(w, 900));
    const struct ev_decision *d = world_decision(w, REASON_TIMEOUT_LOWER);
    assert_int_equal(w->count, 1);
    assert_int_equal(d->decision_id, 1);
    assert_near(d->from, 15000, 0);
    assert_near(d->to, 900, 0);
    assert_int_equal(d->is_applied, 1);
    assert_int_equal(d->loop, LOOP_TIMEOUT);
    assert_int_equal(d->config_hash, 7);
    assert_int_equal(d->cooldown_until_us, w->now_us + US_PER_S);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 900, 0);
    assert_int_equal(world_layer(w, KNOB_TIMEOUT_MS, 0)->decision_id, 1);
    world_free(w);
}

static void numbers_are_dense(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    for (uint64_t i = 1; i <= 20; i++) {
        w->now_us += 20 * US_PER_S;
        assert_true(submit(w, 1000 + (double)i * 100));
        assert_int_equal(w->room[w->count - 1].decision.decision_id, i);
    }
    assert_int_equal(engine_decision_count(w->e), 20);
    world_free(w);
}

static void a_value_never_leaves_the_bounds(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct rng rng;
    rng_init(&rng, 1);
    for (int i = 0; i < 2000; i++) {
        w->now_us += 30 * US_PER_S;
        submit(w, (rng_unit(&rng) - 0.3) * 2e6);
        const struct knob_layer *l = world_layer(w, KNOB_TIMEOUT_MS, 0);
        assert_true(!l->is_learned || (l->learned >= l->min && l->learned <= l->max));
        w->count = 0;
    }
    world_free(w);
}

static void the_knob_rests_between_moves(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    assert_true(submit(w, 900));
    w->now_us += 940 * US_PER_MS;
    assert_false(submit(w, 800));
    w->now_us += 20 * US_PER_MS; /* half a tick early is due */
    assert_true(submit(w, 800));
    world_free(w);
}

static void a_protective_move_does_not_wait(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    assert_true(submit(w, 900));
    struct move m = move_to(w, 1800);
    m.is_protective = true;
    assert_true(arbiter_submit(w->e, &m));
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 1800, 0);
    world_free(w);
}

struct hold {
    const char *says;
    void (*do_to)(struct knob_layer *);
    size_t decisions;
};
static void pin(struct knob_layer *l)
{
    l->is_pinned = 1;
    l->pinned = 3000;
}
static void freeze(struct knob_layer *l)
{
    l->is_frozen = 1;
}
static void observe(struct knob_layer *l)
{
    l->mode = EV_MODE_OBSERVE;
}
static void recommend(struct knob_layer *l)
{
    l->mode = EV_MODE_RECOMMEND;
}
static void unuse(struct knob_layer *l)
{
    l->is_used = 0;
}
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
static const struct hold holds[] = {
    ROW("a pinned knob", .do_to = pin, .decisions = 0),
    ROW("a frozen loop", .do_to = freeze, .decisions = 0),
    ROW("mode observe tells it", .do_to = observe, .decisions = 1),
    ROW("mode recommend tells it", .do_to = recommend, .decisions = 1),
    ROW("a target that is gone", .do_to = unuse, .decisions = 0),
};

static void a_held_knob_does_not_move(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(holds); i++) {
        print_message("%s\n", holds[i].says);
        struct world *w = world_new(EV_MODE_ACT);
        holds[i].do_to(control_layer(w->e, KNOB_TIMEOUT_MS, 0));
        assert_false(submit(w, 900));
        assert_int_equal(world_layer(w, KNOB_TIMEOUT_MS, 0)->is_learned, 0);
        assert_int_equal(w->count, holds[i].decisions);
        for (size_t k = 0; k < w->count; k++)
            assert_int_equal(w->room[k].decision.is_applied, 0);
        world_free(w);
    }
}

static void a_recommendation_is_told_once(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_RECOMMEND);
    for (int i = 0; i < 10; i++) {
        w->now_us += US_PER_S;
        submit(w, 900 + i);
    }
    assert_int_equal(w->count, 1);
    submit(w, 1200);
    assert_int_equal(w->count, 2);
    world_free(w);
}

static void a_limit_cycle_halves_the_gain(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    double first = 0;
    double last = 0;
    for (int i = 0; i < 24; i++) {
        double from = world_value(w, KNOB_TIMEOUT_MS, 0);
        w->now_us += 2 * US_PER_S;
        submit(w, i % 2 ? 1000 : 2000);
        double step = fabs(world_value(w, KNOB_TIMEOUT_MS, 0) - from);
        first = i == 2 ? step : first;
        last = step;
    }
    assert_true(last < 0.55 * first);
    /* a calm time gives the gain back */
    for (int i = 0; i < 5; i++) {
        w->now_us += 61 * US_PER_S;
        submit(w, 3000 + 1000 * i);
    }
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 7000, 1e-9);
    world_free(w);
}

static void what_does_not_fit_is_counted(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct engine_out out = {.at = w->room, .max = 1};
    struct ev_alert a = EV_INIT(ALERT, alert, 1);
    a.reason = REASON_ALERT_LOOP_FROZEN;
    w->e->out = &out;
    control_emit(w->e, &a.head);
    control_emit(w->e, &a.head);
    assert_int_equal(out.count, 1);
    assert_int_equal(out.dropped, 1);
    w->e->out = NULL;
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_move_becomes_the_learned_value_and_one_decision),
        cmocka_unit_test(numbers_are_dense),
        cmocka_unit_test(a_value_never_leaves_the_bounds),
        cmocka_unit_test(the_knob_rests_between_moves),
        cmocka_unit_test(a_protective_move_does_not_wait),
        cmocka_unit_test(a_held_knob_does_not_move),
        cmocka_unit_test(a_recommendation_is_told_once),
        cmocka_unit_test(a_limit_cycle_halves_the_gain),
        cmocka_unit_test(what_does_not_fit_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

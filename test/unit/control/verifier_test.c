/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

struct row {
    const char *says;
    enum expected expected;
    enum fact_id fact;
    double before, after;
    uint64_t n_before, n_after;
    enum ev_verdict want;
};
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
static const struct row rows[] = {
    ROW("fewer time-outs, as promised", .expected = EXPECT_LOWER, .fact = FACT_TIMEOUT_RATIO,
        .before = .05, .after = .001, .n_before = 500, .n_after = 500, .want = EV_OUTCOME_BETTER),
    ROW("more of them", .expected = EXPECT_LOWER, .fact = FACT_TIMEOUT_RATIO, .before = .05,
        .after = .2, .n_before = 500, .n_after = 500, .want = EV_OUTCOME_WORSE),
    ROW("more, but within chance", .expected = EXPECT_LOWER, .fact = FACT_TIMEOUT_RATIO,
        .before = .05, .after = .1, .n_before = 40, .n_after = 40, .want = EV_OUTCOME_NONE),
    ROW("significant, but of no weight", .expected = EXPECT_KEEP, .fact = FACT_TIMEOUT_RATIO,
        .before = .001, .after = .003, .n_before = 100000, .n_after = 100000,
        .want = EV_OUTCOME_NONE),
    ROW("a kept ratio that rose", .expected = EXPECT_KEEP, .fact = FACT_TIMEOUT_RATIO, .before = 0,
        .after = .03, .n_before = 2000, .n_after = 2000, .want = EV_OUTCOME_WORSE),
    ROW("a kept ratio that fell", .expected = EXPECT_KEEP, .fact = FACT_ERROR_RATIO, .before = .1,
        .after = .01, .n_before = 2000, .n_after = 2000, .want = EV_OUTCOME_NONE),
    ROW("kept goodput that fell", .expected = EXPECT_KEEP, .fact = FACT_GOODPUT, .before = 100,
        .after = 50, .n_before = 100, .n_after = 50, .want = EV_OUTCOME_WORSE),
    ROW("a queue that is gone", .expected = EXPECT_LOWER, .fact = FACT_QUEUED, .before = 40,
        .after = 2, .n_before = 10, .n_after = 10, .want = EV_OUTCOME_BETTER),
    ROW("a queue that wobbles", .expected = EXPECT_LOWER, .fact = FACT_QUEUED, .before = 40,
        .after = 60, .n_before = 10, .n_after = 10, .want = EV_OUTCOME_NONE),
    ROW("latency 10 % up is scatter", .expected = EXPECT_KEEP, .fact = FACT_UPSTREAM_P50,
        .before = 20, .after = 22, .n_before = 100, .n_after = 100, .want = EV_OUTCOME_NONE),
    ROW("nothing was expected", .expected = EXPECT_NONE, .fact = FACT_QUEUED, .before = 1,
        .after = 100, .n_before = 10, .n_after = 10, .want = EV_OUTCOME_UNKNOWN),
    ROW("before was unknown", .expected = EXPECT_LOWER, .fact = FACT_QUEUED, .before = NAN,
        .after = 100, .n_before = 0, .n_after = 10, .want = EV_OUTCOME_UNKNOWN),
};

static void a_verdict_follows_the_promise_and_the_noise(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        const struct row *r = &rows[i];
        struct fact before = {.value = r->before, .n = r->n_before};
        struct fact after = {.value = r->after, .n = r->n_after, .state = FACT_OK};
        print_message("%s\n", r->says);
        assert_int_equal(verifier_judge(r->expected, r->fact, &before, &after), r->want);
    }
    struct fact known = {.value = 1, .n = 10};
    struct fact stale = {.value = NAN, .n = 10, .state = FACT_STALE};
    assert_int_equal(verifier_judge(EXPECT_LOWER, FACT_QUEUED, &known, &stale), EV_OUTCOME_UNKNOWN);
}

/* A second of 100 requests with <timeouts> of them timed out. */
static void second(struct world *w, uint32_t requests, uint32_t timeouts)
{
    for (uint32_t i = 0; i < 10; i++) {
        world_requests(w, REASON_ANSWERED, 20000, (requests - timeouts) / 10);
        world_requests(w, REASON_UPSTREAM_TIMEOUT, 10000, timeouts / 10);
        world_tick(w, 1);
    }
}

/* A hand in the place of the loop: moves the timeout and promises fewer time-outs after 2 s. */
static void decide(struct world *w, double to)
{
    struct move m;
    struct engine_out out = {.at = w->room + w->count, .max = FB_COUNT(w->room) - w->count};
    w->e->out = &out;
    move_init(&m, w->e, KNOB_TIMEOUT_MS, 0);
    m.d.to = to;
    m.d.reason = REASON_TIMEOUT_WIDEN;
    m.is_protective = true;
    move_expect(&m, EXPECT_LOWER, FACT_TIMEOUT_RATIO, FACT_1S, 2000);
    assert_true(arbiter_submit(w->e, &m));
    w->e->out = NULL;
    w->count += out.count;
}

/* The timeout loop must not help: it sees a configured knob without bounds to move in. */
static struct world *world_by_hand(void)
{
    struct world *w = world_new(EV_MODE_ACT);
    second(w, 1000, 0);
    return w;
}

static const struct ev_outcome *outcome(const struct world *w)
{
    const union ev_any *ev = world_last(w, EV_OUTCOME, REASON_NONE);
    return ev ? &ev->outcome : NULL;
}

static void a_decision_that_helped_stays(void **state)
{
    (void)state;
    struct world *w = world_by_hand();
    second(w, 1000, 100);
    decide(w, 9000);
    uint64_t id = engine_decision_count(w->e);
    second(w, 1000, 0);
    second(w, 1000, 0);
    const struct ev_outcome *o = outcome(w);
    assert_non_null(o);
    assert_int_equal(o->decision_id, id);
    assert_int_equal(o->outcome, EV_OUTCOME_BETTER);
    assert_int_equal(o->is_reverted, 0);
    assert_near(o->before, 0.1, 0.01);
    assert_near(o->after, 0, 0);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 9000, 0);
    world_free(w);
}

static void a_decision_that_harmed_goes_back_at_once(void **state)
{
    (void)state;
    struct world *w = world_by_hand();
    decide(w, 9000);
    uint64_t id = engine_decision_count(w->e);
    second(w, 1000, 300);
    second(w, 1000, 300);
    const struct ev_outcome *o = outcome(w);
    assert_int_equal(o->decision_id, id);
    assert_int_equal(o->outcome, EV_OUTCOME_WORSE);
    assert_int_equal(o->is_reverted, 1);
    assert_int_equal(o->is_frozen, 0);
    assert_near(o->knob_value, 15000, 0);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 15000, 0);
    const struct ev_decision *d = world_decision(w, REASON_REVERTED);
    assert_int_equal(d->supersedes, id);
    assert_int_equal(d->actor, ACTOR_VERIFIER);
    assert_near(d->from, 9000, 0);
    assert_near(d->to, 15000, 0);
    world_free(w);
}

static void two_harms_in_a_row_freeze_the_loop_and_raise_an_alert(void **state)
{
    (void)state;
    struct world *w = world_by_hand();
    decide(w, 9000);
    second(w, 1000, 100);
    second(w, 1000, 100);
    decide(w, 9000);
    second(w, 1000, 500);
    second(w, 1000, 500);
    assert_int_equal(outcome(w)->is_frozen, 1);
    assert_int_equal(outcome(w)->reason, REASON_FROZEN);
    assert_int_equal(world_layer(w, KNOB_TIMEOUT_MS, 0)->is_frozen, 1);
    const union ev_any *alert = world_last(w, EV_ALERT, REASON_ALERT_LOOP_FROZEN);
    assert_non_null(alert);
    assert_int_equal(alert->alert.is_over, 0);
    assert_non_null(strstr(alert->alert.text, "shop /"));
    /* it rests for a minute, then says that it is over */
    for (int i = 0; i < 61; i++)
        second(w, 1000, 0);
    assert_int_equal(world_layer(w, KNOB_TIMEOUT_MS, 0)->is_frozen, 0);
    alert = world_last(w, EV_ALERT, REASON_ALERT_LOOP_FROZEN);
    assert_int_equal(alert->alert.is_over, 1);
    world_free(w);
}

static void deploy(struct world *w, const char *name)
{
    struct ev_custom ev = EV_INIT(CUSTOM, custom, w->now_us);
    ev.value = 1;
    snprintf(ev.name, sizeof ev.name, "%s", name);
    engine_feed(w->e, &ev.head, NULL);
}

/* Bad twice in a row: what is left of the loop. */
static bool is_frozen_after(const char *marker)
{
    struct world *w = world_by_hand();
    decide(w, 9000);
    second(w, 1000, 100);
    if (marker)
        deploy(w, marker);
    second(w, 1000, 100);
    assert_int_equal(outcome(w)->is_reverted, 1);
    decide(w, 9000);
    second(w, 1000, 500);
    second(w, 1000, 500);
    assert_int_equal(outcome(w)->is_reverted, 1);
    bool is_frozen = world_layer(w, KNOB_TIMEOUT_MS, 0)->is_frozen;
    world_free(w);
    return is_frozen;
}

static void harm_beside_a_deploy_goes_back_and_is_not_counted_against_the_loop(void **state)
{
    (void)state;
    assert_true(is_frozen_after(NULL));
    assert_true(is_frozen_after("undeploy")); /* no marker */
    assert_false(is_frozen_after("deploy"));
    assert_false(is_frozen_after("shop.deploy"));
}

static void a_good_verdict_between_two_bad_ones_does_not_freeze(void **state)
{
    (void)state;
    struct world *w = world_by_hand();
    decide(w, 9000);
    second(w, 1000, 100);
    second(w, 1000, 100);
    decide(w, 9000);
    second(w, 1000, 0);
    second(w, 1000, 0);
    assert_int_equal(outcome(w)->outcome, EV_OUTCOME_BETTER);
    decide(w, 8000);
    second(w, 1000, 300);
    second(w, 1000, 300);
    assert_int_equal(outcome(w)->outcome, EV_OUTCOME_WORSE);
    assert_int_equal(world_layer(w, KNOB_TIMEOUT_MS, 0)->is_frozen, 0);
    world_free(w);
}

static void a_load_that_moved_explains_any_harm(void **state)
{
    (void)state;
    struct world *w = world_by_hand();
    decide(w, 9000);
    second(w, 2000, 600);
    second(w, 2000, 600);
    assert_int_equal(outcome(w)->outcome, EV_OUTCOME_UNKNOWN);
    assert_int_equal(outcome(w)->is_reverted, 0);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 9000, 0);
    world_free(w);
}

static void a_chain_in_one_direction_is_judged_once_and_goes_back_to_its_start(void **state)
{
    (void)state;
    struct world *w = world_by_hand();
    decide(w, 9000);
    second(w, 1000, 0);
    decide(w, 8000);
    uint64_t id = engine_decision_count(w->e);
    const struct ev_decision *d = world_decision(w, REASON_TIMEOUT_WIDEN);
    assert_int_equal(d->supersedes, id - 1);
    second(w, 1000, 300);
    const struct ev_outcome *o = outcome(w);
    assert_int_equal(o->decision_id, id);
    assert_int_equal(o->is_reverted, 1);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 15000, 0);
    world_free(w);
}

static void a_pinned_knob_is_judged_but_not_turned(void **state)
{
    (void)state;
    struct world *w = world_by_hand();
    decide(w, 9000);
    struct knob_layer *l = control_layer(w->e, KNOB_TIMEOUT_MS, 0);
    l->is_pinned = 1;
    l->pinned = 7000;
    second(w, 1000, 300);
    second(w, 1000, 300);
    assert_int_equal(outcome(w)->outcome, EV_OUTCOME_WORSE);
    assert_int_equal(outcome(w)->is_reverted, 0);
    assert_near(world_value(w, KNOB_TIMEOUT_MS, 0), 7000, 0);
    world_free(w);
}

/* A second of 500 requests and <orders>. */
static void sell(struct world *w, uint32_t orders)
{
    struct ev_custom c = EV_INIT(CUSTOM, custom, w->now_us);
    snprintf(c.name, sizeof c.name, "orders.placed");
    for (uint32_t i = 0; i < 10; i++) {
        world_requests(w, REASON_ANSWERED, 20000, 50);
        for (uint32_t k = 0; k < orders / 10; k++)
            world_put(w, &c.head);
        world_tick(w, 1);
    }
}

/* A knob whose loop is silent here: it promises that latency stays. */
static void shrink_cache(struct world *w)
{
    struct move m;
    struct engine_out out = {.at = w->room + w->count, .max = FB_COUNT(w->room) - w->count};
    w->e->out = &out;
    move_init(&m, w->e, KNOB_CACHE_KIB, 0);
    m.d.to = m.d.from / 2;
    m.d.reason = REASON_CACHE_SHRINK;
    move_expect(&m, EXPECT_KEEP, FACT_LATENCY_P50, FACT_1S, 2000);
    assert_true(arbiter_submit(w->e, &m));
    w->e->out = NULL;
    w->count += out.count;
}

static void a_move_that_keeps_its_promise_and_harms_a_signal_goes_back(void **state)
{
    (void)state;
    for (int is_harmful = 0; is_harmful < 2; is_harmful++) {
        struct world *w = world_new(EV_MODE_ACT);
        struct signal_conf orders = {.name = "orders",
                                     .event = "orders.placed",
                                     .service = "shop",
                                     .value = SIGNAL_RATE,
                                     .better = SIGNAL_HIGHER,
                                     .change_min = 0.05};
        struct engine_target t = {.kind = EV_KIND_ROUTE, .name = "shop /"};
        for (size_t k = 0; k < KNOB_COUNT; k++)
            t.knob[k] = (struct knob_setting){NAN, NAN, NAN, EV_MODE_ACT};
        struct engine_conf conf = {
            .targets = &t, .target_count = 1, .signals = &orders, .signal_count = 1};
        conf.mode = EV_MODE_ACT;
        engine_configure(w->e, &conf);
        for (int s = 0; s < 120; s++)
            sell(w, 200);
        shrink_cache(w);
        for (int s = 0; s < 4; s++)
            sell(w, is_harmful ? 50 : 200);
        const struct ev_decision *d = world_decision(w, REASON_REVERTED);
        assert_true((d != NULL) == is_harmful);
        if (d) {
            assert_int_equal(d->fact1, FACT_SIGNAL);
            assert_string_equal(d->note, "orders");
            assert_near(d->threshold1, 0.4, 0.02);
            assert_near(d->value1, 0.1, 0.5);
            assert_int_equal(outcome(w)->outcome, EV_OUTCOME_WORSE);
            struct buf text;
            buf_init(&text, 4096);
            engine_explain(w->e, d, &text);
            assert_non_null(strstr(buf_str(&text), "made it worse: signal orders went from 0.4"));
            buf_fini(&text);
        }
        world_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_verdict_follows_the_promise_and_the_noise),
        cmocka_unit_test(a_move_that_keeps_its_promise_and_harms_a_signal_goes_back),
        cmocka_unit_test(a_decision_that_helped_stays),
        cmocka_unit_test(a_decision_that_harmed_goes_back_at_once),
        cmocka_unit_test(two_harms_in_a_row_freeze_the_loop_and_raise_an_alert),
        cmocka_unit_test(a_good_verdict_between_two_bad_ones_does_not_freeze),
        cmocka_unit_test(harm_beside_a_deploy_goes_back_and_is_not_counted_against_the_loop),
        cmocka_unit_test(a_load_that_moved_explains_any_harm),
        cmocka_unit_test(a_chain_in_one_direction_is_judged_once_and_goes_back_to_its_start),
        cmocka_unit_test(a_pinned_knob_is_judged_but_not_turned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

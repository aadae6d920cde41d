/* SPDX-License-Identifier: Apache-2.0 */
/* Golden sentences: what people read in the CLI, the dashboard and the audit log. */
#include "world.h"

static void says(struct world *w, const struct ev_decision *d, const char *want)
{
    struct buf b;
    buf_init(&b, 4 * KIB);
    engine_explain(w->e, d, &b);
    assert_string_equal(buf_str(&b), want);
    buf_fini(&b);
}

static struct ev_decision decision(enum knob_id knob, uint16_t reason, double from, double to)
{
    struct ev_decision d = EV_INIT(DECISION, decision, 1);
    d.knob = (uint16_t)knob;
    d.target_kind = (uint8_t)knob_row((uint16_t)knob)->kind;
    d.reason = reason;
    d.from = from;
    d.to = to;
    d.is_applied = 1;
    d.mode = EV_MODE_ACT;
    return d;
}

static void a_timeout_tells_quantile_samples_and_promise(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct ev_decision d = decision(KNOB_TIMEOUT_MS, REASON_TIMEOUT_LOWER, 15000, 420);
    d.fact1 = FACT_UPSTREAM_P999;
    d.n1 = 12400;
    d.window1_ms = 60000;
    d.value1 = 210;
    d.expected = EXPECT_KEEP;
    d.expected_fact = FACT_TIMEOUT_RATIO;
    says(w, &d,
         "timeout of route shop /: 15000 ms -> 420 ms, because 99.9 % of 12,400 answers in 60 s "
         "came within 210 ms; "
         "expected: no more time-outs (timeout ratio 0.00 % before)");
    d.reason = REASON_TIMEOUT_WIDEN;
    d.from = 420;
    d.to = 840;
    d.n2 = 1000;
    d.value2 = 0.031;
    d.threshold2 = 0.01;
    d.window2_ms = 10000;
    d.expected = EXPECT_LOWER;
    d.before = 0.031;
    says(w, &d,
         "timeout of route shop /: 420 ms -> 840 ms, because 3.10 % of 1,000 requests in 10 s ran "
         "into it (more than "
         "1 % widens it); expected: fewer time-outs (timeout ratio 3.10 % before)");
    world_free(w);
}

static void a_limit_tells_what_the_learner_measured(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct ev_decision d = decision(KNOB_LIMIT, REASON_LIMIT_FOLLOWS, 40, 24);
    d.n1 = 20;
    d.value1 = 38.25;
    d.value3 = 1.7;
    d.n2 = 400;
    d.value2 = 22.5;
    d.expected = EXPECT_LOWER;
    d.expected_fact = FACT_UPSTREAM_P50;
    d.before = 36;
    says(w, &d,
         "limit of endpoint shop 10.0.0.1:80: 40 -> 24 requests, because the mean of 20 answers at "
         "a known number in "
         "flight was 38.2 ms, 1.70 times the 22.5 ms without a queue (400 samples); expected: "
         "lower latency "
         "(upstream p50 36 ms before)");
    d.reason = REASON_LIMIT_BOUNDED;
    d.to = 64;
    d.min = 2;
    d.max = 64;
    d.is_applied = 0;
    d.expected = EXPECT_NONE;
    says(w, &d,
         "limit of endpoint shop 10.0.0.1:80: 40 would become 64 requests, because the mean of 20 "
         "answers at a known "
         "number in flight was 38.2 ms, 1.70 times the 22.5 ms without a queue (400 samples); the "
         "learner wanted more "
         "than the bounds 2 .. 64 allow");
    world_free(w);
}

static void a_limit_without_a_latency_tells_what_moved_it(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct ev_decision d = decision(KNOB_LIMIT, REASON_LIMIT_FOLLOWS, 8, 16);
    d.value1 = d.value2 = d.value3 = NAN;
    d.verdict = REASON_LEARN_PROBE_UP;
    says(w, &d,
         "limit of endpoint shop 10.0.0.1:80: 8 -> 16 requests, because it was full and more "
         "requests wanted in; more at once are tried");
    d.n2 = 400;
    d.value2 = 22.5;
    says(w, &d,
         "limit of endpoint shop 10.0.0.1:80: 8 -> 16 requests, because it was full and more "
         "requests wanted in; more at once are tried, whose answers are held against the 22.5 ms "
         "without a queue (400 samples)");
    d.from = 16;
    d.to = 8;
    d.verdict = REASON_LEARN_UNUSED;
    says(w, &d,
         "limit of endpoint shop 10.0.0.1:80: 16 -> 8 requests, because it was no longer full "
         "before the higher one that was tried could be judged");
    d.from = 8;
    d.verdict = REASON_LEARN_PAUSE;
    says(w, &d,
         "limit of endpoint shop 10.0.0.1:80: 8 stays 8 requests, because nothing is answered any "
         "more, where an answer took 22.5 ms without a queue (400 samples); it waits and takes no "
         "samples");
    d.verdict = REASON_LEARN_RESUME;
    says(w, &d,
         "limit of endpoint shop 10.0.0.1:80: 8 stays 8 requests, because answers come again after "
         "a pause");
    d.verdict = REASON_LEARN_RESET;
    d.to = 4;
    says(w, &d,
         "limit of endpoint shop 10.0.0.1:80: 8 -> 4 requests, because an operator dropped what "
         "was learned");
    world_free(w);
}

static void shedding_tells_demand_capacity_and_share(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct ev_decision d = decision(KNOB_SHED_THRESHOLD, REASON_SHED_RAISE, 512, 330);
    d.window1_ms = 500;
    d.n1 = 1500;
    d.value1 = 3000;
    d.threshold1 = 2000;
    d.value3 = 31;
    d.threshold2 = 0.33;
    d.expected = EXPECT_LOWER;
    d.expected_fact = FACT_QUEUED;
    d.before = 30;
    says(w, &d,
         "shed threshold of service shop: 512 -> 330 level, because in 500 ms 1,500 requests "
         "arrived (3000/s) and the "
         "service can do 2000/s; 31 wait in the queue; 33 % are refused, lowest classes first; "
         "expected: a shorter "
         "queue (queued 30 requests before)");
    world_free(w);
}

static void retries_tell_errors_or_the_limit(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct ev_decision d = decision(KNOB_RETRY_PCT, REASON_RETRY_CUT, 10, 6);
    d.value1 = 0.15;
    d.n1 = 200;
    d.window1_ms = 1000;
    d.threshold1 = 0.05;
    d.threshold2 = 0.3;
    says(w, &d,
         "retry budget of service shop: 10 % -> 6 %, because 15.00 % of 200 requests in 1 s failed "
         "(all retries up to "
         "5 %, none from 30 %)");
    d.to = 0;
    d.value2 = 9;
    snprintf(d.note, sizeof d.note, "limit binds");
    says(w, &d,
         "retry budget of service shop: 10 % -> 0 %, because the limit binds: on average 9 "
         "requests wait in the queue");
    world_free(w);
}

static void the_verifier_and_operators_are_named(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct ev_decision d = decision(KNOB_TIMEOUT_MS, REASON_REVERTED, 420, 15000);
    d.supersedes = 17;
    d.fact1 = FACT_TIMEOUT_RATIO;
    d.threshold1 = 0;
    d.value1 = 0.042;
    says(w, &d,
         "timeout of route shop /: 420 ms -> 15000 ms, because decision 17 made it worse: timeout "
         "ratio went from "
         "0.00 % to 4.20 %");
    d = decision(KNOB_LIMIT, REASON_OPERATOR_PIN, 40, 10);
    snprintf(d.note, sizeof d.note, "sale");
    says(w, &d,
         "limit of endpoint shop 10.0.0.1:80: 40 -> 10 requests, because an operator pinned it: "
         "sale");
    d = decision(KNOB_LIMIT, REASON_OPERATOR_MODE, 40, 40);
    d.target = EV_NONE;
    d.mode = EV_MODE_RECOMMEND;
    says(w, &d, "limit of all endpoints, because the mode is now recommend");
    d = decision(KNOB_LIMIT, REASON_OPERATOR_DRAIN, 0, 0);
    d.knob = EV_NONE;
    says(w, &d, "endpoint shop 10.0.0.1:80 is drained, because an operator said so");
    d = decision(KNOB_TIMEOUT_MS, REASON_CONFIG_CHANGED, 420, 9000);
    d.target = 700;
    says(w, &d,
         "timeout of route 700: 420 ms -> 9000 ms, because the configured value changed and "
         "dropped what was learned");
    world_free(w);
}

static void every_loop_reason_makes_a_sentence(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    for (uint16_t reason = 0; reason < REASON_END; reason++) {
        const struct ev_reason_row *row = ev_reason_row(reason);
        if (!row->name || row->kind != REASON_KIND_LOOP || reason == REASON_FROZEN ||
            reason == REASON_VERIFIED)
            continue; /* the last two are words of outcomes */
        for (uint16_t knob = 0; knob < KNOB_COUNT; knob++) {
            struct ev_decision d = decision((enum knob_id)knob, reason, 1, 2);
            struct buf b;
            buf_init(&b, 4 * KIB);
            engine_explain(w->e, &d, &b);
            assert_non_null(strstr(buf_str(&b), "because"));
            buf_fini(&b);
        }
    }
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timeout_tells_quantile_samples_and_promise),
        cmocka_unit_test(a_limit_tells_what_the_learner_measured),
        cmocka_unit_test(a_limit_without_a_latency_tells_what_moved_it),
        cmocka_unit_test(shedding_tells_demand_capacity_and_share),
        cmocka_unit_test(retries_tell_errors_or_the_limit),
        cmocka_unit_test(the_verifier_and_operators_are_named),
        cmocka_unit_test(every_loop_reason_makes_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

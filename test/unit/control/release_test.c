/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

static struct world *shop(enum ev_mode mode)
{
    struct world *w = world_new(mode);
    return w;
}

/* As world_configure, with a split at route 0 and the signal `orders`. */
static void configure(struct world *w, enum ev_mode mode, double share, uint8_t better)
{
    struct engine_target t = {.kind = EV_KIND_ROUTE, .name = "shop /"};
    for (size_t k = 0; k < KNOB_COUNT; k++)
        t.knob[k] = (struct knob_setting){NAN, NAN, NAN, mode};
    t.knob[KNOB_SPLIT_PCT].configured = share;
    struct signal_conf orders = {.name = "orders",
                                 .event = "orders.placed",
                                 .service = "shop",
                                 .value = SIGNAL_RATE,
                                 .better = better,
                                 .change_min = 0.05,
                                 .old_version = "stable"};
    struct engine_conf conf = {.config_hash = 7,
                               .targets = &t,
                               .target_count = 1,
                               .signals = &orders,
                               .signal_count = 1,
                               .mode = mode};
    engine_configure(w->e, &conf);
}

static void marker(struct world *w, const char *name)
{
    struct ev_custom c = EV_INIT(CUSTOM, custom, w->now_us);
    snprintf(c.name, sizeof c.name, "%s", name);
    world_put(w, &c.head);
}

/* <seconds> of 50 requests and <orders> orders each. */
static void sell(struct world *w, uint32_t seconds, uint32_t orders)
{
    for (uint32_t s = 0; s < seconds; s++)
        for (uint32_t i = 0; i < 10; i++) {
            world_requests(w, REASON_ANSWERED, 20000, 5);
            for (uint32_t k = i * orders / 10; k < (i + 1) * orders / 10; k++)
                marker(w, "orders.placed");
            world_tick(w, 1);
        }
}

static bool is_watched(const struct world *w)
{
    struct signal_view view;
    assert_true(engine_signal(w->e, 0, &view));
    return view.state == SIGNAL_STATE_WATCHED;
}

static const struct ev_alert *alert(const struct world *w)
{
    const union ev_any *ev = world_last(w, EV_ALERT, REASON_ALERT_SIGNAL_HARMED);
    return ev ? &ev->alert : NULL;
}

static void a_share_that_harms_a_signal_goes_back_and_says_why(void **state)
{
    (void)state;
    struct world *w = shop(EV_MODE_ACT);
    configure(w, EV_MODE_ACT, 0, SIGNAL_HIGHER);
    sell(w, 200, 20);
    configure(w, EV_MODE_ACT, 50, SIGNAL_HIGHER);
    sell(w, 5, 10);
    assert_null(alert(w)); /* caches are cold at first */
    assert_true(world_value(w, KNOB_SPLIT_PCT, 0) == 50);
    sell(w, 60, 10);
    const struct ev_decision *d = world_decision(w, REASON_RELEASE_HARMED);
    assert_non_null(d);
    assert_int_equal(d->is_applied, 1);
    assert_int_equal(d->loop, LOOP_RELEASE);
    assert_true(d->from == 50 && d->to == 0);
    assert_near(d->threshold1, 0.4, 0.02);
    assert_near(d->value1, 0.2, 0.05);
    assert_true(world_value(w, KNOB_SPLIT_PCT, 0) == 0);
    assert_int_equal(alert(w)->decision_id, d->decision_id);
    assert_non_null(strstr(alert(w)->text, "the share went back"));
    struct buf text;
    buf_init(&text, 4096);
    engine_explain(w->e, d, &text);
    assert_non_null(strstr(buf_str(&text), "share of new versions of route shop /: 50 % -> 0 %"));
    assert_non_null(strstr(buf_str(&text), "signal orders went from 0."));
    buf_fini(&text);
    /* well again: the alert ends; the same configuration keeps the share where it is */
    sell(w, 130, 20);
    assert_int_equal(alert(w)->is_over, 1);
    configure(w, EV_MODE_ACT, 50, SIGNAL_HIGHER);
    assert_true(world_value(w, KNOB_SPLIT_PCT, 0) == 0);
    /* a next step is a new release */
    configure(w, EV_MODE_ACT, 20, SIGNAL_HIGHER);
    assert_true(world_value(w, KNOB_SPLIT_PCT, 0) == 20);
    world_free(w);
}

static void a_harmless_release_stays(void **state)
{
    (void)state;
    struct world *w = shop(EV_MODE_ACT);
    configure(w, EV_MODE_ACT, 0, SIGNAL_HIGHER);
    sell(w, 200, 20);
    configure(w, EV_MODE_ACT, 50, SIGNAL_HIGHER);
    sell(w, 100, 20);
    assert_true(is_watched(w));
    sell(w, 900, 20);
    assert_false(is_watched(w)); /* a quarter of an hour is enough */
    sell(w, 100, 5);
    assert_null(world_decision(w, REASON_RELEASE_HARMED)); /* something else did this */
    assert_true(world_value(w, KNOB_SPLIT_PCT, 0) == 50);
    world_free(w);
}

static void more_orders_are_no_harm_but_more_errors_are(void **state)
{
    (void)state;
    for (int is_lower = 0; is_lower < 2; is_lower++) {
        struct world *w = shop(EV_MODE_ACT);
        uint8_t better = is_lower ? SIGNAL_LOWER : SIGNAL_HIGHER;
        configure(w, EV_MODE_ACT, 0, better);
        sell(w, 200, 10);
        configure(w, EV_MODE_ACT, 100, better);
        sell(w, 100, 20);
        assert_true((world_decision(w, REASON_RELEASE_HARMED) != NULL) == is_lower);
        world_free(w);
    }
}

/* <seconds> of 40 requests of stable and 10 of canary; orders say their version. */
static void sell_both(struct world *w, uint32_t seconds, uint32_t old, uint32_t few)
{
    for (uint32_t s = 0; s < seconds; s++)
        for (uint32_t i = 0; i < 10; i++) {
            for (uint32_t k = 0; k < 5; k++) {
                struct ev_request r = world_request(w, REASON_ANSWERED, 20000);
                r.version = k == 4;
                world_put(w, &r.head);
            }
            for (uint32_t k = i * old / 10; k < (i + 1) * old / 10; k++)
                marker(w, "orders.placed@stable");
            for (uint32_t k = i * few / 10; k < (i + 1) * few / 10; k++)
                marker(w, "orders.placed@canary");
            world_tick(w, 1);
        }
}

static struct world *both(void)
{
    struct world *w = shop(EV_MODE_ACT);
    world_name(w, EV_KIND_VERSION, 0, 0, "shop stable");
    world_name(w, EV_KIND_VERSION, 1, 0, "shop canary");
    configure(w, EV_MODE_ACT, 0, SIGNAL_HIGHER);
    return w;
}

static void
a_version_that_sells_less_than_the_old_one_goes_back_though_nothing_was_known(void **state)
{
    (void)state;
    struct world *w = both();
    sell_both(w, 5, 16, 0); /* no baseline is needed */
    configure(w, EV_MODE_ACT, 20, SIGNAL_HIGHER);
    sell_both(w, 60, 16, 2);
    const struct ev_decision *d = world_decision(w, REASON_RELEASE_VERSION_HARMED);
    assert_non_null(d);
    assert_true(d->is_applied && d->from == 20 && d->to == 0);
    assert_near(d->threshold1, 0.4, 0.02);
    assert_near(d->value1, 0.2, 0.1);
    assert_near(d->value2, -0.5, 0.1);
    assert_non_null(strstr(alert(w)->text, "with the new version and 0.4 with the old one"));
    struct buf text;
    buf_init(&text, 4096);
    engine_explain(w->e, d, &text);
    assert_non_null(strstr(buf_str(&text), "with the new version and 0.4 with the old one"));
    buf_fini(&text);
    assert_true(world_value(w, KNOB_SPLIT_PCT, 0) == 0);
    sell_both(w, 130, 16, 4);
    assert_int_equal(alert(w)->is_over, 1);
    world_free(w);
}

static void what_happens_to_both_versions_is_no_harm_of_the_new_one(void **state)
{
    (void)state;
    struct world *w = both();
    sell_both(w, 200, 16, 4);
    configure(w, EV_MODE_ACT, 20, SIGNAL_HIGHER);
    sell_both(w, 300, 8, 2);
    assert_null(alert(w));
    assert_true(world_value(w, KNOB_SPLIT_PCT, 0) == 20);
    world_free(w);
}

/* Requests are counted for the service, so the sides lie as soon as its routes have two shares. */
static void two_shares_in_one_service_are_not_compared_by_version(void **state)
{
    (void)state;
    for (uint32_t at_s = 0; at_s <= 20; at_s += 20) {
        struct world *w = both();
        sell_both(w, 5, 16, 0);
        if (at_s == 0) /* before the step, or while it is looked at */
            world_command(w, EV_VERB_PIN, KNOB_SPLIT_PCT, 1, 5);
        world_tick(w, 20);
        configure(w, EV_MODE_ACT, 20, SIGNAL_HIGHER);
        sell_both(w, at_s, 16, 2);
        if (at_s > 0)
            world_command(w, EV_VERB_PIN, KNOB_SPLIT_PCT, 1, 5);
        sell_both(w, 120, 16, 2);
        assert_null(alert(w));
        assert_true(world_value(w, KNOB_SPLIT_PCT, 0) == 20);
        world_free(w);
    }
}

/* All users together say nothing of it: each minute of both versions does. */
static void the_alert_of_a_version_ends_when_it_is_as_good_or_has_its_share_no_more(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct world *w = both();
        sell_both(w, 5, 16, 0);
        world_command(w, EV_VERB_PIN, KNOB_SPLIT_PCT, 0, 20);
        sell_both(w, 60, 16, 2);
        assert_non_null(alert(w));
        assert_non_null(strstr(alert(w)->text, "the share stays"));
        sell_both(w, 200, 16, 2);
        assert_int_equal(alert(w)->is_over, 0);
        if (k == 0)
            sell_both(w, 140, 16, 4);
        else {
            world_command(w, EV_VERB_PIN, KNOB_SPLIT_PCT, 0, 0);
            sell_both(w, 70, 16, 2);
        }
        assert_int_equal(alert(w)->is_over, 1);
        assert_true(isfinite(alert(w)->value) && isfinite(alert(w)->threshold));
        world_free(w);
    }
}

static void in_recommend_it_is_told_and_not_done_and_a_pin_wins(void **state)
{
    (void)state;
    struct world *w = shop(EV_MODE_RECOMMEND);
    configure(w, EV_MODE_RECOMMEND, 0, SIGNAL_HIGHER);
    sell(w, 200, 20);
    configure(w, EV_MODE_RECOMMEND, 50, SIGNAL_HIGHER);
    sell(w, 100, 10);
    const struct ev_decision *d = world_decision(w, REASON_RELEASE_HARMED);
    assert_non_null(d);
    assert_int_equal(d->is_applied, 0);
    assert_true(world_value(w, KNOB_SPLIT_PCT, 0) == 50);
    assert_non_null(strstr(alert(w)->text, "the share stays"));
    world_free(w);

    w = shop(EV_MODE_ACT);
    configure(w, EV_MODE_ACT, 0, SIGNAL_HIGHER);
    sell(w, 200, 20);
    world_command(w, EV_VERB_PIN, KNOB_SPLIT_PCT, 0, 50);
    sell(w, 100, 10);
    assert_null(world_decision(w, REASON_RELEASE_HARMED));
    assert_true(world_value(w, KNOB_SPLIT_PCT, 0) == 50);
    assert_non_null(strstr(alert(w)->text, "the share stays"));
    world_free(w);
}

static void a_deploy_marker_is_looked_at_too(void **state)
{
    (void)state;
    struct world *w = shop(EV_MODE_ACT);
    configure(w, EV_MODE_ACT, 0, SIGNAL_HIGHER);
    sell(w, 200, 20);
    marker(w, "other.deploy"); /* no such service: it may mean any */
    marker(w, "shop.deploy");
    sell(w, 100, 10);
    assert_non_null(alert(w));
    assert_int_equal(alert(w)->is_over, 0);
    assert_non_null(strstr(alert(w)->text, "after a deploy"));
    assert_null(world_decision(w, REASON_RELEASE_HARMED));
    sell(w, 1000, 10); /* it stays so: the alert ends when the release is old */
    assert_int_equal(alert(w)->is_over, 1);
    world_free(w);
}

static void without_a_minute_of_before_nothing_is_judged(void **state)
{
    (void)state;
    struct world *w = shop(EV_MODE_ACT);
    configure(w, EV_MODE_ACT, 0, SIGNAL_HIGHER);
    sell(w, 30, 20);
    configure(w, EV_MODE_ACT, 50, SIGNAL_HIGHER);
    sell(w, 100, 5);
    assert_null(alert(w));
    assert_false(is_watched(w));
    world_free(w);
}

static void a_snapshot_in_the_middle_decides_the_same(void **state)
{
    (void)state;
    struct world *a = shop(EV_MODE_ACT), *b = shop(EV_MODE_ACT);
    configure(a, EV_MODE_ACT, 0, SIGNAL_HIGHER);
    sell(a, 200, 20);
    configure(a, EV_MODE_ACT, 50, SIGNAL_HIGHER);
    sell(a, 12, 12);
    struct buf bytes;
    struct fb_err err;
    buf_init(&bytes, 64 * MIB);
    engine_save(a->e, &bytes);
    assert_int_equal(engine_load(b->e, buf_span(&bytes), &err), FB_OK);
    configure(b, EV_MODE_ACT, 50, SIGNAL_HIGHER); /* as the log's snapshot does */
    b->now_us = a->now_us;
    assert_int_equal(engine_hash(a->e), engine_hash(b->e));
    sell(a, 60, 12);
    sell(b, 60, 12);
    assert_non_null(world_decision(b, REASON_RELEASE_HARMED));
    assert_int_equal(engine_hash(a->e), engine_hash(b->e));
    buf_fini(&bytes);
    world_free(a);
    world_free(b);
}

static void a_snapshot_while_versions_are_compared_decides_the_same(void **state)
{
    (void)state;
    struct world *a = both(), *b = shop(EV_MODE_ACT);
    sell_both(a, 5, 16, 0);
    configure(a, EV_MODE_ACT, 20, SIGNAL_HIGHER);
    sell_both(a, 25, 16, 3);
    struct buf bytes;
    struct fb_err err;
    buf_init(&bytes, 64 * MIB);
    engine_save(a->e, &bytes);
    assert_int_equal(engine_load(b->e, buf_span(&bytes), &err), FB_OK);
    configure(b, EV_MODE_ACT, 20, SIGNAL_HIGHER); /* as the log's snapshot does */
    b->now_us = a->now_us;
    assert_int_equal(engine_hash(a->e), engine_hash(b->e));
    sell_both(a, 60, 16, 2);
    sell_both(b, 60, 16, 2);
    assert_non_null(world_decision(b, REASON_RELEASE_VERSION_HARMED));
    assert_int_equal(engine_hash(a->e), engine_hash(b->e));
    buf_fini(&bytes);
    world_free(a);
    world_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_share_that_harms_a_signal_goes_back_and_says_why),
        cmocka_unit_test(a_harmless_release_stays),
        cmocka_unit_test(more_orders_are_no_harm_but_more_errors_are),
        cmocka_unit_test(
            a_version_that_sells_less_than_the_old_one_goes_back_though_nothing_was_known),
        cmocka_unit_test(what_happens_to_both_versions_is_no_harm_of_the_new_one),
        cmocka_unit_test(two_shares_in_one_service_are_not_compared_by_version),
        cmocka_unit_test(the_alert_of_a_version_ends_when_it_is_as_good_or_has_its_share_no_more),
        cmocka_unit_test(in_recommend_it_is_told_and_not_done_and_a_pin_wins),
        cmocka_unit_test(a_deploy_marker_is_looked_at_too),
        cmocka_unit_test(without_a_minute_of_before_nothing_is_judged),
        cmocka_unit_test(a_snapshot_in_the_middle_decides_the_same),
        cmocka_unit_test(a_snapshot_while_versions_are_compared_decides_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "analytics/signal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct signal_conf orders = {.name = "orders",
                                          .event = "orders.placed",
                                          .service = "shop",
                                          .value = SIGNAL_RATE,
                                          .better = SIGNAL_HIGHER,
                                          .change_min = 0.05};

static void say(struct signals *s, const char *name, double value)
{
    struct ev_custom ev = EV_INIT(CUSTOM, custom, 0);
    ev.value = value;
    snprintf(ev.name, sizeof ev.name, "%s", name);
    signals_feed(s, &ev.head);
}

static void tick(struct signals *s, uint64_t second)
{
    struct ev_tick ev = EV_INIT(TICK, tick, second * US_PER_S);
    signals_feed(s, &ev.head);
}

static void ask(struct signals *s, uint16_t service, uint16_t reason, uint32_t times)
{
    struct ev_request r = EV_INIT(REQUEST, request, 0);
    r.service = service;
    r.reason = reason;
    for (uint32_t i = 0; i < times; i++)
        signals_count_request(s, &r);
}

static struct signals *one(const struct signal_conf *conf)
{
    struct signals *s = signals_new();
    tick(s, 1000);
    signals_configure(s, conf, 1);
    signals_service(s, "shop", 3, false);
    tick(s, 1001);
    return s;
}

static void orders_are_counted_per_request_of_their_service(void **state)
{
    (void)state;
    struct signals *s = one(&orders);
    for (uint64_t t = 1001; t < 1021; t++) {
        ask(s, 3, REASON_ANSWERED, 50);
        ask(s, 3, REASON_SHED_PRIORITY, 10); /* refused: nobody could order */
        ask(s, 4, REASON_ANSWERED, 10);      /* another service */
        say(s, "orders.placed", 19.9);
        say(s, "orders.placed", 5);
        say(s, "orders.lost", 1);
        tick(s, t + 1);
    }
    const struct signal *g = signals_find(s, "orders");
    struct signal_sum sum = signal_sum(s, g, 1001, 1021);
    assert_int_equal(sum.seconds, 20);
    assert_true(sum.x == 40);
    assert_true(sum.r == 1000);
    assert_true(signal_shown(s, g, 10) == 2);
    assert_string_equal(signal_unit(g), "/s");
    signals_free(s);
}

static void each_kind_of_value_is_a_quotient_of_its_own(void **state)
{
    (void)state;
    static const struct {
        uint8_t value;
        double x, r;
    } rows[] = {{SIGNAL_RATE, 2, 1}, {SIGNAL_SUM, 7, 1}, {SIGNAL_MEAN, 7, 2}, {SIGNAL_LAST, 4, 1}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct signal_conf conf = {.name = "a", .event = "a", .value = rows[i].value};
        struct signals *s = one(&conf);
        say(s, "a", 3);
        say(s, "a", 4);
        tick(s, 1002);
        tick(s, 1003);
        struct signal_sum sum = signal_sum(s, signals_find(s, "a"), 1001, 1002);
        assert_true(sum.x == rows[i].x);
        assert_true(sum.r == rows[i].r);
        signals_free(s);
    }
}

static void a_quantile_counts_what_is_above_the_level_of_before(void **state)
{
    (void)state;
    struct signal_conf conf = {.name = "lcp", .event = "web.lcp", .value = SIGNAL_P75};
    struct signals *s = one(&conf);
    const struct signal *g = signals_find(s, "lcp");
    uint64_t t = 1001;
    for (; t < 1200; t++) {
        for (int i = 1; i <= 20; i++)
            say(s, "web.lcp", 100.0 * i);
        tick(s, t + 1);
    }
    assert_true(fabs(g->level - 1500) < 30); /* the sketch is right within 1 % */
    struct signal_sum sum = signal_sum(s, g, 1180, 1190);
    assert_true(fabs(sum.x / sum.r - 0.25) < 0.06);
    signals_hold(s, 0, true);
    for (; t < 1400; t++) {
        for (int i = 1; i <= 20; i++)
            say(s, "web.lcp", 200.0 * i);
        tick(s, t + 1);
    }
    assert_true(fabs(g->level - 1500) < 30); /* held */
    sum = signal_sum(s, g, 1380, 1390);
    assert_true(sum.x / sum.r > 0.55);
    assert_true(fabs(signal_shown(s, g, 60) - 3000) < 60);
    signals_free(s);
}

/* Blocks of a minute or two of <per_s> orders at 50 requests a second. */
static uint64_t fill(struct signals *s, uint64_t from_s, uint64_t to_s, uint32_t per_s)
{
    for (uint64_t t = from_s; t < to_s; t++) {
        ask(s, 3, REASON_ANSWERED, 50);
        for (uint32_t i = 0; i < per_s; i++)
            say(s, "orders.placed", 1);
        tick(s, t + 1);
    }
    return to_s;
}

static void fewer_orders_are_evidence_and_more_are_not(void **state)
{
    (void)state;
    struct signals *s = one(&orders);
    const struct signal *g = signals_find(s, "orders");
    struct signal_base base;
    assert_false(signal_base(s, g, 1001, 1030, &base)); /* nothing yet */
    uint64_t t = fill(s, 1001, 1200, 10);
    assert_true(signal_base(s, g, 1001, t, &base));
    assert_true(fabs(base.ratio - 0.2) < 1e-9);
    assert_true(base.spread >= 0.2); /* counts scatter by chance at least */
    uint64_t fewer = fill(s, t, t + 60, 5);
    struct signal_sum sum = signal_sum(s, g, t, fewer);
    struct signal_seen seen = signal_compare(g, &base, &sum);
    assert_true(fabs(seen.change + 0.5) < 1e-9);
    assert_true(seen.log_e > log(1000));
    uint64_t more = fill(s, fewer, fewer + 60, 20);
    sum = signal_sum(s, g, fewer, more);
    seen = signal_compare(g, &base, &sum);
    assert_true(seen.change > 0.9);
    assert_true(seen.log_e == 0);
    uint64_t same = fill(s, more, more + 60, 10);
    sum = signal_sum(s, g, more, same);
    assert_true(signal_compare(g, &base, &sum).log_e < log(20));
    signals_free(s);
}

static void what_was_always_zero_is_harmed_by_what_stays_and_not_by_a_blip(void **state)
{
    (void)state;
    struct signal_conf conf = {.name = "errors",
                               .event = "api.errors",
                               .value = SIGNAL_LAST,
                               .better = SIGNAL_LOWER,
                               .change_min = 0.05};
    struct signals *s = one(&conf);
    const struct signal *g = signals_find(s, "errors");
    struct signal_base base;
    uint64_t t = 1001;
    for (; t < 1200; t++) {
        say(s, "api.errors", 0);
        tick(s, t + 1);
    }
    assert_true(signal_base(s, g, 1001, t, &base));
    uint64_t from = t;
    for (; t < 1260; t++) {
        say(s, "api.errors", t == 1230 ? 3 : 0);
        tick(s, t + 1);
    }
    struct signal_sum sum = signal_sum(s, g, from, t);
    assert_true(signal_compare(g, &base, &sum).log_e < log(100));
    from = t;
    for (; t < 1320; t++) {
        say(s, "api.errors", t % 2 ? 3 : 4);
        tick(s, t + 1);
    }
    sum = signal_sum(s, g, from, t);
    assert_true(signal_compare(g, &base, &sum).log_e > log(100));
    signals_free(s);
}

static void a_reload_keeps_what_did_not_change(void **state)
{
    (void)state;
    struct signal_conf both[2] = {orders, {.name = "b", .event = "b"}};
    struct signals *s = signals_new();
    tick(s, 1000);
    signals_configure(s, both, 2);
    signals_service(s, "shop", 3, false);
    tick(s, 1001);
    uint64_t t = fill(s, 1001, 1100, 10);
    const struct signal *g = signals_find(s, "orders");
    struct signal_conf now[2] = {{.name = "c", .event = "c"}, orders};
    signals_configure(s, now, 2);
    assert_ptr_equal(signals_find(s, "orders"), g);
    assert_true(signal_sum(s, g, 1001, t).x > 0);
    assert_null(signals_find(s, "b"));
    now[1].change_min = 0.1;
    signals_configure(s, now, 2);
    assert_true(signal_sum(s, signals_find(s, "orders"), 1001, t).x == 0);
    signals_service(s, "shop", 3, true); /* gone: nothing is counted for it */
    assert_int_equal(signals_is_counting(s), 0);
    signals_free(s);
}

static void a_time_without_ticks_says_nothing_and_a_new_clock_begins_anew(void **state)
{
    (void)state;
    struct signals *s = one(&orders);
    const struct signal *g = signals_find(s, "orders");
    uint64_t t = fill(s, 1001, 1100, 10);
    say(s, "orders.placed", 1);
    tick(s, t + 30);
    assert_int_equal(signal_sum(s, g, t, t + 30).seconds, 0);
    t = fill(s, t + 30, t + 40, 10);
    assert_int_equal(signal_sum(s, g, 1001, t).seconds, 99 + 10);
    tick(s, 50);
    assert_int_equal(signal_sum(s, g, 0, 2000).seconds, 0);
    t = fill(s, 50, 60, 10);
    assert_int_equal(signal_sum(s, g, 0, t).seconds, 9); /* the first one was not whole */
    signals_free(s);
}

static void a_snapshot_comes_back_and_a_damaged_one_does_not(void **state)
{
    (void)state;
    struct signals *s = one(&orders), *again = signals_new();
    uint64_t t = fill(s, 1001, 1100, 10);
    struct buf bytes, twice;
    buf_init(&bytes, 8 * MIB);
    buf_init(&twice, 8 * MIB);
    signals_save(s, &bytes);
    struct unpack u = {.rest = buf_span(&bytes)};
    assert_true(signals_load(again, &u));
    signals_save(again, &twice);
    assert_int_equal(pack_hash(buf_span(&bytes)), pack_hash(buf_span(&twice)));
    signals_configure(again, &orders, 1);
    assert_true(signal_sum(again, signals_find(again, "orders"), 1001, t).x == 990);
    u = (struct unpack){.rest = {bytes.at, bytes.len / 2}};
    assert_false(signals_load(again, &u));
    assert_true(u.is_broken);
    assert_null(signals_find(again, "orders"));
    buf_fini(&bytes);
    buf_fini(&twice);
    signals_free(s);
    signals_free(again);
}

static struct ev_custom said(const char *name, const char *text)
{
    struct ev_custom ev = EV_INIT(CUSTOM, custom, 0);
    snprintf(ev.name, sizeof ev.name, "%s", name);
    snprintf(ev.text, sizeof ev.text, "%s", text);
    return ev;
}

/* As `orders`, with two versions: the first of the split is stable. */
static struct signals *two(uint8_t value)
{
    struct signal_conf conf = orders;
    conf.value = value;
    snprintf(conf.old_version, sizeof conf.old_version, "stable");
    struct signals *s = one(&conf);
    signals_version(s, "shop stable", 7, false);
    signals_version(s, "shop canary", 9, false);
    signals_version(s, "shop2 canary", 10, false); /* of another service */
    return s;
}

/* <seconds> of 40 and 10 requests, and of <old> and <few> events of 10 each. */
static uint64_t split(struct signals *s, uint64_t t, uint32_t seconds, uint32_t old, uint32_t few)
{
    static const uint16_t version[] = {7, 9};
    for (uint64_t end = t + seconds; t < end; tick(s, ++t)) {
        for (int k = 0; k < 2; k++) {
            struct ev_request r = EV_INIT(REQUEST, request, 0);
            r.service = 3;
            r.version = version[k];
            r.reason = REASON_ANSWERED;
            for (int i = 0; i < (k ? 10 : 40); i++)
                signals_count_request(s, &r);
        }
        for (uint32_t i = 0; i < old; i++)
            say(s, "orders.placed@stable", (double)(10 + t % 3));
        for (uint32_t i = 0; i < few; i++)
            say(s, "orders.placed@canary", (double)(10 + t % 3));
    }
    return t;
}

static void an_event_whose_text_names_a_known_version_gets_it_into_its_name(void **state)
{
    (void)state;
    static const struct {
        const char *says, *name, *text, *want;
    } rows[] = {
        {"named", "orders.placed", "{\"version\":\"canary\"}", "orders.placed@canary"},
        {"behind others", "orders.placed", "{\"a\":{\"version\":\"x\"},\"version\":\"stable\"}",
         "orders.placed@stable"},
        {"no such version", "orders.placed", "{\"version\":\"1.2.3\"}", "orders.placed"},
        {"of another service", "orders.placed", "{\"version\":\"2 canary\"}", "orders.placed"},
        {"inside another object", "orders.placed", "{\"a\":{\"version\":\"canary\"}}",
         "orders.placed"},
        {"a value, not a name", "orders.placed", "{\"a\":\"\\\"version\\\":\\\"canary\"}",
         "orders.placed"},
        {"cut", "orders.placed", "{\"version\":\"canary", "orders.placed"},
        {"a text", "orders.placed", "version canary", "orders.placed"},
        {"no signal", "shop.deploy", "{\"version\":\"canary\"}", "shop.deploy"},
        {"already", "orders.placed@stable", "{\"version\":\"canary\"}", "orders.placed@stable"},
    };
    struct signals *s = two(SIGNAL_RATE);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ev_custom ev = said(rows[i].name, rows[i].text);
        signals_label(s, &ev);
        if (strcmp(ev.name, rows[i].want) != 0)
            fail_msg("%s: %s", rows[i].says, ev.name);
    }
    signals_version(s, "shop canary", 9, true); /* gone */
    struct ev_custom ev = said("orders.placed", "{\"version\":\"canary\"}");
    signals_label(s, &ev);
    assert_string_equal(ev.name, "orders.placed");
    signals_free(s);
}

static void the_new_version_is_compared_with_the_old_one_of_the_same_time(void **state)
{
    (void)state;
    struct signals *s = two(SIGNAL_RATE);
    const struct signal *g = signals_find(s, "orders");
    uint64_t t = split(s, 1001, 20, 8, 2);
    assert_false(signal_has_sides(g)); /* nobody asks */
    signals_sides(s, 0, t - 10, 0, 0);
    t = split(s, t, 200, 8, 2);
    assert_true(signal_has_sides(g));
    assert_true(g->sides.r[SIGNAL_OLD] == 8000 && g->sides.x[SIGNAL_OLD] == 1600);
    assert_true(g->sides.r[SIGNAL_NEW] == 2000 && g->sides.x[SIGNAL_NEW] == 400);
    assert_true(signal_compare_sides(g).log_e == 0);
    /* all of it is in the sum too */
    assert_true(signal_sum(s, g, t - 10, t).x == 100);
    signals_sides(s, 0, t - 10, 0, 0);
    t = split(s, t, 25, 8, 1);
    assert_true(signal_compare_sides(g).log_e == 0); /* too early to say */
    t = split(s, t, 175, 8, 1);
    struct signal_seen seen = signal_compare_sides(g);
    assert_true(fabs(seen.change + 0.5) < 0.01);
    assert_true(seen.log_e > 5);
    /* half of what everybody does is no harm of one */
    signals_sides(s, 0, t - 10, 0, 0);
    t = split(s, t, 100, 8, 2);
    (void)split(s, t, 100, 4, 1);
    assert_true(signal_compare_sides(g).log_e == 0);
    signals_free(s);
}

static void values_of_two_versions_are_compared_by_their_mean(void **state)
{
    (void)state;
    struct signals *s = two(SIGNAL_MEAN);
    const struct signal *g = signals_find(s, "orders");
    signals_sides(s, 0, 991, 0, 0);
    uint64_t t = 1001;
    for (; t < 1121; tick(s, ++t)) {
        say(s, "orders.placed@stable", (double)(10 + t % 3));
        say(s, "orders.placed@canary", (double)(7 + t % 2));
    }
    struct signal_seen seen = signal_compare_sides(g);
    assert_true(seen.change < -0.25 && seen.change > -0.4);
    assert_true(seen.log_e > 5);
    signals_free(s);
}

/* Else a version that does not say its name would look as if it did nothing. */
static void where_a_tenth_of_the_events_names_no_version_nothing_is_compared(void **state)
{
    (void)state;
    struct signals *s = two(SIGNAL_RATE);
    const struct signal *g = signals_find(s, "orders");
    signals_sides(s, 0, 991, 0, 0);
    uint64_t t = split(s, 1001, 100, 8, 0);
    assert_true(signal_has_sides(g));
    assert_true(signal_compare_sides(g).log_e > 5);
    for (int i = 0; i < 200; i++)
        say(s, i % 2 ? "orders.placed" : "orders.placed@unheard", 1);
    tick(s, t + 1);
    assert_false(signal_has_sides(g));
    assert_true(signal_compare_sides(g).log_e == 0);
    signals_free(s);
}

/* It has a fifth of the requests here: two events in a hundred may name no version. */
static void a_new_version_that_does_not_say_its_name_is_not_one_that_sells_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *says;
        uint32_t few, unnamed; /* a second, of 40 in all; the new side has a fifth of requests */
        bool has_sides;
    } rows[] = {
        {"all of them named", 8, 0, true},         {"one of the new ones not", 7, 0, true},
        {"half of the new ones not", 4, 4, false}, {"none of the new ones", 0, 8, false},
        {"it sells nothing", 0, 0, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct signals *s = two(SIGNAL_RATE);
        const struct signal *g = signals_find(s, "orders");
        uint64_t t = 1001;
        signals_sides(s, 0, t - 10, 0, 0);
        for (int k = 0; k < 60; k++) {
            for (uint32_t n = 0; n < rows[i].unnamed; n++)
                say(s, n % 2 ? "orders.placed" : "orders.placed@v2", 1);
            t = split(s, t, 1, 32, rows[i].few);
        }
        if (signal_has_sides(g) != rows[i].has_sides)
            fail_msg("%s: %s", rows[i].says, signal_sides_lack(g));
        signals_free(s);
    }
    /* a handful: a tenth of what the new side should have, and it did name itself */
    struct signals *s = two(SIGNAL_RATE);
    const struct signal *g = signals_find(s, "orders");
    signals_sides(s, 0, 991, 0, 0);
    uint64_t t = split(s, 1001, 60, 32, 8);
    for (int i = 0; i < 40; i++)
        say(s, "orders.placed", 1);
    t = split(s, t, 1, 32, 8);
    assert_true(signal_has_sides(g));
    for (int i = 0; i < 20; i++)
        say(s, "orders.placed", 1);
    (void)split(s, t, 1, 32, 8);
    assert_false(signal_has_sides(g));
    signals_free(s);
}

/* What counts cannot be surer of than chance: sums have the squares of their values, means theirs
 * about the mean. */
static void values_scatter_by_chance_though_the_blocks_are_alike(void **state)
{
    (void)state;
    static const uint8_t values[] = {SIGNAL_SUM, SIGNAL_MEAN};
    for (size_t k = 0; k < sizeof values; k++) {
        struct signals *s = two(values[k]);
        const struct signal *g = signals_find(s, "orders");
        signals_sides(s, 0, 991, 0, 0);
        uint64_t t = 1001;
        for (int i = 0; i < 300; i++) {
            /* of eight old ones one is large; of the two new ones none: by luck */
            say(s, "orders.placed@stable", 90);
            t = split(s, t, 1, 7, 0);
            if (i < 24) {
                assert_false(signal_sides_are_known(g));
                assert_true(signal_compare_sides(g).log_e == 0);
            }
            if (i % 2) {
                say(s, "orders.placed@canary", 10);
                say(s, "orders.placed@canary", 12);
            }
        }
        assert_true(signal_has_sides(g));
        const struct signal_sides *b = &g->sides;
        assert_true(b->squares[SIGNAL_OLD] > 300 * 8100.0);
        struct signal_seen seen = signal_compare_sides(g);
        double off = b->off / b->weight;
        double all = b->squares[0] + b->squares[1], r = b->r[0] + b->r[1];
        double x2 = b->x[0] * b->x[0] / b->r[0] + b->x[1] * b->x[1] / b->r[1];
        double least = (values[k] == SIGNAL_SUM ? all : all - x2) / r / b->weight;
        assert_true(seen.change < 0);
        assert_true(seen.z * seen.z <= off * off / least * 1.05);
        signals_free(s);
    }
}

static void those_who_ask_for_a_version_are_no_sample(void **state)
{
    (void)state;
    for (uint32_t named = 0; named <= 3; named += 3) {
        struct signals *s = two(SIGNAL_RATE);
        const struct signal *g = signals_find(s, "orders");
        struct ev_request r = EV_INIT(REQUEST, request, 0);
        r.service = 3;
        r.version = 9;
        r.reason = REASON_ANSWERED;
        r.traits = EV_TRAIT_BIT(SPLIT_NAMED);
        signals_sides(s, 0, 991, 0, 0);
        for (uint64_t t = 1001; t < 1061;) {
            for (uint32_t i = 0; i < named; i++)
                signals_count_request(s, &r);
            t = split(s, t, 1, 8, 2);
        }
        assert_int_equal(signal_has_sides(g), named == 0);
        signals_free(s);
    }
}

/* A step from 0 to 20 %, whose orders come after <late_s>. */
static void events_that_come_late_are_waited_for_a_minute_at_most(void **state)
{
    (void)state;
    static const struct {
        uint32_t late_s, from_s, few;
    } rows[] = {{0, 10, 2}, {20, 40, 2}, {45, 60, 2}, {1000, 60, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct signals *s = two(SIGNAL_RATE);
        const struct signal *g = signals_find(s, "orders");
        signals_sides(s, 0, 1001, 0, 20);
        for (uint64_t t = 1001; t < 1301;)
            t = split(s, t, 1, 8, t - 1001 >= rows[i].late_s ? rows[i].few : 0);
        if (g->sides.from_s < 1001 + rows[i].from_s || g->sides.from_s > 1001 + rows[i].from_s + 8)
            fail_msg("%u s late: begins %d s after the step", rows[i].late_s,
                     (int)(g->sides.from_s - 1001));
        assert_int_equal(signal_compare_sides(g).log_e > 0, rows[i].few == 0);
        signals_free(s);
    }
}

static void versions_of_other_services_take_no_place(void **state)
{
    (void)state;
    struct signal_conf conf = orders;
    struct signals *s = one(&conf);
    char name[64];
    snprintf(conf.old_version, sizeof conf.old_version, "stable");
    signals_version(s, "shop stable", 7, false); /* nobody asks yet */
    assert_false(signal_knows_old(s, signals_find(s, "orders")));
    signals_configure(s, &conf, 1);
    for (uint16_t i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "other v%u", i);
        signals_version(s, name, (uint16_t)(100 + i), false);
    }
    signals_version(s, "shop stable", 7, false);
    assert_true(signal_knows_old(s, signals_find(s, "orders")));
    memset(conf.old_version, 0, sizeof conf.old_version);
    signals_configure(s, &conf, 1);
    for (uint32_t i = 0; i < SIGNAL_VERSIONS_MAX; i++)
        assert_true(s->version[i].name[0] == 0);
    signals_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_are_counted_per_request_of_their_service),
        cmocka_unit_test(each_kind_of_value_is_a_quotient_of_its_own),
        cmocka_unit_test(a_quantile_counts_what_is_above_the_level_of_before),
        cmocka_unit_test(fewer_orders_are_evidence_and_more_are_not),
        cmocka_unit_test(what_was_always_zero_is_harmed_by_what_stays_and_not_by_a_blip),
        cmocka_unit_test(a_reload_keeps_what_did_not_change),
        cmocka_unit_test(a_time_without_ticks_says_nothing_and_a_new_clock_begins_anew),
        cmocka_unit_test(an_event_whose_text_names_a_known_version_gets_it_into_its_name),
        cmocka_unit_test(the_new_version_is_compared_with_the_old_one_of_the_same_time),
        cmocka_unit_test(values_of_two_versions_are_compared_by_their_mean),
        cmocka_unit_test(a_new_version_that_does_not_say_its_name_is_not_one_that_sells_nothing),
        cmocka_unit_test(values_scatter_by_chance_though_the_blocks_are_alike),
        cmocka_unit_test(those_who_ask_for_a_version_are_no_sample),
        cmocka_unit_test(events_that_come_late_are_waited_for_a_minute_at_most),
        cmocka_unit_test(versions_of_other_services_take_no_place),
        cmocka_unit_test(where_a_tenth_of_the_events_names_no_version_nothing_is_compared),
        cmocka_unit_test(a_snapshot_comes_back_and_a_damaged_one_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

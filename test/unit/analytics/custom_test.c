/* SPDX-License-Identifier: Apache-2.0 */
#include "analytics/custom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void say(struct customs *c, const char *name, double value)
{
    struct ev_custom ev = EV_INIT(CUSTOM, custom, 0);
    ev.value = value;
    snprintf(ev.name, sizeof ev.name, "%s", name);
    customs_feed(c, &ev.head);
}

static void tick(struct customs *c, uint64_t second)
{
    struct ev_tick ev = EV_INIT(TICK, tick, second * US_PER_S);
    customs_feed(c, &ev.head);
}

static void a_name_has_its_last_value_count_and_sum_per_window(void **state)
{
    (void)state;
    struct customs *c = customs_new();
    for (uint64_t s = 100; s < 130; s++) {
        tick(c, s);
        say(c, "orders", (double)s);
        say(c, "orders", 1);
    }
    const struct custom_name *n = customs_find(c, "orders");
    assert_non_null(n);
    assert_true(n->last == 1);
    assert_int_equal(n->total, 60);
    struct custom_sum one = customs_sum(c, n, 1), ten = customs_sum(c, n, 10),
                      all = customs_sum(c, n, 60);
    assert_int_equal(one.count, 2);
    assert_true(one.sum == 129); /* second 128; 129 is open */
    assert_int_equal(ten.count, 20);
    assert_int_equal(ten.seconds, 10);
    assert_int_equal(all.count, 58);
    assert_int_equal(all.seconds, 29); /* not 60: it began 29 s ago */
    customs_free(c);
}

static void an_event_that_names_its_version_is_one_of_its_name(void **state)
{
    (void)state;
    struct customs *c = customs_new();
    char whose[40], name[40] = "shop.deploy@canary";
    tick(c, 100);
    say(c, "orders", 1);
    say(c, "orders@canary", 2);
    say(c, "shop.deploy@canary", 1);
    tick(c, 101);
    assert_int_equal(customs_count(c), 2);
    assert_int_equal(customs_find(c, "orders")->total, 2);
    assert_true(customs_find(c, "orders")->total_sum == 3);
    assert_int_equal(customs_deploy_age_s(c), 1);
    assert_true(custom_is_deploy(name, whose));
    assert_string_equal(whose, "shop");
    customs_free(c);
}

static void what_is_older_than_a_minute_is_forgotten(void **state)
{
    (void)state;
    struct customs *c = customs_new();
    tick(c, 10);
    say(c, "a", 5);
    tick(c, 70);
    assert_int_equal(customs_sum(c, customs_find(c, "a"), 60).count, 1);
    tick(c, 71);
    assert_int_equal(customs_sum(c, customs_find(c, "a"), 60).count, 0);
    say(c, "a", 1);
    tick(c, 100000);
    assert_int_equal(customs_sum(c, customs_find(c, "a"), 60).count, 0);
    tick(c, 50); /* a clock that begins anew */
    say(c, "a", 2);
    tick(c, 51);
    assert_int_equal(customs_sum(c, customs_find(c, "a"), 60).count, 1);
    customs_free(c);
}

static void names_are_bounded_and_a_silent_one_gives_its_place_up(void **state)
{
    (void)state;
    struct customs *c = customs_new();
    char name[40];
    tick(c, 1000);
    for (unsigned i = 0; i < CUSTOM_NAMES_MAX; i++) {
        snprintf(name, sizeof name, "n%u", i);
        say(c, name, i);
    }
    say(c, "too.many", 1);
    assert_int_equal(customs_refused(c), 1);
    assert_null(customs_find(c, "too.many"));
    tick(c, 1300);
    for (unsigned i = 1; i < CUSTOM_NAMES_MAX; i++) {
        snprintf(name, sizeof name, "n%u", i);
        say(c, name, i);
    }
    tick(c, 1000 + CUSTOM_SILENT_S);
    say(c, "new", 7);
    assert_null(customs_find(c, "n0"));
    assert_int_equal(customs_find(c, "new")->total, 1);
    assert_int_equal(customs_count(c), CUSTOM_NAMES_MAX);
    customs_free(c);
}

static void a_snapshot_is_the_same_and_a_damaged_one_is_refused(void **state)
{
    (void)state;
    struct customs *a = customs_new(), *b = customs_new();
    struct buf one, two;
    buf_init(&one, MIB);
    buf_init(&two, MIB);
    tick(a, 5);
    say(a, "x", 1.5);
    say(a, "y", -2);
    tick(a, 7);
    customs_save(a, &one);
    struct unpack u = {.rest = buf_span(&one)};
    assert_true(customs_load(b, &u));
    customs_save(b, &two);
    assert_true(span_eq(buf_span(&one), buf_span(&two)));
    for (size_t len = 0; len < one.len; len += 7) {
        u = (struct unpack){.rest = {one.at, len}};
        assert_false(customs_load(b, &u));
        assert_int_equal(customs_count(b), 0);
    }
    buf_fini(&one);
    buf_fini(&two);
    customs_free(a);
    customs_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_has_its_last_value_count_and_sum_per_window),
        cmocka_unit_test(an_event_that_names_its_version_is_one_of_its_name),
        cmocka_unit_test(what_is_older_than_a_minute_is_forgotten),
        cmocka_unit_test(names_are_bounded_and_a_silent_one_gives_its_place_up),
        cmocka_unit_test(a_snapshot_is_the_same_and_a_damaged_one_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

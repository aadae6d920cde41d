/* SPDX-License-Identifier: Apache-2.0 */
#include "base/siphash.h"
#include "event/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t key[2] = {1, 2};

static bool add(struct tally *t, enum tally_kind kind, const char *name, double value)
{
    struct tally_sample s = {.kind = kind, .name = name, .value = value, .weight = 1};
    return tally_add(t, &s);
}

/* The event of <name> in a write; NULL: it has none. */
static const struct ev_custom *said(const struct tally *t, struct buf *out, const char *name)
{
    buf_clear(out);
    tally_write(t, out);
    const struct ev_custom *ev = (const void *)out->at;
    for (size_t i = 0; i < out->len / sizeof *ev; i++)
        if (strcmp(ev[i].name, name) == 0)
            return &ev[i];
    return NULL;
}

/* Names for one place, for who knows the key: what a sender could do if it were the same
 * everywhere. */
static void names_that_collide_under_one_key_do_not_under_another(void **state)
{
    (void)state;
    static const uint64_t other_key[2] = {3, 4};
    struct tally *known = tally_new(key), *other = tally_new(other_key);
    uint32_t found = 0, places = 2 * TALLY_NAMES_MAX;
    for (uint32_t i = 0; found < 200; i++) {
        char name[32];
        snprintf(name, sizeof name, "n%u", i);
        if (siphash(key, span_of(name)) % places != 17)
            continue;
        assert_true(add(known, TALLY_COUNTER, name, 1));
        assert_true(add(other, TALLY_COUNTER, name, 1));
        found++;
    }
    assert_int_equal(tally_longest(known), 200);
    assert_true(tally_longest(other) <= 12);
    tally_free(known);
    tally_free(other);
}

static void whatever_names_come_the_table_keeps_its_size(void **state)
{
    (void)state;
    struct tally *t = tally_new(key);
    for (uint32_t i = 0; i < 20 * TALLY_NAMES_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "n%u", i);
        assert_int_equal(add(t, TALLY_COUNTER, name, 1), i < TALLY_NAMES_MAX);
    }
    assert_int_equal(tally_names(t), TALLY_NAMES_MAX);
    assert_true(add(t, TALLY_COUNTER, "n7", 1)); /* who was there goes on */
    assert_true(tally_longest(t) <= 100);
    tally_free(t);
}

static void many_samples_become_one_event_per_name(void **state)
{
    (void)state;
    struct tally *t = tally_new(key);
    struct buf out;
    buf_init(&out, MIB);
    for (int i = 0; i < 1000; i++) {
        assert_true(add(t, TALLY_COUNTER, "c", 2));
        assert_true(add(t, TALLY_GAUGE, "g", i));
        assert_true(add(t, TALLY_TIMER, "t", i));
    }
    struct tally_sample tenth = {.kind = TALLY_COUNTER, .name = "c", .value = 1, .weight = 10};
    assert_true(tally_add(t, &tenth));
    assert_int_equal(tally_names(t), 3);
    assert_true(said(t, &out, "c")->value == 2010);
    assert_true(said(t, &out, "g")->value == 999);
    assert_true(said(t, &out, "t")->value == 499.5);
    assert_string_equal(said(t, &out, "t")->text,
                        "{\"n\":1000,\"min\":0,\"max\":999,\"sum\":499500}");
    tally_reset(t);
    assert_int_equal(tally_names(t), 0);
    buf_fini(&out);
    tally_free(t);
}

static void a_gauge_goes_on_from_its_value(void **state)
{
    (void)state;
    struct tally *t = tally_new(key);
    struct buf out;
    buf_init(&out, MIB);
    struct tally_sample more = {
        .kind = TALLY_GAUGE, .name = "g", .value = -3, .weight = 1, .is_relative = true};
    assert_true(add(t, TALLY_GAUGE, "g", 10));
    tally_reset(t);
    tally_reset(t); /* silent for an interval */
    assert_null(said(t, &out, "g"));
    assert_true(tally_add(t, &more));
    assert_true(said(t, &out, "g")->value == 7);
    buf_fini(&out);
    tally_free(t);
}

static void members_of_a_set_count_once(void **state)
{
    (void)state;
    struct tally *t = tally_new(key);
    struct buf out;
    char member[16];
    buf_init(&out, MIB);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 500; i++) {
            snprintf(member, sizeof member, "user%d", i);
            struct tally_sample s = {.kind = TALLY_SET, .name = "s", .member = span_of(member)};
            assert_true(tally_add(t, &s));
        }
    double n = said(t, &out, "s")->value;
    assert_true(n > 475 && n < 525);
    buf_fini(&out);
    tally_free(t);
}

static void names_are_bounded_and_have_one_kind(void **state)
{
    (void)state;
    struct tally *t = tally_new(key);
    char name[40];
    for (unsigned i = 0; i < TALLY_NAMES_MAX; i++) {
        snprintf(name, sizeof name, "n%u", i);
        assert_true(add(t, TALLY_COUNTER, name, 1));
    }
    assert_false(add(t, TALLY_COUNTER, "one.more", 1));
    assert_true(add(t, TALLY_COUNTER, "n7", 1));
    assert_false(add(t, TALLY_GAUGE, "n7", 1));
    tally_reset(t);
    assert_true(add(t, TALLY_COUNTER, "one.more", 1));
    tally_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_collide_under_one_key_do_not_under_another),
        cmocka_unit_test(whatever_names_come_the_table_keeps_its_size),
        cmocka_unit_test(many_samples_become_one_event_per_name),
        cmocka_unit_test(a_gauge_goes_on_from_its_value),
        cmocka_unit_test(members_of_a_set_count_once),
        cmocka_unit_test(names_are_bounded_and_have_one_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

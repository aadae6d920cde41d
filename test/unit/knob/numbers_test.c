/* SPDX-License-Identifier: Apache-2.0 */
#include "knob/numbers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define S US_PER_S

static struct memfile new_file(void)
{
    struct memfile m;
    struct fb_err err;
    assert_int_equal(memfile_create(&m, 1, 64, &err), FB_OK);
    numbers_begin(&m, 0, 1 * S);
    return m;
}

/* As the gateway does for an endpoint that comes. */
static uint16_t come(struct memfile *m, const char *name, uint64_t now_us)
{
    uint16_t number = numbers_take(m, name, 0, now_us);
    if (number == EV_NONE)
        return EV_NONE;
    numbers_hold(m, number, 0);
    numbers_stay(m, number);
    return number;
}

static void go(struct memfile *m, uint16_t number, uint64_t now_us)
{
    numbers_leave(m, number, now_us);
    numbers_let_go(m, number, 0);
}

static void name_at(char name[40], unsigned i)
{
    snprintf(name, 40, "shop 10.%u.%u.%u:80", i >> 16, i >> 8 & 255, i & 255);
}

static void ten_thousand_endpoints_come_and_go_and_each_has_a_number_of_its_own(void **state)
{
    (void)state;
    struct memfile m = new_file();
    char name[40], all[50][40];
    uint16_t has[50], highest = 0;
    uint64_t now_us = 10 * S;
    for (unsigned i = 0; i < 10000; i++) {
        unsigned seat = i % 50;
        if (i >= 50)
            go(&m, has[seat], now_us);
        name_at(name, i);
        has[seat] = come(&m, name, now_us);
        assert_int_not_equal(has[seat], EV_NONE);
        memcpy(all[seat], name, sizeof name);
        highest = has[seat] > highest ? has[seat] : highest;
        for (unsigned k = 0; k < 50 && k <= i; k++)
            assert_string_equal(memfile_name(&m, EV_KIND_ENDPOINT, has[k]), all[k]);
        now_us += 1 * S;
        numbers_tick(&m, now_us);
    }
    assert_in_range(highest, 300, 450); /* those that live, and those that rest */
    memfile_close(&m);
}

static void a_burst_of_more_than_all_numbers_waits_for_the_first_to_be_closed(void **state)
{
    (void)state;
    struct memfile m = new_file();
    char name[40];
    uint16_t has[KNOB_TARGETS_MAX];
    for (unsigned i = 0; i < KNOB_TARGETS_MAX; i++) {
        name_at(name, i);
        has[i] = come(&m, name, 10 * S);
        assert_int_equal(has[i], i);
    }
    assert_int_equal(numbers_room(&m, 10 * S), 0);
    assert_int_equal(come(&m, "shop more", 10 * S), EV_NONE);
    go(&m, 7, 11 * S);
    go(&m, 3, 12 * S);
    numbers_tick(&m, 15 * S);
    assert_int_equal(come(&m, "shop more", 15 * S), EV_NONE); /* 7 left 4 s ago */
    numbers_tick(&m, 16 * S);
    assert_int_equal(come(&m, "shop more", 20 * S), EV_NONE); /* closed 4 s ago */
    numbers_tick(&m, 17 * S);
    assert_int_equal(numbers_room(&m, 22 * S), 2);
    assert_int_equal(come(&m, "shop more", 22 * S), 7);
    assert_int_equal(come(&m, "shop and more", 22 * S), 3);
    memfile_close(&m);
}

static void what_is_held_is_neither_closed_nor_given_away(void **state)
{
    (void)state;
    struct memfile m = new_file();
    uint16_t number = come(&m, "shop a", 10 * S);
    numbers_hold(&m, number, 1); /* a connection of a gateway that ends what it has */
    uint32_t generation = numbers_generation(&m, number);
    go(&m, number, 11 * S);
    numbers_tick(&m, 1000 * S);
    assert_int_equal(numbers_generation(&m, number), generation);
    numbers_let_go(&m, number, 1);
    m.gauges[number].in_flight[2] = 1;
    numbers_tick(&m, 1001 * S);
    assert_int_equal(numbers_generation(&m, number), generation);
    m.gauges[number].in_flight[2] = 0;
    numbers_tick(&m, 1002 * S);
    assert_int_equal(numbers_generation(&m, number), generation + 1);
    assert_int_equal(come(&m, "shop b", 1003 * S), number + 1); /* it rests */
    assert_int_equal(come(&m, "shop c", 1302 * S), number);
    memfile_close(&m);
}

static void the_same_endpoint_comes_back_to_its_number_and_to_what_was_learned(void **state)
{
    (void)state;
    struct memfile m = new_file();
    uint16_t number = come(&m, "shop a", 10 * S);
    m.keeps[number].saved_us = 5;
    uint32_t generation = numbers_generation(&m, number);
    go(&m, number, 11 * S);
    assert_int_equal(come(&m, "shop a", 12 * S), number);
    assert_int_equal(numbers_generation(&m, number), generation);
    go(&m, number, 13 * S);
    numbers_tick(&m, 60 * S);
    assert_int_equal(come(&m, "shop a", 70 * S), number);
    assert_int_equal(m.keeps[number].saved_us, 5);
    assert_int_equal(numbers_generation(&m, number), generation + 1);
    numbers_tick(&m, 999 * S); /* it is there: nothing closes */
    assert_int_equal(numbers_generation(&m, number), generation + 1);
    memfile_close(&m);
}

static void the_next_owner_finds_nothing_of_the_last_one(void **state)
{
    (void)state;
    struct memfile m = new_file();
    uint16_t number = come(&m, "shop a", 10 * S);
    m.keeps[number].saved_us = 5;
    m.endpoints[number].version = 3;
    m.endpoints[number].is_drained = 1;
    snprintf(m.endpoints[number].zone, sizeof m.endpoints[0].zone, "b");
    m.gauges[number].limit = 9;
    go(&m, number, 11 * S);
    numbers_tick(&m, 20 * S);
    uint32_t names = m.head->names_version;
    assert_int_equal(come(&m, "shop b", 400 * S), number);
    assert_true(m.head->names_version > names);
    assert_int_equal(m.keeps[number].saved_us, 0);
    assert_int_equal(m.endpoints[number].version, EV_NONE);
    assert_int_equal(m.endpoints[number].is_drained, 0);
    assert_string_equal(m.endpoints[number].zone, "");
    assert_int_equal(m.gauges[number].limit, 0);
    memfile_close(&m);
}

static void an_old_event_is_still_told_with_the_name_of_its_time(void **state)
{
    (void)state;
    struct memfile m = new_file();
    static const char *const names[] = {"shop a", "shop b", "shop c"};
    uint16_t number = EV_NONE;
    for (uint64_t i = 0; i < 3; i++) {
        number = come(&m, names[i], (10 + 400 * i) * S);
        assert_int_equal(number, 0);
        go(&m, number, (11 + 400 * i) * S);
        numbers_tick(&m, (20 + 400 * i) * S);
    }
    assert_string_equal(numbers_name_at(&m, EV_KIND_ENDPOINT, number, 15 * S), "shop a");
    assert_string_equal(numbers_name_at(&m, EV_KIND_ENDPOINT, number, 409 * S), "shop a");
    assert_string_equal(numbers_name_at(&m, EV_KIND_ENDPOINT, number, 410 * S), "shop b");
    assert_string_equal(numbers_name_at(&m, EV_KIND_ENDPOINT, number, 810 * S), "shop c");
    assert_string_equal(numbers_name_at(&m, EV_KIND_ENDPOINT, number, UINT64_MAX), "shop c");
    memfile_close(&m);
}

static void a_gateway_that_died_holds_nothing_and_has_nothing(void **state)
{
    (void)state;
    struct memfile m = new_file();
    uint16_t number = come(&m, "shop a", 10 * S);
    numbers_begin(&m, 0, 20 * S);
    assert_int_equal(m.endpoints[number].has_left, 1);
    numbers_tick(&m, 26 * S);
    assert_int_equal(numbers_generation(&m, number), 1);
    assert_int_equal(come(&m, "shop a", 27 * S), number);
    assert_int_equal(m.endpoints[number].has_left, 0);
    memfile_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_endpoints_come_and_go_and_each_has_a_number_of_its_own),
        cmocka_unit_test(a_burst_of_more_than_all_numbers_waits_for_the_first_to_be_closed),
        cmocka_unit_test(what_is_held_is_neither_closed_nor_given_away),
        cmocka_unit_test(the_same_endpoint_comes_back_to_its_number_and_to_what_was_learned),
        cmocka_unit_test(the_next_owner_finds_nothing_of_the_last_one),
        cmocka_unit_test(an_old_event_is_still_told_with_the_name_of_its_time),
        cmocka_unit_test(a_gateway_that_died_holds_nothing_and_has_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of session tickets over time. */
#include "io/tls_ticket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define HOUR_US (3600 * US_PER_S)

static void a_ticket_opens_for_two_rotations_and_no_longer(void **state)
{
    struct tls_tickets t;
    struct ticket_key made, found;
    bool is_old;
    (void)state;
    assert_true(tickets_init(&t, HOUR_US, 1000));
    tickets_seal_key(&t, &made);
    assert_true(tickets_find(&t, made.name, &found, &is_old));
    assert_false(is_old);
    assert_memory_equal(&made, &found, sizeof made);
    for (uint64_t hour = 1; hour <= 4; hour++) {
        tickets_tick(&t, 1000 + hour * HOUR_US);
        bool is_there = tickets_find(&t, made.name, &found, &is_old);
        assert_int_equal(is_there, hour < TICKET_KEYS);
        if (is_there)
            assert_true(is_old);
    }
    tickets_fini(&t);
}

static void the_key_stays_until_it_is_time(void **state)
{
    struct tls_tickets t;
    struct ticket_key a, b;
    (void)state;
    assert_true(tickets_init(&t, HOUR_US, 1000));
    tickets_seal_key(&t, &a);
    tickets_tick(&t, 1000 + HOUR_US - 1);
    tickets_seal_key(&t, &b);
    assert_memory_equal(&a, &b, sizeof a);
    tickets_tick(&t, 0); /* a clock of another thread may be a little behind */
    tickets_seal_key(&t, &b);
    assert_memory_equal(&a, &b, sizeof a);
    tickets_tick(&t, 1000 + HOUR_US);
    tickets_seal_key(&t, &b);
    assert_memory_not_equal(&a, &b, sizeof a);
    tickets_fini(&t);
}

static void a_long_sleep_wipes_all_old_keys(void **state)
{
    struct tls_tickets t;
    struct ticket_key made, found;
    bool is_old;
    const struct ticket_key none = {0};
    (void)state;
    assert_true(tickets_init(&t, HOUR_US, 1000));
    tickets_seal_key(&t, &made);
    tickets_tick(&t, 1000 + 10 * HOUR_US);
    assert_false(tickets_find(&t, made.name, &found, &is_old));
    assert_int_equal(t.count, 1);
    for (uint32_t i = 1; i < TICKET_KEYS; i++)
        assert_memory_equal(&t.key[i], &none, sizeof none);
    tickets_fini(&t);
}

static void an_invented_name_opens_nothing(void **state)
{
    struct tls_tickets t;
    struct ticket_key found;
    bool is_old;
    unsigned char name[TICKET_NAME_BYTES] = {0};
    (void)state;
    assert_true(tickets_init(&t, HOUR_US, 1000));
    assert_false(tickets_find(&t, name, &found, &is_old));
    tickets_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ticket_opens_for_two_rotations_and_no_longer),
        cmocka_unit_test(the_key_stays_until_it_is_time),
        cmocka_unit_test(a_long_sleep_wipes_all_old_keys),
        cmocka_unit_test(an_invented_name_opens_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "event/ingress.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct span record(struct ev_custom *ev, double value)
{
    *ev = EV_INIT(CUSTOM, custom, 0);
    ev->value = value;
    return (struct span){(const char *)ev, sizeof *ev};
}

struct seen {
    double value[4096];
    uint32_t count;
};

static void see(void *arg, struct ev_head *ev)
{
    struct seen *s = arg;
    s->value[s->count++ % 4096] = ((struct ev_custom *)ev)->value;
}

static void what_goes_in_comes_out_in_order(void **state)
{
    (void)state;
    struct ingress *q = ingress_new(0);
    struct seen seen = {.count = 0};
    struct ev_custom ev;
    uint64_t ticket = 0;
    for (int round = 0; round < 20; round++) { /* 20 x 1000 x 320 bytes: the ring wraps */
        for (int i = 0; i < 1000; i++)
            assert_int_equal(ingress_put(q, record(&ev, round * 1000 + i), &ticket), FB_OK);
        seen.count = 0;
        while (ingress_take(q, 64 * KIB, see, &seen))
            ;
        assert_int_equal(seen.count, 1000);
        for (int i = 0; i < 1000; i++)
            assert_true(seen.value[i] == round * 1000 + i);
    }
    assert_int_equal(ticket, 20000);
    ingress_free(q);
}

static void a_full_queue_says_so_and_loses_nothing(void **state)
{
    (void)state;
    struct ingress *q = ingress_new(0);
    struct seen seen = {.count = 0};
    struct ev_custom ev;
    uint32_t taken_in = 0;
    while (ingress_put(q, record(&ev, taken_in), NULL) == FB_OK)
        taken_in++;
    assert_true(taken_in > 1000);
    struct ingress_stats stats;
    ingress_stats_read(q, &stats);
    assert_int_equal(stats.refused, 1);
    while (ingress_take(q, MIB, see, &seen))
        ;
    assert_int_equal(seen.count, taken_in);
    assert_int_equal(ingress_put(q, record(&ev, 1), NULL), FB_OK);
    ingress_free(q);
}

static void a_ticket_is_durable_when_the_log_has_its_events(void **state)
{
    (void)state;
    struct ingress *q = ingress_new(0);
    struct seen seen = {.count = 0};
    struct ev_custom ev;
    uint64_t first, second;
    assert_int_equal(ingress_put(q, record(&ev, 1), &first), FB_OK);
    assert_int_equal(ingress_take(q, MIB, see, &seen), 1);
    ingress_taken(q, 101);
    assert_int_equal(ingress_put(q, record(&ev, 2), &second), FB_OK);
    assert_int_equal(ingress_take(q, MIB, see, &seen), 1);
    ingress_taken(q, 205);
    ingress_settle(q, 100);
    assert_false(ingress_durable(q, first));
    ingress_settle(q, 101);
    assert_true(ingress_durable(q, first));
    assert_false(ingress_durable(q, second));
    for (uint64_t i = 0; i < 1000; i++) /* more marks than there is room for: only later */
        ingress_taken(q, 206 + i);
    ingress_settle(q, 5000);
    assert_true(ingress_durable(q, second));
    ingress_free(q);
}

static void what_is_no_record_is_refused(void **state)
{
    (void)state;
    struct ingress *q = ingress_new(0);
    struct ev_custom ev;
    struct span s = record(&ev, 1);
    assert_int_equal(ingress_put(q, (struct span){s.at, s.len - 64}, NULL), FB_E_RANGE);
    assert_int_equal(ingress_put(q, (struct span){s.at, 0}, NULL), FB_E_RANGE);
    ev.head.cells = 3;
    assert_int_equal(ingress_put(q, s, NULL), FB_E_RANGE);
    ingress_free(q);
}

#define WRITERS 4
#define EACH 20000
static struct ingress *shared;

static void *write_many(void *arg)
{
    double first = *(double *)arg;
    struct ev_custom ev;
    for (int i = 0; i < EACH;)
        if (ingress_put(shared, record(&ev, first + i), NULL) == FB_OK)
            i++;
    return NULL;
}

struct per_writer {
    double next[WRITERS];
    uint32_t count;
};

static void see_order(void *arg, struct ev_head *ev)
{
    struct per_writer *p = arg;
    double value = ((struct ev_custom *)ev)->value;
    int writer = (int)(value / 1e6);
    assert_true(value == p->next[writer]);
    p->next[writer] = value + 1;
    p->count++;
}

static void many_writers_keep_each_their_order(void **state)
{
    (void)state;
    double first[WRITERS];
    struct per_writer seen = {.count = 0};
    pthread_t thread[WRITERS];
    shared = ingress_new(0);
    for (int i = 0; i < WRITERS; i++) {
        first[i] = seen.next[i] = i * 1e6;
        assert_int_equal(pthread_create(&thread[i], NULL, write_many, &first[i]), 0);
    }
    while (seen.count < WRITERS * EACH)
        ingress_take(shared, 32 * KIB, see_order, &seen);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(thread[i], NULL);
    ingress_free(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out_in_order),
        cmocka_unit_test(a_full_queue_says_so_and_loses_nothing),
        cmocka_unit_test(a_ticket_is_durable_when_the_log_has_its_events),
        cmocka_unit_test(what_is_no_record_is_refused),
        cmocka_unit_test(many_writers_keep_each_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

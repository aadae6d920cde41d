/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/holds.h"

#include "base/mix.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define KEY UINT64_C(0x1234567890abcdef)

static void one_client_has_no_more_than_its_cap_and_others_are_not_touched(void **state)
{
    (void)state;
    struct holds *h = holds_new(1000);
    uint32_t at[4] = {0}, other = 0;
    assert_non_null(h);
    for (int i = 0; i < 3; i++)
        assert_int_equal(holds_take(h, KEY, 3, &at[i]), HOLDS_TAKEN);
    assert_int_equal(holds_take(h, KEY, 3, &at[3]), HOLDS_REFUSED);
    assert_int_equal(at[3], 0);
    assert_int_equal(holds_take(h, KEY ^ UINT64_C(1) << 40, 3, &other), HOLDS_TAKEN);
    holds_give(h, at[1]);
    assert_int_equal(holds_take(h, KEY, 3, &at[1]), HOLDS_TAKEN);
    assert_int_equal(holds_sum(h), 4);
    for (int i = 0; i < 3; i++)
        holds_give(h, at[i]);
    holds_give(h, other);
    assert_int_equal(holds_sum(h), 0);
    holds_free(h);
}

static void a_full_table_lets_others_pass_uncounted_and_forgets_nobody(void **state)
{
    (void)state;
    struct holds *h = holds_new(7);
    uint32_t at[8] = {0};
    for (uint64_t i = 0; i < 7; i++)
        assert_int_equal(holds_take(h, (i + 1) << 30, 1, &at[i]), HOLDS_TAKEN);
    assert_int_equal(holds_take(h, UINT64_C(99) << 30, 1, &at[7]), HOLDS_UNCOUNTED);
    assert_int_equal(at[7], 0);
    for (uint64_t i = 0; i < 7; i++)
        assert_int_equal(holds_take(h, (i + 1) << 30, 1, &at[7]), HOLDS_REFUSED);
    holds_give(h, at[2]);
    assert_int_equal(holds_take(h, UINT64_C(99) << 30, 1, &at[7]), HOLDS_TAKEN);
    holds_free(h);
}

static void a_cap_that_shrank_holds_as_soon_as_enough_has_ended(void **state)
{
    (void)state;
    struct holds *h = holds_new(100);
    uint32_t at[5] = {0}, more = 0;
    for (int i = 0; i < 5; i++)
        (void)holds_take(h, KEY, HOLDS_COUNT_MAX, &at[i]);
    assert_int_equal(holds_take(h, KEY, 2, &more), HOLDS_REFUSED);
    for (int i = 0; i < 4; i++)
        holds_give(h, at[i]);
    assert_int_equal(holds_take(h, KEY, 2, &more), HOLDS_TAKEN);
    holds_free(h);
}

struct thread {
    struct holds *h;
    uint64_t seed;
    _Atomic int32_t *most;
};

static _Atomic int32_t in_hand;

static void *work(void *arg)
{
    struct thread *t = arg;
    for (uint64_t i = 0; i < 20000; i++) {
        uint32_t own = 0, shared = 0;
        if (holds_take(t->h, mix_u64(t->seed + i), 1, &own) == HOLDS_TAKEN)
            holds_give(t->h, own);
        if (holds_take(t->h, KEY, 2, &shared) != HOLDS_TAKEN)
            continue;
        int32_t now = ++in_hand;
        if (now > *t->most)
            *t->most = now;
        in_hand--;
        holds_give(t->h, shared);
    }
    return NULL;
}

static void a_cap_is_exact_over_threads_and_all_comes_back(void **state)
{
    (void)state;
    _Atomic int32_t most = 0;
    struct holds *h = holds_new(512);
    struct thread t[4];
    pthread_t id[4];
    for (uint64_t i = 0; i < 4; i++) {
        t[i] = (struct thread){h, i << 50, &most};
        assert_int_equal(pthread_create(&id[i], NULL, work, &t[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(id[i], NULL);
    assert_in_range(most, 1, 2);
    assert_int_equal(holds_sum(h), 0);
    holds_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_client_has_no_more_than_its_cap_and_others_are_not_touched),
        cmocka_unit_test(a_full_table_lets_others_pass_uncounted_and_forgets_nobody),
        cmocka_unit_test(a_cap_that_shrank_holds_as_soon_as_enough_has_ended),
        cmocka_unit_test(a_cap_is_exact_over_threads_and_all_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

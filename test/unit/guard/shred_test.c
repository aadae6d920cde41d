/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "guard/shred.h"

static void every_leaf_has_a_key_of_its_own_and_always_the_same(void **state)
{
    (void)state;
    struct shred s;
    unsigned char key[4][32], again[32];
    const uint64_t leaf[4] = {0, 1, 1000000007, (UINT64_C(1) << SHRED_DEPTH) - 1};
    assert_true(shred_init(&s));
    for (int i = 0; i < 4; i++)
        assert_true(shred_key(&s, leaf[i], key[i]));
    for (int i = 3; i >= 0; i--) {
        assert_true(shred_key(&s, leaf[i], again));
        assert_memory_equal(again, key[i], 32);
        for (int k = 0; k < i; k++)
            assert_memory_not_equal(key[i], key[k], 32);
    }
    shred_fini(&s);
}

/* Neighbours, ends and scattered ones; every other key stays what it was. */
static void a_destroyed_key_is_gone_and_no_other_changes(void **state)
{
    (void)state;
    struct shred s, copy;
    unsigned char before[600][32], now[32];
    bool is_gone[600] = {false};
    assert_true(shred_init(&s));
    for (uint64_t i = 0; i < 600; i++)
        assert_true(shred_key(&s, 5000 + i, before[i]));
    srand(7);
    for (int n = 0; n < 120; n++) {
        uint64_t i = n == 0 ? 0 : n == 1 ? 599 : (uint64_t)rand() % 600;
        assert_true(shred_destroy(&s, 5000 + i));
        is_gone[i] = true;
        for (uint64_t k = 0; k < 600; k++) {
            assert_int_equal(shred_key(&s, 5000 + k, now), !is_gone[k]);
            if (!is_gone[k])
                assert_memory_equal(now, before[k], 32);
        }
    }
    struct buf saved;
    buf_init(&saved, MIB * 16);
    shred_save(&s, &saved);
    assert_true(shred_load(&copy, buf_span(&saved)));
    for (uint64_t k = 0; k < 600; k++) {
        assert_int_equal(shred_key(&copy, 5000 + k, now), !is_gone[k]);
        if (!is_gone[k])
            assert_memory_equal(now, before[k], 32);
    }
    for (size_t i = 0; i + 32 <= saved.len; i++)
        for (uint64_t k = 0; k < 600; k += 37)
            if (is_gone[k])
                assert_memory_not_equal(saved.at + i, before[k], 32);
    buf_fini(&saved);
    shred_fini(&s);
    shred_fini(&copy);
}

static void a_run_of_neighbours_costs_few_seeds(void **state)
{
    (void)state;
    struct shred s;
    assert_true(shred_init(&s));
    for (uint64_t i = 0; i < 4096; i++)
        assert_true(shred_destroy(&s, 8192 + i));
    assert_int_equal(s.count, SHRED_DEPTH - 12); /* one subtree of 2^12 leaves is missing */
    shred_fini(&s);
}

static void seeds_that_overlap_or_lie_outside_are_refused(void **state)
{
    (void)state;
    struct shred s, copy;
    struct buf saved;
    buf_init(&saved, MIB);
    assert_true(shred_init(&s));
    assert_true(shred_destroy(&s, 77));
    shred_save(&s, &saved);
    assert_false(shred_load(&copy, (struct span){saved.at, saved.len - 1}));
    saved.at[0] = 41; /* deeper than the tree */
    assert_false(shred_load(&copy, buf_span(&saved)));
    saved.at[0] = 0; /* the whole tree, and then parts of it */
    assert_false(shred_load(&copy, buf_span(&saved)));
    assert_true(shred_load(&copy, (struct span){0}));
    unsigned char key[32];
    assert_false(shred_key(&copy, 1, key)); /* an empty tree has no keys */
    shred_fini(&copy);
    shred_fini(&s);
    buf_fini(&saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_leaf_has_a_key_of_its_own_and_always_the_same),
        cmocka_unit_test(a_destroyed_key_is_gone_and_no_other_changes),
        cmocka_unit_test(a_run_of_neighbours_costs_few_seeds),
        cmocka_unit_test(seeds_that_overlap_or_lie_outside_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

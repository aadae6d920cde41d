/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reflex/evict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEYS 20000

struct world {
    struct evict e;
    struct evict_ghost ghosts[4096];
    struct evict_node node[KEYS];
    bool is_in[KEYS];
};

static struct world *world_new(uint64_t budget_bytes)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    evict_init(&w->e, budget_bytes, w->ghosts, 4096);
    return w;
}

static uint64_t hash_of(uint32_t key)
{
    uint64_t x = (key + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 29;
    return x * UINT64_C(0xbf58476d1ce4e5b9);
}

/* A request for <key>; true: it was there. */
static bool ask(struct world *w, uint32_t key, uint64_t bytes)
{
    struct evict_node *victim;
    if (w->is_in[key]) {
        evict_hit(&w->node[key]);
        return true;
    }
    w->node[key] = (struct evict_node){.hash = hash_of(key), .bytes = bytes};
    w->is_in[key] = true;
    evict_insert(&w->e, &w->node[key]);
    while ((victim = evict_victim(&w->e)) != NULL)
        w->is_in[victim - w->node] = false;
    return false;
}

static void what_is_used_never_exceeds_the_budget(void **state)
{
    (void)state;
    struct world *w = world_new(10000);
    uint64_t x = 7;
    for (int i = 0; i < 200000; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
        ask(w, (uint32_t)(x >> 40) % 2000, 1 + (x >> 33) % 900);
        uint64_t bytes = 0;
        if (i % 1000 == 0)
            for (uint32_t k = 0; k < KEYS; k++)
                bytes += w->is_in[k] ? w->node[k].bytes : 0;
        if (i % 1000 == 0)
            assert_int_equal(bytes, evict_used(&w->e));
        assert_true(evict_used(&w->e) <= 10000);
    }
    free(w);
}

static void a_scan_does_not_push_out_what_is_used(void **state)
{
    (void)state;
    struct world *w = world_new(1000 * 100);
    for (int round = 0; round < 5; round++)
        for (uint32_t key = 0; key < 500; key++)
            ask(w, key, 100);
    for (uint32_t key = 1000; key < 11000; key++)
        ask(w, key, 100);
    uint32_t left = 0;
    for (uint32_t key = 0; key < 500; key++)
        left += w->is_in[key];
    assert_true(left >= 490);
    free(w);
}

static void what_comes_again_soon_after_it_left_goes_to_main(void **state)
{
    (void)state;
    struct world *w = world_new(100 * 100);
    ask(w, 0, 100);
    for (uint32_t key = 1; w->is_in[0]; key++)
        ask(w, key, 100);
    ask(w, 0, 100);
    assert_int_equal(w->node[0].queue, EVICT_MAIN);
    free(w);
}

static void what_comes_again_long_after_it_left_does_not(void **state)
{
    (void)state;
    struct world *w = world_new(100 * 100);
    for (uint32_t key = 0; key < 10000; key++)
        ask(w, key, 100);
    ask(w, 0, 100);
    assert_int_equal(w->node[0].queue, EVICT_SMALL);
    free(w);
}

static void a_smaller_budget_takes_effect_at_the_next_look(void **state)
{
    (void)state;
    struct world *w = world_new(10000);
    for (uint32_t key = 0; key < 100; key++)
        ask(w, key, 100);
    w->e.budget_bytes = 3000;
    while (evict_victim(&w->e))
        ;
    assert_true(evict_used(&w->e) <= 3000);
    assert_true(evict_used(&w->e) > 2800);
    w->e.budget_bytes = 0;
    while (evict_victim(&w->e))
        ;
    assert_int_equal(evict_used(&w->e), 0);
    free(w);
}

static void a_removed_node_is_in_no_queue(void **state)
{
    (void)state;
    struct world *w = world_new(10000);
    for (uint32_t key = 0; key < 3; key++)
        ask(w, key, 100);
    evict_remove(&w->e, &w->node[1]);
    evict_remove(&w->e, &w->node[1]);
    assert_int_equal(evict_used(&w->e), 200);
    assert_int_equal(w->node[1].queue, EVICT_NONE);
    assert_ptr_equal(w->node[2].older, &w->node[0]);
    free(w);
}

/* Hit ratio on a Zipf-like stream against plain LRU at the same size: S3-FIFO must not be worse. */
static void on_a_skewed_stream_with_one_hit_wonders_it_beats_lru(void **state)
{
    (void)state;
    enum { ROOM = 500, ASKED = 300000 };
    struct world *w = world_new(ROOM);
    static uint32_t lru[ROOM];
    uint32_t lru_count = 0, lru_hits = 0, hits = 0, once = 10000;
    uint64_t x = 3;
    for (int i = 0; i < ASKED; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
        double u = (double)(x >> 11) / 9007199254740992.0;
        uint32_t key = (uint32_t)(pow(u, 4) * 8000);
        if ((x >> 3) % 10 < 3)
            key = once = once + 1 < KEYS ? once + 1 : 10000; /* almost never asked for again */
        hits += ask(w, key, 1);
        uint32_t at = 0;
        while (at < lru_count && lru[at] != key)
            at++;
        lru_hits += at < lru_count;
        if (at == lru_count && lru_count < ROOM)
            lru_count++;
        memmove(lru + 1, lru, (at < ROOM ? at : ROOM - 1) * sizeof *lru);
        lru[0] = key;
    }
    print_message("S3-FIFO %.3f, LRU %.3f\n", hits / (double)ASKED, lru_hits / (double)ASKED);
    assert_true(hits > lru_hits * 102 / 100);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_used_never_exceeds_the_budget),
        cmocka_unit_test(a_scan_does_not_push_out_what_is_used),
        cmocka_unit_test(what_comes_again_soon_after_it_left_goes_to_main),
        cmocka_unit_test(what_comes_again_long_after_it_left_does_not),
        cmocka_unit_test(a_smaller_budget_takes_effect_at_the_next_look),
        cmocka_unit_test(a_removed_node_is_in_no_queue),
        cmocka_unit_test(on_a_skewed_stream_with_one_hit_wonders_it_beats_lru),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

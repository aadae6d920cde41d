/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "analytics/curve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t hash_of(uint64_t key)
{
    uint64_t x = (key + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* As the gateway does: only keys of its sample, with the count of all since the last one. */
static void ask(struct curves *c, uint64_t key, uint32_t bytes, uint8_t shift)
{
    static uint32_t references;
    uint64_t hash = hash_of(key);
    references++;
    if ((uint32_t)hash >= (UINT64_C(1) << 32) >> shift)
        return;
    struct ev_cache_sample s = EV_INIT(CACHE_SAMPLE, cache_sample, 1);
    s.key = hash;
    s.bytes = bytes;
    s.origin_us = 1000;
    s.references = references;
    s.shift = shift;
    references = 0;
    curves_feed(c, &s);
}

static void a_loop_over_keys_is_a_step_at_their_bytes(void **state)
{
    (void)state;
    for (uint8_t shift = 0; shift <= 6; shift += 3) {
        struct curves *c = curves_new();
        for (int round = 0; round < 20; round++)
            for (uint64_t key = 0; key < 5000; key++)
                ask(c, key, 10000, shift);
        struct curve_view v;
        assert_true(curve_view(c, 0, &v));
        assert_true(fabs(v.requests - 100000) < 100);
        assert_true(fabs(v.origin_us - 1000) < 1);
        assert_true(curve_hits(c, 0, 5000 * 10000 * 0.8) < 0.1 * v.requests);
        assert_true(curve_hits(c, 0, 5000 * 10000 * 1.25) > 0.9 * v.requests);
        curves_free(c);
    }
}

/* Against a real LRU of the same size, which the curve is about. */
static void on_a_skewed_stream_it_agrees_with_lru(void **state)
{
    (void)state;
    enum { KEYS = 20000, ASKED = 200000, ROOM = 2000, BYTES = 4096 };
    static uint32_t stamp[KEYS], order[ASKED];
    struct curves *c = curves_new();
    uint64_t x = 3, hits = 0, live = 0, oldest = 0;
    memset(stamp, 0, sizeof stamp);
    for (uint32_t i = 0; i < ASKED; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint32_t key = (uint32_t)(pow((double)(x >> 11) / 9007199254740992.0, 3) * KEYS);
        ask(c, key, BYTES, 2);
        hits += stamp[key] != 0;
        live += stamp[key] == 0;
        stamp[key] = i + 1;
        order[i] = key;
        while (live > ROOM) { /* the least recently used: stamps in order */
            uint32_t old = order[oldest++];
            if (stamp[old] == oldest) {
                stamp[old] = 0;
                live--;
            }
        }
    }
    struct curve_view v;
    assert_true(curve_view(c, 0, &v));
    double said = curve_hits(c, 0, (double)ROOM * BYTES) / v.requests, was = (double)hits / ASKED;
    print_message("LRU %.3f, curve %.3f\n", was, said);
    assert_true(fabs(said - was) < 0.03);
    curves_free(c);
}

enum { SKEW_KEYS = 50000, SKEW_ASKED = 400000, SKEW_BYTES = 16384, SKEW_SIZES = 6 };
static const uint32_t skew_size[SKEW_SIZES] = {16, 64, 256, 1024, 4096, 16384};

/* One stream for a sample of one key in 64: how often LRUs of some sizes answered, exactly. */
struct skew {
    double cdf[SKEW_KEYS];
    uint32_t last[SKEW_KEYS], asked[SKEW_KEYS], tree[SKEW_ASKED + 1];
    uint64_t hits[SKEW_SIZES], x;
};

static void skew_mark(struct skew *k, uint32_t at, int32_t by)
{
    for (uint32_t i = at; i <= SKEW_ASKED; i += i & (~i + 1))
        k->tree[i] += (uint32_t)by;
}

static uint32_t skew_before(const struct skew *k, uint32_t at)
{
    uint32_t sum = 0;
    for (uint32_t i = at; i > 0; i -= i & (~i + 1))
        sum += k->tree[i];
    return sum;
}

static uint32_t skew_key(struct skew *k)
{
    k->x = k->x * UINT64_C(6364136223846793005) + 1442695040888963407u;
    double u = (double)(k->x >> 11) / 9007199254740992.0;
    uint32_t low = 0, high = SKEW_KEYS - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (k->cdf[middle] < u)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Mean distance of the curve from the truth over the sizes; <tells_hot>: as the gateway does. */
static double skew_error(uint64_t salt, bool tells_hot)
{
    static struct skew k;
    struct curves *c = curves_new();
    double sum = 0, error = 0;
    memset(&k, 0, sizeof k);
    k.x = 5 + salt;
    for (uint32_t i = 0; i < SKEW_KEYS; i++)
        k.cdf[i] = sum += 1.0 / (i + 1);
    for (uint32_t i = 0; i < SKEW_KEYS; i++)
        k.cdf[i] /= sum;
    for (uint32_t i = 1; i <= SKEW_ASKED; i++) {
        uint32_t key = skew_key(&k);
        if (k.last[key]) {
            uint32_t distance = skew_before(&k, i) - skew_before(&k, k.last[key]) + 1;
            for (uint32_t s = 0; s < SKEW_SIZES; s++)
                k.hits[s] += i > SKEW_ASKED / 2 && distance <= skew_size[s];
            skew_mark(&k, k.last[key], -1);
        }
        skew_mark(&k, i, 1);
        k.last[key] = i;
        if (tells_hot && ++k.asked[key] % 128 == 0) {
            struct ev_cache_sample s = EV_INIT(CACHE_SAMPLE, cache_sample, 1);
            s.key = hash_of(key + salt);
            s.bytes = SKEW_BYTES;
            s.shift = 6;
            s.hot_references = 128;
            curves_feed(c, &s);
        }
        ask(c, key + salt, SKEW_BYTES, 6);
        if (i % 20000 == 0)
            curves_fade(c, 0.84); /* as the loop does each 30 s: hot ones are chosen */
    }
    struct curve_view v;
    assert_true(curve_view(c, 0, &v));
    for (uint32_t s = 0; s < SKEW_SIZES; s++) {
        double said = curve_hits(c, 0, (double)skew_size[s] * SKEW_BYTES) / v.requests;
        error += fabs(said - 2.0 * (double)k.hits[s] / SKEW_ASKED) / SKEW_SIZES;
    }
    curves_free(c);
    return error;
}

static void the_hottest_keys_apart_make_it_exact_on_a_heavy_head(void **state)
{
    (void)state;
    double plain = 0, apart = 0;
    for (uint64_t i = 0; i < 5; i++) {
        plain += skew_error(i * 1000000, false) / 5;
        apart += skew_error(i * 1000000, true) / 5;
    }
    print_message("mean error without %.4f, with the hottest apart %.4f\n", plain, apart);
    assert_true(apart < 0.03);
    assert_true(apart < 0.7 * plain);
}

static void too_many_keys_thin_the_sample_and_not_the_curve(void **state)
{
    (void)state;
    struct curves *c = curves_new();
    for (int round = 0; round < 4; round++)
        for (uint64_t key = 0; key < 100000; key++)
            ask(c, key, 1000, 0);
    struct curve_view v;
    assert_true(curve_view(c, 0, &v));
    assert_true(v.keys <= CURVE_KEYS);
    assert_true(v.keys > CURVE_KEYS / 4);
    assert_true(curve_hits(c, 0, 0.7e8) < 0.15 * v.requests);
    assert_true(curve_hits(c, 0, 1.5e8) > 0.6 * v.requests);
    curves_free(c);
}

static void what_is_saved_goes_on_as_if_nothing_had_been(void **state)
{
    (void)state;
    struct curves *a = curves_new(), *b = curves_new();
    struct buf saved, again;
    for (uint64_t i = 0; i < 50000; i++)
        ask(a, hash_of(i) % 3000, 500, 0);
    buf_init(&saved, 64 * MIB);
    buf_init(&again, 64 * MIB);
    curves_save(a, &saved);
    struct unpack u = {.rest = buf_span(&saved)};
    assert_true(curves_load(b, &u));
    for (uint64_t i = 0; i < 50000; i++) {
        struct ev_cache_sample s = EV_INIT(CACHE_SAMPLE, cache_sample, 1);
        s.key = hash_of(hash_of(i + 7) % 3500);
        s.bytes = 500;
        s.references = 1;
        curves_feed(a, &s);
        curves_feed(b, &s);
    }
    buf_fini(&saved);
    buf_init(&saved, 64 * MIB);
    curves_save(a, &saved);
    curves_save(b, &again);
    assert_true(span_eq(buf_span(&saved), buf_span(&again)));
    u = (struct unpack){.rest = {saved.at, saved.len / 2}};
    assert_false(curves_load(b, &u));
    struct curve_view v;
    assert_false(curve_view(b, 0, &v));
    buf_fini(&saved);
    buf_fini(&again);
    curves_free(a);
    curves_free(b);
}

static void a_route_without_room_has_no_curve(void **state)
{
    (void)state;
    struct curves *c = curves_new();
    struct curve_view v;
    for (uint16_t route = 0; route <= CURVES_MAX; route++) {
        struct ev_cache_sample s = EV_INIT(CACHE_SAMPLE, cache_sample, 1);
        s.route = route;
        s.bytes = 1;
        curves_feed(c, &s);
    }
    assert_true(curve_view(c, CURVES_MAX - 1, &v));
    assert_false(curve_view(c, CURVES_MAX, &v));
    curves_forget(c, 3);
    assert_false(curve_view(c, 3, &v));
    curves_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_over_keys_is_a_step_at_their_bytes),
        cmocka_unit_test(on_a_skewed_stream_it_agrees_with_lru),
        cmocka_unit_test(the_hottest_keys_apart_make_it_exact_on_a_heavy_head),
        cmocka_unit_test(too_many_keys_thin_the_sample_and_not_the_curve),
        cmocka_unit_test(what_is_saved_goes_on_as_if_nothing_had_been),
        cmocka_unit_test(a_route_without_room_has_no_curve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

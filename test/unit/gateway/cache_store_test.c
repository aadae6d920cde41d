/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/cache_rules.h"
#include "gateway/cache_store_int.h"

#include <stdio.h>

#define ROUTE 3
#define SEED UINT64_C(0x1234567)
#define KEYS 100

static struct cache_store *store_new(uint64_t seed)
{
    struct cache_store *s = cache_store_new(seed);
    assert_non_null(s);
    cache_store_limit(s, 64 * MIB);
    cache_store_budget(s, ROUTE, 16 * MIB);
    return s;
}

static struct cache_key key_of(const struct cache_store *s, const char *text)
{
    struct cache_key key = {.route = ROUTE, .text = span_of(text)};
    key.hash = cache_hash(s, key.route, key.text);
    return key;
}

/* Published; the reference is the caller's. */
static struct cache_entry *put(struct cache_store *s, const char *text, struct cache_body *body)
{
    struct cache_making m = {.key = key_of(s, text), .head = SPAN("A: b\r\n")};
    struct cache_entry *e = cache_entry_new(s, &m);
    assert_non_null(e);
    e->body = body;
    cache_publish(s, e);
    return e;
}

static struct cache_body *body_of(struct cache_store *s, size_t bytes)
{
    static const char zeros[4096];
    struct cache_body *b = cache_body_new(s);
    assert_non_null(b);
    for (size_t n; bytes; bytes -= n) {
        n = fb_min_u64(bytes, sizeof zeros);
        assert_true(cache_body_add(s, b, ROUTE, (struct span){zeros, n}, 0));
    }
    return b;
}

static uint32_t longest_chain(const struct cache_store *s)
{
    uint32_t longest = 0;
    for (uint32_t i = 0; i < CACHE_SHARDS; i++)
        for (uint64_t k = 0; s->shards[i].buckets && k <= s->shards[i].mask; k++) {
            uint32_t n = 0;
            for (const struct cache_entry *e = s->shards[i].buckets[k]; e; e = e->next)
                n++;
            longest = fb_max_u32(longest, n);
        }
    return longest;
}

/* Keys of one bucket for who knows the seed: what a client could send if it were fixed. */
static void keys_that_collide_under_one_seed_do_not_under_another(void **state)
{
    (void)state;
    struct cache_store *known = store_new(SEED), *other = store_new(SEED + 1);
    uint64_t want = cache_hash(known, ROUTE, SPAN("first"));
    uint32_t found = 0;
    for (uint32_t i = 0; found < KEYS; i++) {
        char text[32];
        snprintf(text, sizeof text, "test/%u", i);
        uint64_t hash = cache_hash(known, ROUTE, span_of(text));
        if (hash >> 58 != want >> 58 || ((hash ^ want) & 127))
            continue;
        found++;
        cache_entry_unref(known, put(known, text, NULL));
        cache_entry_unref(other, put(other, text, NULL));
    }
    assert_int_equal(longest_chain(known), KEYS);
    assert_true(longest_chain(other) <= 6);
    cache_store_free(known);
    cache_store_free(other);
}

static void a_coded_form_counts_in_the_budget_and_goes_with_its_entry(void **state)
{
    (void)state;
    struct cache_store *s = store_new(SEED);
    struct cache_stats plain, coded;
    uint64_t empty_bytes = cache_used(s);
    struct cache_entry *e = put(s, "test/x", body_of(s, 100000));
    cache_stats(s, ROUTE, &plain);
    for (uint32_t i = 0; i < CACHE_CODINGS; i++)
        assert_true(cache_add_coded(s, e, i, body_of(s, 20000)));
    cache_stats(s, ROUTE, &coded);
    assert_true(coded.used_bytes >= plain.used_bytes + 3 * 20000);
    assert_int_equal(coded.used_bytes, cache_cost(e));
    struct cache_purge p = {.kind = CACHE_PURGE_URL, .text = SPAN("test/x")};
    uint64_t hit = 0;
    for (uint32_t i = 0; i < CACHE_SHARDS; i++)
        hit += cache_purge_part(s, &p, i);
    assert_int_equal(hit, 1);
    cache_stats(s, ROUTE, &coded);
    assert_int_equal(coded.used_bytes, 0);
    struct cache_body *late = body_of(s, 20000);
    assert_false(cache_add_coded(s, e, 0, late));
    cache_body_unref(s, late);
    cache_entry_unref(s, e);
    assert_true(cache_used(s) <= empty_bytes + 4 * KIB); /* the buckets of one shard stay */
    cache_store_free(s);
}

static void a_coded_form_that_comes_after_a_304_counts_for_the_successor(void **state)
{
    (void)state;
    struct cache_store *s = store_new(SEED);
    struct cache_stats now;
    struct cache_body *body = body_of(s, 100000);
    struct cache_entry *old = put(s, "test/x", body);
    atomic_fetch_add(&body->refs, 1);
    assert_true(cache_add_coded(s, old, 0, body_of(s, 20000)));
    struct cache_entry *fresh = put(s, "test/x", body);
    assert_true(cache_add_coded(s, old, 1, body_of(s, 20000)));
    cache_stats(s, ROUTE, &now);
    assert_int_equal(now.used_bytes, cache_cost(fresh));
    assert_true(now.used_bytes >= 140000);
    cache_entry_unref(s, old);
    cache_entry_unref(s, fresh);
    cache_store_free(s);
}

static void a_form_for_which_there_is_no_room_is_refused(void **state)
{
    (void)state;
    struct cache_store *s = store_new(SEED);
    cache_store_budget(s, ROUTE, 300000);
    struct cache_entry *e = put(s, "test/x", body_of(s, 100000));
    struct cache_body *coded = body_of(s, 90000);
    assert_false(cache_add_coded(s, e, 0, coded));
    cache_body_unref(s, coded);
    cache_entry_unref(s, e);
    cache_store_free(s);
}

static void what_is_kept_ages_by_the_clock_of_the_loop_alone(void **state)
{
    (void)state;
    const struct cache_entry e = {.stored_us = 100 * US_PER_S, .age_s = 5};
    assert_int_equal(cache_age_s(&e, 100 * US_PER_S), 5);
    assert_int_equal(cache_age_s(&e, 160 * US_PER_S), 65);
}

/* The wall clock is read once, when an answer comes, to compare it with Date and Expires. */
static void a_jump_of_the_wall_clock_never_makes_an_answer_live_longer_than_it_says(void **state)
{
    (void)state;
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
                               "Date: Sat, 21 Nov 2026 12:00:00 GMT\r\n"
                               "Cache-Control: max-age=60\r\n\r\n";
    static const struct http1_limits limits = {512, 4096, 32};
    const int64_t date_s = 1795262400;
    const int64_t jumps_s[] = {-400 * 86400, -3600, 0, 3600, 400 * 86400};
    for (size_t i = 0; i < FB_COUNT(jumps_s); i++) {
        struct http1_field fields[32];
        struct http1_parser p;
        struct conf_cache conf = {.is_heuristic = true};
        struct cache_asked asked = {.directives = {.max_age = CACHE_NO_SECONDS}};
        struct cache_moment at = {.wall_s = date_s + jumps_s[i]};
        struct cache_judgement j;
        http1_response_begin(&p, &limits, fields, HTTP1_GET);
        assert_int_equal(http1_parse(&p, SPAN(text)), HTTP1_DONE);
        cache_judge(&conf, &asked, &p.head, &at, &j);
        assert_int_equal(j.lifetime_s, 60);
        assert_int_equal(j.age_s, jumps_s[i] > 0 ? jumps_s[i] : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_that_collide_under_one_seed_do_not_under_another),
        cmocka_unit_test(a_coded_form_counts_in_the_budget_and_goes_with_its_entry),
        cmocka_unit_test(a_coded_form_that_comes_after_a_304_counts_for_the_successor),
        cmocka_unit_test(a_form_for_which_there_is_no_room_is_refused),
        cmocka_unit_test(what_is_kept_ages_by_the_clock_of_the_loop_alone),
        cmocka_unit_test(a_jump_of_the_wall_clock_never_makes_an_answer_live_longer_than_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

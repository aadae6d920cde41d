/* SPDX-License-Identifier: Apache-2.0 */
#include "analytics/pack.h"
#include "base/rng.h"
#include "try.h"

#include <string.h>

#define BYTES 4096

static void random_words(struct rng *rng, unsigned char *at, uint32_t zero_pct)
{
    for (uint32_t i = 0; i < BYTES / 4; i++) {
        uint32_t v = rng_below(rng, 100) < zero_pct ? 0 : (uint32_t)rng_u64(rng);
        memcpy(at + 4 * i, &v, sizeof v);
    }
}

static void what_was_packed_comes_back(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    static unsigned char in[BYTES], out[BYTES];
    for (uint32_t zero_pct = 0; zero_pct <= 100; zero_pct += 5) {
        random_words(&rng, in, zero_pct);
        struct buf b;
        buf_init(&b, MIB);
        pack_put_u64(&b, 42);
        pack_put(&b, in, BYTES);
        memset(out, 0xee, BYTES);
        struct unpack u = {.rest = buf_span(&b)};
        assert_int_equal(unpack_get_u64(&u), 42);
        unpack_get(&u, out, BYTES);
        assert_false(u.is_broken);
        assert_int_equal(u.rest.len, 0);
        assert_memory_equal(in, out, BYTES);
        buf_fini(&b);
    }
}

static void zeros_cost_next_to_nothing(void **state)
{
    (void)state;
    static unsigned char in[BYTES];
    memset(in, 0, BYTES);
    in[2000] = 1;
    struct buf b;
    buf_init(&b, MIB);
    pack_put(&b, in, BYTES);
    assert_true(b.len <= 24);
    buf_fini(&b);
}

static void damage_is_seen_or_harmless_and_never_leaves_the_area(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 5);
    static unsigned char in[BYTES], out[BYTES + 8];
    random_words(&rng, in, 80);
    struct buf b;
    buf_init(&b, MIB);
    pack_put(&b, in, BYTES);
    for (int i = 0; i < 3000; i++) {
        char *copy = malloc(b.len);
        memcpy(copy, b.at, b.len);
        copy[rng_below(&rng, (uint32_t)b.len)] ^= (char)(1 << rng_below(&rng, 8));
        size_t len = i % 3 ? b.len : rng_below(&rng, (uint32_t)b.len);
        memset(out, 0x5a, sizeof out);
        struct unpack u = {.rest = {copy, len}};
        unpack_get(&u, out, BYTES);
        for (int k = 0; k < 8; k++)
            assert_int_equal(out[BYTES + k], 0x5a);
        if (u.is_broken)
            for (int k = 0; k < BYTES; k++)
                assert_int_equal(out[k], 0);
        free(copy);
    }
    buf_fini(&b);
}

static void a_hash_changes_with_any_bit_and_with_the_length(void **state)
{
    (void)state;
    char a[40] = "decisions are events too, and say why";
    uint64_t whole = pack_hash((struct span){a, sizeof a});
    assert_int_equal(whole, pack_hash((struct span){a, sizeof a}));
    assert_int_not_equal(whole, pack_hash((struct span){a, sizeof a - 1}));
    for (size_t i = 0; i < sizeof a * 8; i++) {
        a[i / 8] ^= (char)(1 << i % 8);
        assert_int_not_equal(whole, pack_hash((struct span){a, sizeof a}));
        a[i / 8] ^= (char)(1 << i % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_packed_comes_back),
        cmocka_unit_test(zeros_cost_next_to_nothing),
        cmocka_unit_test(damage_is_seen_or_harmless_and_never_leaves_the_area),
        cmocka_unit_test(a_hash_changes_with_any_bit_and_with_the_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

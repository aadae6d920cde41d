/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "guard/gcm.h"
#include "guard/master.h"

/* Test cases 13 to 16 of McGrew and Viega, "The Galois/Counter Mode of Operation". */
struct vector {
    const char *says, *key, *nonce, *aad, *text, *sealed, *tag;
};
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define FEFF "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
#define PLAIN                                                                                      \
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"                             \
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
#define CIPHER                                                                                     \
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"                             \
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
static const struct vector vectors[] = {
    {"nothing at all", ZEROS, "000000000000000000000000", "", "", "",
     "530f8afbc74536b9a963b4f1c4cb738b"},
    {"one block of zeros", ZEROS, "000000000000000000000000", "",
     "00000000000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18",
     "d0d1c8a799996bf0265b98b5d48ab919"},
    {"text and associated data", FEFF, "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2", PLAIN, CIPHER, "76fc6ece0f4e1768cddf8853bb2d551b"},
};

static struct span bytes_of(const char *hex, unsigned char *room)
{
    size_t len = strlen(hex) / 2;
    assert_true(master_hex_get(span_of(hex), room, len));
    return (struct span){(char *)room, len};
}

static void known_answers_come_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(vectors); i++) {
        const struct vector *v = &vectors[i];
        unsigned char key[64], nonce[64], aad[64], text[64], want[64], out[64], tag[64], got[16];
        bytes_of(v->key, key);
        bytes_of(v->nonce, nonce);
        struct gcm_use use = {.key = key, .nonce = nonce, .aad = bytes_of(v->aad, aad)};
        struct span in = bytes_of(v->text, text), sealed = bytes_of(v->sealed, want);
        bytes_of(v->tag, tag);
        assert_true(gcm_seal(&use, in, out, got));
        assert_memory_equal(out, want, sealed.len);
        assert_memory_equal(got, tag, GCM_TAG_BYTES);
        assert_true(gcm_open(&use, (struct span){(char *)want, sealed.len}, out, tag));
        assert_memory_equal(out, text, in.len);
    }
}

static void one_changed_bit_is_seen_wherever_it_is(void **state)
{
    (void)state;
    unsigned char key[32], nonce[12], text[40], sealed[40], out[40], tag[16];
    char aad[20];
    gcm_random(key, sizeof key);
    gcm_random(nonce, sizeof nonce);
    gcm_random(text, sizeof text);
    gcm_random(aad, sizeof aad);
    struct gcm_use use = {.key = key, .nonce = nonce, .aad = {aad, sizeof aad}};
    struct span in = {(char *)sealed, sizeof sealed};
    assert_true(gcm_seal(&use, (struct span){(char *)text, sizeof text}, sealed, tag));
    struct {
        unsigned char *at;
        size_t len;
    } parts[] = {{key, sizeof key},
                 {nonce, sizeof nonce},
                 {(unsigned char *)aad, sizeof aad},
                 {sealed, sizeof sealed},
                 {tag, sizeof tag}};
    for (size_t p = 0; p < FB_COUNT(parts); p++)
        for (size_t bit = 0; bit < parts[p].len * 8; bit++) {
            parts[p].at[bit / 8] ^= (unsigned char)(1u << bit % 8);
            assert_false(gcm_open(&use, in, out, tag));
            for (size_t i = 0; i < sizeof out; i++)
                assert_int_equal(out[i], 0); /* nothing of an unproven text gets out */
            parts[p].at[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
    assert_true(gcm_open(&use, in, out, tag));
}

static void a_wrapped_secret_opens_for_its_purpose_only(void **state)
{
    (void)state;
    unsigned char key[32], secret[32], wrapped[32 + GCM_WRAP_BYTES], out[32];
    gcm_random(key, sizeof key);
    gcm_random(secret, sizeof secret);
    struct span in = {(char *)wrapped, sizeof wrapped};
    assert_true(gcm_wrap(key, SPAN("key 7"), (struct span){(char *)secret, 32}, wrapped));
    assert_true(gcm_unwrap(key, SPAN("key 7"), in, out));
    assert_memory_equal(out, secret, 32);
    assert_false(gcm_unwrap(key, SPAN("key 8"), in, out));
    assert_false(gcm_unwrap(key, SPAN("key 7"), (struct span){in.at, 20}, out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers_come_out),
        cmocka_unit_test(one_changed_bit_is_seen_wherever_it_is),
        cmocka_unit_test(a_wrapped_secret_opens_for_its_purpose_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

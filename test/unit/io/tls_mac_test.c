/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base.h"
#include "io/tls_kdf.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static unsigned char bytes[4096];

static EVP_MAC_CTX *make(const char *query)
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, query);
    EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
    assert_non_null(ctx);
    EVP_MAC_free(mac);
    return ctx;
}

static void name_digest(EVP_MAC_CTX *ctx, const char *digest)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)digest, 0),
        OSSL_PARAM_construct_end()};
    assert_int_equal(EVP_MAC_CTX_set_params(ctx, params), 1);
}

static size_t end(EVP_MAC_CTX *ctx, unsigned char out[EVP_MAX_MD_SIZE])
{
    size_t len = 0;
    memset(out, 0, EVP_MAX_MD_SIZE);
    assert_int_equal(EVP_MAC_final(ctx, out, &len, EVP_MAX_MD_SIZE), 1);
    assert_int_equal(len, EVP_MAC_CTX_get_mac_size(ctx));
    return len;
}

/* What one text comes to, in two parts, and again with the key that it has. */
static size_t mac_of(const char *query, const char *digest, size_t key_bytes, size_t text_bytes,
                     unsigned char out[EVP_MAX_MD_SIZE])
{
    unsigned char again[EVP_MAX_MD_SIZE];
    EVP_MAC_CTX *ctx = make(query);
    name_digest(ctx, digest);
    assert_int_equal(EVP_MAC_init(ctx, bytes, key_bytes, NULL), 1);
    assert_int_equal(EVP_MAC_update(ctx, bytes, text_bytes / 3), 1);
    assert_int_equal(EVP_MAC_update(ctx, bytes + text_bytes / 3, text_bytes - text_bytes / 3), 1);
    size_t len = end(ctx, out);
    assert_int_equal(EVP_MAC_init(ctx, NULL, 0, NULL), 1);
    assert_int_equal(EVP_MAC_update(ctx, bytes, text_bytes), 1);
    assert_int_equal(end(ctx, again), len);
    assert_memory_equal(again, out, len);
    EVP_MAC_CTX_free(ctx);
    return len;
}

static void every_mac_is_that_of_openssl(void **state)
{
    static const char *const digests[] = {"SHA256", "sha2-256", "SHA384", "SHA1", "SHA512"};
    static const size_t sizes[] = {1, 20, 32, 48, 63, 64, 65, 127, 128, 129, 1000};
    (void)state;
    for (size_t d = 0; d < FB_COUNT(digests); d++)
        for (size_t k = 0; k < FB_COUNT(sizes); k++)
            for (size_t t = 0; t < FB_COUNT(sizes); t++) {
                unsigned char ours[EVP_MAX_MD_SIZE], theirs[EVP_MAX_MD_SIZE];
                size_t len = mac_of("provider=default", digests[d], sizes[k], sizes[t], theirs);
                assert_int_equal(mac_of("provider=foldback", digests[d], sizes[k], sizes[t], ours),
                                 len);
                assert_memory_equal(ours, theirs, len);
            }
}

/* As a ticket's callback does it: no init, key and digest in one call. */
static size_t mac_by_params(const char *query, size_t key_bytes, unsigned char *out)
{
    EVP_MAC_CTX *ctx = make(query);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, bytes, key_bytes),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_construct_end()};
    assert_int_equal(EVP_MAC_CTX_set_params(ctx, params), 1);
    assert_int_equal(EVP_MAC_update(ctx, bytes, 300), 1);
    size_t len = end(ctx, out);
    EVP_MAC_CTX_free(ctx);
    return len;
}

static void key_and_digest_may_come_as_parameters(void **state)
{
    unsigned char ours[EVP_MAX_MD_SIZE], theirs[EVP_MAX_MD_SIZE];
    (void)state;
    assert_int_equal(mac_by_params("provider=foldback", 32, ours), 32);
    assert_int_equal(mac_by_params("provider=default", 32, theirs), 32);
    assert_memory_equal(ours, theirs, 32);
    assert_int_equal(mac_by_params("provider=foldback", 200, ours), 32); /* longer than we keep */
    assert_int_equal(mac_by_params("provider=default", 200, theirs), 32);
    assert_memory_equal(ours, theirs, 32);
}

static void a_copy_goes_its_own_way(void **state)
{
    static const char *const digests[] = {"SHA256", "SHA1"};
    (void)state;
    for (size_t d = 0; d < FB_COUNT(digests); d++) {
        unsigned char first[EVP_MAX_MD_SIZE], second[EVP_MAX_MD_SIZE], want[EVP_MAX_MD_SIZE];
        EVP_MAC_CTX *ctx = make("provider=foldback");
        name_digest(ctx, digests[d]);
        assert_int_equal(EVP_MAC_init(ctx, bytes, 32, NULL), 1);
        assert_int_equal(EVP_MAC_update(ctx, bytes, 100), 1);
        EVP_MAC_CTX *copy = EVP_MAC_CTX_dup(ctx);
        assert_non_null(copy);
        assert_int_equal(EVP_MAC_update(copy, bytes + 100, 100), 1);
        size_t len = end(ctx, first);
        assert_int_equal(end(copy, second), len);
        assert_int_equal(mac_of("provider=default", digests[d], 32, 100, want), len);
        assert_memory_equal(first, want, len);
        assert_int_equal(mac_of("provider=default", digests[d], 32, 200, want), len);
        assert_memory_equal(second, want, len);
        EVP_MAC_CTX_free(ctx);
        EVP_MAC_CTX_free(copy);
    }
}

/* Of a record of TLS 1.2 with CBC, whose padding must not show in the time it takes. */
static size_t mac_of_record(const char *query, unsigned char *out)
{
    EVP_MAC_CTX *ctx = make(query);
    size_t data_bytes = 200, len = 0;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_TLS_DATA_SIZE, &data_bytes),
                           OSSL_PARAM_construct_end()};
    memset(out, 0, EVP_MAX_MD_SIZE);
    name_digest(ctx, "SHA256");
    assert_int_equal(EVP_MAC_init(ctx, bytes, 32, NULL), 1);
    assert_int_equal(EVP_MAC_CTX_set_params(ctx, params), 1);
    assert_int_equal(EVP_MAC_update(ctx, bytes, 13), 1);
    assert_int_equal(EVP_MAC_update(ctx, bytes, 180), 1);
    assert_int_equal(EVP_MAC_final(ctx, out, &len, EVP_MAX_MD_SIZE), 1);
    EVP_MAC_CTX_free(ctx);
    return len;
}

static void records_in_constant_time_are_left_to_openssl(void **state)
{
    unsigned char ours[EVP_MAX_MD_SIZE], theirs[EVP_MAX_MD_SIZE];
    (void)state;
    size_t len = mac_of_record("provider=default", theirs);
    assert_int_equal(mac_of_record("provider=foldback", ours), len);
    assert_memory_equal(ours, theirs, len);
}

static void without_a_key_or_a_digest_there_is_no_mac(void **state)
{
    unsigned char out[EVP_MAX_MD_SIZE];
    size_t len;
    (void)state;
    EVP_MAC_CTX *ctx = make("provider=foldback");
    assert_int_equal(EVP_MAC_update(ctx, bytes, 10), 0);
    name_digest(ctx, "SHA256");
    assert_int_equal(EVP_MAC_update(ctx, bytes, 10), 0);
    assert_int_equal(EVP_MAC_final(ctx, out, &len, sizeof out), 0);
    EVP_MAC_CTX_free(ctx);
    ctx = make("provider=foldback");
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t) "nonsense", 0),
        OSSL_PARAM_construct_end()};
    assert_int_equal(EVP_MAC_CTX_set_params(ctx, params), 0);
    EVP_MAC_CTX_free(ctx);
}

static void a_context_that_asks_for_it_gets_it(void **state)
{
    (void)state;
    EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, tls_kdf_query());
    assert_non_null(mac);
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_MAC_get0_provider(mac)), "foldback");
    EVP_MAC_free(mac);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mac_is_that_of_openssl),
        cmocka_unit_test(key_and_digest_may_come_as_parameters),
        cmocka_unit_test(a_copy_goes_its_own_way),
        cmocka_unit_test(records_in_constant_time_are_left_to_openssl),
        cmocka_unit_test(without_a_key_or_a_digest_there_is_no_mac),
        cmocka_unit_test(a_context_that_asks_for_it_gets_it),
    };
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 251);
    if (!tls_kdf_query())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls_kdf.h"

#include "base/span.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

struct ask {
    int mode;
    const char *digest, *label;
    size_t key_bytes, salt_bytes, data_bytes, out_bytes;
};

static int derive(const char *query, const struct ask *a, unsigned char *out)
{
    unsigned char key[300], salt[64], data[256];
    OSSL_PARAM params[8], *p = params;
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (unsigned char)(i * 7 + 1);
    for (size_t i = 0; i < sizeof salt; i++)
        salt[i] = (unsigned char)(i * 5 + 3);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 3 + 2);
    int mode = a->mode;
    *p++ = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
    *p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)a->digest, 0);
    if (a->key_bytes)
        *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key, a->key_bytes);
    if (a->salt_bytes)
        *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, a->salt_bytes);
    *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (char[]){"tls13 "}, 6);
    *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (char *)(uintptr_t)a->label,
                                             strlen(a->label));
    if (a->data_bytes)
        *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_DATA, data, a->data_bytes);
    *p = OSSL_PARAM_construct_end();
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, query);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    assert_non_null(ctx);
    int is = EVP_KDF_derive(ctx, out, a->out_bytes, params);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return is;
}

static void every_derivation_of_the_schedule_is_that_of_openssl(void **state)
{
    enum { EXTRACT = EVP_KDF_HKDF_MODE_EXTRACT_ONLY, EXPAND = EVP_KDF_HKDF_MODE_EXPAND_ONLY };
    static const struct ask asks[] = {
        {EXTRACT, "SHA256", "derived", 0, 0, 0, 32},
        {EXTRACT, "SHA384", "derived", 0, 0, 0, 48},
        {EXTRACT, "SHA256", "derived", 32, 0, 0, 32},
        {EXTRACT, "SHA384", "derived", 48, 0, 0, 48},
        {EXTRACT, "SHA256", "derived", 32, 32, 0, 32},
        {EXTRACT, "SHA384", "derived", 32, 48, 0, 48},
        {EXTRACT, "SHA2-256", "derived", 0, 32, 0, 32},
        {EXTRACT, "SHA2-384", "derived", 0, 48, 0, 48},
        {EXPAND, "SHA256", "c ap traffic", 32, 0, 32, 32},
        {EXPAND, "SHA384", "c ap traffic", 48, 0, 48, 48},
        {EXPAND, "SHA256", "key", 32, 0, 0, 16},
        {EXPAND, "SHA384", "key", 48, 0, 0, 32},
        {EXPAND, "SHA256", "iv", 32, 0, 0, 12},
        {EXPAND, "sha256", "finished", 32, 0, 0, 32},
        {EXPAND, "SHA256", "exporter", 32, 0, 32, 500},
        {EXPAND, "SHA384", "exporter", 48, 0, 48, 777},
        {EXPAND, "SHA256", "resumption", 32, 0, 8, 32},
        {EXPAND, "SHA-256", "key", 200, 0, 0, 16},
    };
    (void)state;
    assert_non_null(tls_kdf_query());
    for (size_t i = 0; i < FB_COUNT(asks); i++) {
        unsigned char ours[1024] = {0}, theirs[1024] = {0};
        assert_int_equal(derive("provider=default", &asks[i], theirs), 1);
        assert_int_equal(derive("provider=foldback", &asks[i], ours), 1);
        assert_memory_equal(ours, theirs, sizeof ours);
    }
}

static void what_the_schedule_does_not_know_is_left_to_openssl(void **state)
{
    static unsigned char ours[9000], theirs[9000];
    int known = 0;
    static const struct ask asks[] = {
        {EVP_KDF_HKDF_MODE_EXPAND_ONLY, "SHA1", "key", 20, 0, 0, 16},
        {EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND, "SHA256", "key", 32, 0, 0, 16},
        {EVP_KDF_HKDF_MODE_EXPAND_ONLY, "SHA256", "key", 0, 0, 0, 16},
        {EVP_KDF_HKDF_MODE_EXPAND_ONLY, "SHA256", "key", 32, 0, 256, 16},
        {EVP_KDF_HKDF_MODE_EXPAND_ONLY, "SHA256", "key", 32, 0, 0, 255 * 32 + 1},
        {EVP_KDF_HKDF_MODE_EXTRACT_ONLY, "SHA256", "derived", 32, 0, 0, 16},
    };
    (void)state;
    assert_non_null(tls_kdf_query());
    for (size_t i = 0; i < FB_COUNT(asks); i++) {
        bool is_known = derive("provider=default", &asks[i], theirs) > 0;
        assert_int_equal(derive("provider=foldback", &asks[i], ours) > 0, is_known);
        if (is_known)
            assert_memory_equal(ours, theirs, asks[i].out_bytes);
        known += is_known;
    }
    assert_true(known > 0); /* SHA-1 */
}

static void a_context_that_asks_for_it_gets_it(void **state)
{
    (void)state;
    assert_non_null(tls_kdf_query());
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, tls_kdf_query());
    assert_non_null(kdf);
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(kdf)), "foldback");
    EVP_KDF_free(kdf);
    kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_HKDF, tls_kdf_query());
    assert_non_null(kdf); /* what it does not have comes from the others */
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(kdf)), "default");
    EVP_KDF_free(kdf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_derivation_of_the_schedule_is_that_of_openssl),
        cmocka_unit_test(what_the_schedule_does_not_know_is_left_to_openssl),
        cmocka_unit_test(a_context_that_asks_for_it_gets_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

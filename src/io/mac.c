/* SPDX-License-Identifier: Apache-2.0 */
#include "io/mac.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <sys/random.h>

/* An EVP_MAC_CTX with its key set, behind a type of our own. */
static EVP_MAC_CTX *context_of(struct mac *m)
{
    return (EVP_MAC_CTX *)(void *)m;
}

bool mac_draw_key(unsigned char key[MAC_KEY_BYTES])
{
    return getrandom(key, MAC_KEY_BYTES, 0) == MAC_KEY_BYTES;
}

struct mac *mac_new(const unsigned char key[MAC_KEY_BYTES])
{
    char digest[] = "SHA256";
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = hmac ? EVP_MAC_CTX_new(hmac) : NULL;
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                 OSSL_PARAM_construct_end()};
    EVP_MAC_free(hmac); /* the context holds it */
    if (ctx && EVP_MAC_init(ctx, key, MAC_KEY_BYTES, params) != 1) {
        EVP_MAC_CTX_free(ctx);
        ctx = NULL;
    }
    return (struct mac *)(void *)ctx;
}

void mac_free(struct mac *m)
{
    EVP_MAC_CTX_free(context_of(m));
}

bool mac_make(struct mac *m, const struct span *parts, size_t count, unsigned char out[MAC_BYTES])
{
    EVP_MAC_CTX *ctx = context_of(m);
    size_t bytes = 0;
    if (EVP_MAC_init(ctx, NULL, 0, NULL) != 1) /* the key stays */
        return false;
    for (size_t i = 0; i < count; i++) {
        uint64_t len = parts[i].len;
        if (EVP_MAC_update(ctx, (const unsigned char *)&len, sizeof len) != 1 ||
            (len && EVP_MAC_update(ctx, (const unsigned char *)parts[i].at, len) != 1))
            return false;
    }
    return EVP_MAC_final(ctx, out, &bytes, MAC_BYTES) == 1 && bytes == MAC_BYTES;
}

bool mac_is_same(const unsigned char a[MAC_BYTES], const unsigned char b[MAC_BYTES])
{
    return CRYPTO_memcmp(a, b, MAC_BYTES) == 0;
}

void mac_wipe(void *at, size_t bytes)
{
    OPENSSL_cleanse(at, bytes);
}

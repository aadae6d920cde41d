/* SPDX-License-Identifier: Apache-2.0 */
/* thin_peer: a client that seals what no library would send. */
#ifndef FB_TEST_THIN_PEER_H
#define FB_TEST_THIN_PEER_H
#include "base/assert.h"
#include "io/tls_thin.h"

#include <openssl/evp.h>
#include <string.h>

#define PEER_MORE_BYTES 22

struct thin_peer {
    unsigned char secret[TLS_SECRET_BYTES_MAX];
    uint64_t records;
};

static inline void thin_peer_update(struct thin_peer *p)
{
    unsigned char fresh[32];
    tls_kdf_expand(false, p->secret, "traffic upd", fresh, sizeof fresh);
    memcpy(p->secret, fresh, sizeof fresh);
    p->records = 0;
}

/* One record of AES-128-GCM with <inner>, which ends with the type; how long it is. */
static inline size_t thin_peer_seal(struct thin_peer *p, struct span inner, unsigned char *out)
{
    unsigned char key[16], nonce[12];
    size_t sealed = inner.len + 16;
    int n = 0, end = 0;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    tls_kdf_expand(false, p->secret, "key", key, sizeof key);
    tls_kdf_expand(false, p->secret, "iv", nonce, sizeof nonce);
    for (int i = 0; i < 8; i++)
        nonce[11 - i] ^= (unsigned char)(p->records >> (8 * i));
    memcpy(out, "\x17\x03\x03", 3);
    out[3] = (unsigned char)(sealed >> 8);
    out[4] = (unsigned char)(sealed & 0xff);
    bool is =
        EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, key, nonce) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &n, out, 5) == 1 &&
        EVP_EncryptUpdate(ctx, out + 5, &n, (const unsigned char *)inner.at, (int)inner.len) == 1 &&
        EVP_EncryptFinal_ex(ctx, out + 5 + n, &end) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, out + 5 + inner.len) == 1;
    fb_assert(is);
    EVP_CIPHER_CTX_free(ctx);
    p->records++;
    return 5 + sealed;
}
#endif

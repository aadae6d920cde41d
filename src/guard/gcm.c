/* SPDX-License-Identifier: Apache-2.0 */
#include "guard/gcm.h"

#include "base/assert.h"
#include "guard/secret.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

bool gcm_seal(const struct gcm_use *use, struct span in, void *out,
              unsigned char tag[GCM_TAG_BYTES])
{
    fb_assert(in.len <= INT_MAX);
    fb_assert(use->aad.len <= INT_MAX);
    int n;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    bool is_done = c && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, use->key, use->nonce) == 1 &&
                   (use->aad.len == 0 || EVP_EncryptUpdate(c, NULL, &n, (const void *)use->aad.at,
                                                           (int)use->aad.len) == 1) &&
                   EVP_EncryptUpdate(c, out, &n, (const void *)in.at, (int)in.len) == 1 &&
                   EVP_EncryptFinal_ex(c, (unsigned char *)out + in.len, &n) == 1 &&
                   EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, GCM_TAG_BYTES, tag) == 1;
    EVP_CIPHER_CTX_free(c); /* wipes the key schedule */
    return is_done;
}

bool gcm_open(const struct gcm_use *use, struct span in, void *out,
              const unsigned char tag[GCM_TAG_BYTES])
{
    int n;
    unsigned char expected[GCM_TAG_BYTES];
    if (in.len > INT_MAX || use->aad.len > INT_MAX)
        return false;
    memcpy(expected, tag, sizeof expected);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    bool is_good = c && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, use->key, use->nonce) == 1 &&
                   (use->aad.len == 0 || EVP_DecryptUpdate(c, NULL, &n, (const void *)use->aad.at,
                                                           (int)use->aad.len) == 1) &&
                   EVP_DecryptUpdate(c, out, &n, (const void *)in.at, (int)in.len) == 1 &&
                   EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, GCM_TAG_BYTES, expected) == 1 &&
                   EVP_DecryptFinal_ex(c, (unsigned char *)out + in.len, &n) == 1;
    EVP_CIPHER_CTX_free(c);
    if (!is_good)
        secret_wipe(out, in.len);
    return is_good;
}

bool gcm_wrap(const unsigned char *key, struct span aad, struct span in, unsigned char *out)
{
    gcm_random(out, GCM_NONCE_BYTES);
    struct gcm_use use = {.key = key, .nonce = out, .aad = aad};
    unsigned char *text = out + GCM_NONCE_BYTES;
    return gcm_seal(&use, in, text, text + in.len);
}

bool gcm_unwrap(const unsigned char *key, struct span aad, struct span in, unsigned char *out)
{
    if (in.len < GCM_WRAP_BYTES)
        return false;
    const unsigned char *at = (const void *)in.at;
    struct gcm_use use = {.key = key, .nonce = at, .aad = aad};
    struct span text = {in.at + GCM_NONCE_BYTES, in.len - GCM_WRAP_BYTES};
    return gcm_open(&use, text, out, at + in.len - GCM_TAG_BYTES);
}

void gcm_random(void *out, size_t bytes)
{
    fb_assert(bytes <= INT_MAX);
    fb_assert(RAND_bytes(out, (int)bytes) == 1); /* a key that can be guessed is worse than none */
}

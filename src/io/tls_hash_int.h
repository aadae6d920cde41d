/* SPDX-License-Identifier: Apache-2.0 */
/* tls_hash_int: SHA-256 and SHA-384 for the provider in tls_kdf.c and tls_mac.c, and no others.
 *
 * The digests' plain functions are what makes it fast; OpenSSL discourages them, but has no other
 * way to them without a lookup and an allocation.  Include it before what includes OpenSSL. */
#ifndef FB_IO_TLS_HASH_INT_H
#define FB_IO_TLS_HASH_INT_H
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/span.h"

#include <openssl/sha.h>
#include <string.h>
#include <strings.h>

#define PROVIDER "foldback"
#define HASH_BYTES_MAX SHA384_DIGEST_LENGTH
#define BLOCK_BYTES_MAX SHA512_CBLOCK
/* A function of a dispatch table; OpenSSL casts it back to what its number says. */
#define PROVIDER_CALL(number, function)                                                            \
    {                                                                                              \
        (number), (void (*)(void))(function)                                                       \
    }

struct hash {
    bool is_384;
    size_t bytes, block_bytes; /* 0: none was named */
    union {
        SHA256_CTX of_256;
        SHA512_CTX of_384;
    } u;
};

/* By a name that OpenSSL knows; false: it is none of the two. */
static inline bool hash_find(struct hash *h, struct span name)
{
    static const char *const names[] = {"SHA2-256", "SHA256", "SHA-256",
                                        "SHA2-384", "SHA384", "SHA-384"};
    for (size_t i = 0; i < FB_COUNT(names); i++) {
        if (strlen(names[i]) != name.len || strncasecmp(name.at, names[i], name.len) != 0)
            continue;
        h->is_384 = i >= 3;
        h->bytes = i >= 3 ? SHA384_DIGEST_LENGTH : SHA256_DIGEST_LENGTH;
        h->block_bytes = i >= 3 ? SHA512_CBLOCK : SHA256_CBLOCK;
        return true;
    }
    return false;
}

static inline void hash_begin(struct hash *h)
{
    if (h->is_384)
        SHA384_Init(&h->u.of_384);
    else
        SHA256_Init(&h->u.of_256);
}

static inline void hash_put(struct hash *h, const void *at, size_t len)
{
    if (h->is_384)
        SHA384_Update(&h->u.of_384, at, len);
    else
        SHA256_Update(&h->u.of_256, at, len);
}

static inline void hash_end(struct hash *h, unsigned char *out)
{
    if (h->is_384)
        SHA384_Final(out, &h->u.of_384);
    else
        SHA256_Final(out, &h->u.of_256);
}

static inline void pad_key(unsigned char pad[BLOCK_BYTES_MAX], struct span key, unsigned char with)
{
    memset(pad, with, BLOCK_BYTES_MAX);
    for (size_t i = 0; i < key.len; i++)
        pad[i] ^= (unsigned char)key.at[i];
}
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* tls_kdf: the key schedule of TLS 1.3 (RFC 8446 section 7.1) for OpenSSL.
 *
 * OpenSSL asks for some twenty derivations per handshake and looks up a method, a digest and a MAC
 * by their names for each.  Ours is the same arithmetic without the looking up, offered as a
 * provider: contexts that are made with the query use it, and others may.
 * Threads: any. */
#ifndef FB_IO_TLS_KDF_H
#define FB_IO_TLS_KDF_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_SECRET_BYTES_MAX 48
/* What the application data of one connection is keyed from. */
struct tls_secrets {
    unsigned char client[TLS_SECRET_BYTES_MAX], server[TLS_SECRET_BYTES_MAX];
    bool has_client, has_server;
};

/* For SSL_CTX_new_ex; NULL when OpenSSL does not take the provider: then its own one serves. */
const char *tls_kdf_query(void);
/* What this thread derives for a connection from now on is copied to <to>; NULL ends it. */
void tls_kdf_watch(struct tls_secrets *to);
/* HKDF-Expand-Label without a context, with SHA-256 or SHA-384. */
void tls_kdf_expand(bool is_384, const unsigned char *secret, const char *label, unsigned char *out,
                    size_t len);
#endif

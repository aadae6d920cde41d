/* SPDX-License-Identifier: Apache-2.0 */
/* tls_kdf: the key schedule of TLS 1.3 (RFC 8446 section 7.1) for OpenSSL.
 *
 * OpenSSL asks for some twenty derivations per handshake and looks up a method, a digest and a MAC
 * by their names for each.  Ours is the same arithmetic without the looking up, offered as a
 * provider: contexts that are made with the query use it, and others may.
 * Threads: any. */
#ifndef FB_IO_TLS_KDF_H
#define FB_IO_TLS_KDF_H

/* For SSL_CTX_new_ex; NULL when OpenSSL does not take the provider: then its own one serves. */
const char *tls_kdf_query(void);
#endif

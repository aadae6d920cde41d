/* SPDX-License-Identifier: Apache-2.0 */
/* tls_mac: HMAC for the provider of tls_kdf: OpenSSL makes five per resumed handshake, each of
 * which looks up a digest by its name and takes nine pieces of memory; this one takes one.  Other
 * digests than SHA-256 and SHA-384, and the constant-time records of TLS 1.2 (CBC), go to OpenSSL's
 * own. */
#ifndef FB_IO_TLS_MAC_H
#define FB_IO_TLS_MAC_H
#include <openssl/core.h>

extern const OSSL_ALGORITHM tls_macs[];
#endif

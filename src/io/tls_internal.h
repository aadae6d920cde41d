/* SPDX-License-Identifier: Apache-2.0 */
/* tls_internal: a certificate authority for development: one CA in the state directory, a leaf for
 * each name that a client asks for.
 *
 * Whoever trusts DIR/internal-ca.pem trusts these leaves.  The CA may only sign names (no other
 * CA); its key never leaves the file.  Leaves live in memory: at most INTERNAL_LEAVES_MAX, then all
 * are forgotten, so that a client that invents names costs a bounded piece of memory. Threads: any.
 * Errors: IO, CONFIG. */
#ifndef FB_IO_TLS_INTERNAL_H
#define FB_IO_TLS_INTERNAL_H
#include "base/error.h"

#include <openssl/ssl.h>

#define INTERNAL_LEAVES_MAX 512

struct tls_internal;
FB_MUST_USE
enum fb_code tls_internal_new(const char *dir, struct tls_internal **out, struct fb_err *err);
void tls_internal_free(struct tls_internal *t);
/* Gives the connection a certificate for <name> (NULL: localhost); 1, or 0 when it cannot. */
int tls_internal_use(struct tls_internal *t, SSL *ssl, const char *name);
#endif

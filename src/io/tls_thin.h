/* SPDX-License-Identifier: Apache-2.0 */
/* tls_thin: what is left of a connection of TLS 1.3 when its SSL is given up.
 *
 *   handshake (OpenSSL) -> open (OpenSSL, records counted) --at rest--> thin, for the rest of its
 * life
 *
 * OpenSSL keeps 13.7 KiB per connection, nearly all of it for the handshake.  A connection that
 * rests needs two secrets and two counters.  The records (RFC 8446 section 5) are made here, with
 * OpenSSL's ciphers and one cipher context per thread; the secrets come from our key schedule
 * (tls_kdf).  After the handshake a client may send data, alerts and updates of its keys: anything
 * else ends the connection.
 * A counter that is too low would seal two texts with one nonce, so OpenSSL's last record is the
 * proof: sealed by us with the counter that we believe in it must be the bytes that OpenSSL wrote.
 * Threads: a connection belongs to one. */
#ifndef FB_IO_TLS_THIN_H
#define FB_IO_TLS_THIN_H
#include "base/span.h"
#include "io/tls_kdf.h"

#include <openssl/ssl.h>

struct tls_thin;
enum thin_step { THIN_GOT, THIN_WAIT, THIN_ENDED, THIN_FAILED };
struct thin_read {
    EVP_CIPHER_CTX *aead; /* of the thread */
    void *at;
    size_t room, got;
    int fd;
    int alert;        /* after THIN_FAILED: what to tell the peer, -1 nothing */
    bool *is_drained; /* the kernel had less than we asked for */
    bool is_peek;
};

struct tls_thin *tls_thin_new(void); /* NULL without memory */
/* One that rests already, without an SSL before it; NULL also when the suite is not known. */
struct tls_thin *tls_thin_of(uint16_t suite, const struct tls_secrets *secrets);
void tls_thin_free(struct tls_thin *t);
struct tls_secrets *tls_thin_secrets(struct tls_thin *t); /* for tls_kdf_watch */
/* The handshake is over, and <sent> is what the server's last step of it wrote: from here on
 * records are counted.  False: <ssl> will never be given up (TLS 1.2, a client's certificate). */
bool tls_thin_begin(struct tls_thin *t, SSL *ssl, struct span sent);
/* What OpenSSL wrote since, and the text of the last record of it. */
void tls_thin_saw(struct tls_thin *t, struct span records);
void tls_thin_meant(struct tls_thin *t, struct span text);
/* False: <ssl> holds something that we do not know, and stays.  True: it can be freed. */
bool tls_thin_take(struct tls_thin *t, EVP_CIPHER_CTX *aead, SSL *ssl);

/* Bytes that were put into <out>; 0 the connection is at its end. */
size_t tls_thin_write(struct tls_thin *t, EVP_CIPHER_CTX *aead, struct span text, void *out);
/* An alert, 0 being the goodbye; as tls_thin_write. */
size_t tls_thin_say(struct tls_thin *t, EVP_CIPHER_CTX *aead, int alert, void *out);
bool tls_thin_has_said(const struct tls_thin *t);
enum thin_step tls_thin_read(struct tls_thin *t, struct thin_read *r);
bool tls_thin_has_pending(const struct tls_thin *t);
#endif

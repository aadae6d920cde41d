/* SPDX-License-Identifier: Apache-2.0 */
/* tls_int: what the files of TLS share. */
#ifndef FB_IO_TLS_INT_H
#define FB_IO_TLS_INT_H
#include "io/tls.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

/* Largest TLS record's payload. */
#define TLS_RECORD_BYTES 16384

struct tls_store;

struct tls_conn {
    SSL *ssl;
    struct tls_store *store;   /* of a server, until the handshake is over */
    struct tls_client *client; /* of a connection to an endpoint */
    struct tls_thin *thin;     /* of a server: takes over at rest, and then <ssl> is NULL */
    char *out;                 /* records that the kernel did not take; NULL none */
    uint32_t out_from, out_to, out_room;
    uint32_t owed;        /* bytes that the caller keeps and that are in <out> already */
    uint32_t burst_bytes; /* written since the connection was quiet */
    uint32_t burst_ms;    /* time of the last write */
    uint16_t record_bytes;
    int fd;
    uint8_t fault; /* enum tls_fault */
    uint8_t alert; /* of the peer, 0 none */
    bool is_open;
    bool is_held;    /* <out> waits for the first answer, not for the kernel */
    bool is_drained; /* the kernel had less than we asked for */
    bool is_ending;  /* what is written now is the last */
    bool has_ended, is_dead, is_plain_http, is_cert_refused;
    char *subject; /* of the peer, once it was asked for */
    char text[96]; /* about the fault */
};

/* ---- tls_server.c ---- */
struct tls_store *tls_store_take(struct tls_server *s);
void tls_store_drop(struct tls_store *store);
SSL_CTX *tls_store_ctx(struct tls_store *store); /* with which a connection begins */

/* ---- tls_client.c ---- */
SSL *tls_client_ssl(struct tls_client *t, struct tls_conn *c, const char *name);

/* ---- tls_fault.c ---- */
/* From OpenSSL's queue, which is empty afterwards. */
void tls_fault_set(struct tls_conn *c, int ssl_error);
/* The first sentence of OpenSSL's queue, which is empty afterwards. */
const char *tls_why(char *out, size_t room);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* redis_link: one connection to a Redis server: name, TCP or Unix socket, TLS, login, questions.
 *
 *   redis_link_open -> resolve -> connect -> TLS -> AUTH, SELECT -> ready
 *   ready: put commands into <out>, redis_link_ask; whatever fails closes it
 *
 * Nothing here waits without an end: each call has a deadline, and returns within 100 ms when the
 * runner wants to stop.  Of several addresses the next is tried when one fails.
 *
 * Threads: a struct redis_link belongs to one thread.  SIGPIPE is blocked in it (TLS writes). */
#ifndef FB_STREAM_CONNECTORS_REDIS_LINK_H
#define FB_STREAM_CONNECTORS_REDIS_LINK_H
#include "stream/connectors/connector.h"
#include "stream/connectors/redis_codec.h"
#include "stream/connectors/redis_says.h"

#include <openssl/ssl.h>

#define REDIS_ADDRESSES_MAX 16
#define REDIS_ADDRESS_BYTES 256
#define REDIS_OUT_BYTES_MAX (64 * MIB)

struct redis_link {
    const struct connector_setup *setup;
    char address[REDIS_ADDRESSES_MAX][REDIS_ADDRESS_BYTES];
    uint32_t address_count, address_at;
    bool is_tls;
    SSL_CTX *tls;
    SSL *ssl;
    int fd;
    bool is_ready;
    uint64_t opened; /* connections so far */
    struct redis_codec codec;
    struct buf out;
    size_t out_at; /* sent of it */
};

/* Reads the keys of the configuration; reaches nobody.  FB_E_CONFIG. */
FB_MUST_USE
enum fb_code redis_link_init(struct redis_link *l, const struct connector_setup *setup,
                             size_t answer_bytes_max, struct fb_err *err);
void redis_link_fini(struct redis_link *l);

/* Ready, or why not; a connection that the server closed meanwhile is made anew. */
FB_MUST_USE
enum fb_code redis_link_open(struct redis_link *l, uint64_t until_us, struct fb_err *err);
void redis_link_close(struct redis_link *l);
/* Closes, and the next open begins with the next address, or with <address> if it is listed. */
void redis_link_leave(struct redis_link *l, const char *address);
const char *redis_link_address(const struct redis_link *l);

/* Sends <out> and gives each of <count> answers to <each> in order, borrowed until it returns; the
 * last one stays readable until the next ask.  Errors: AGAIN (closed, or a stop), TIMEOUT, FORMAT,
 * RANGE (an answer that is too large), DENIED (our certificate); the connection is closed after
 * any. */
typedef void redis_each(void *arg, uint32_t at, const struct redis_answer *answer);
struct redis_ask {
    uint32_t count;
    uint64_t until_us;
    redis_each *each;
    void *arg;
};
FB_MUST_USE
enum fb_code redis_link_ask(struct redis_link *l, const struct redis_ask *ask, struct fb_err *err);

/* One command, one answer; an error answer is FB_OK here. */
FB_MUST_USE
enum fb_code redis_link_ask_one(struct redis_link *l, const char *const *texts, uint64_t until_us,
                                const struct redis_answer **answer, struct fb_err *err);

/* Says what an error answer means, and leaves the server when that is the meaning. */
enum fb_code redis_link_refused(struct redis_link *l, struct span answer, struct fb_err *err);

/* ---- redis_dial.c ---- */
/* A connected socket that does not block, or -1. */
FB_MUST_USE
int redis_dial(struct redis_link *l, const char *address, uint64_t until_us, struct fb_err *err);
FB_MUST_USE
enum fb_code redis_dial_tls(struct redis_link *l, const char *address, uint64_t until_us,
                            struct fb_err *err);
FB_MUST_USE
enum fb_code redis_tls_init(struct redis_link *l, struct fb_err *err);
/* poll for at most 100 ms; FB_E_AGAIN: a stop, FB_E_TIMEOUT: the deadline. */
FB_MUST_USE
enum fb_code redis_wait(const struct redis_link *l, int fd, short events, uint64_t until_us,
                        struct fb_err *err);
/* What OpenSSL has against the peer, as a sentence; the code says whether a hand is needed. */
enum fb_code redis_tls_fail(struct redis_link *l, const char *doing, struct fb_err *err);
/* Host and port of "HOST:PORT", "[v6]:PORT" or "HOST". */
FB_MUST_USE
bool redis_split_address(const char *address, char host[REDIS_ADDRESS_BYTES], char port[8]);
#endif

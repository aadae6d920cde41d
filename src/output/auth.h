/* SPDX-License-Identifier: Apache-2.0 */
/* auth: who may use the admin server, decided from one request's head.
 *
 * Two proofs: `Authorization: Bearer TOKEN`, or a session cookie.  A session is
 * "<expiry hex>.<HMAC-SHA256 hex>" over the expiry with a key that lives as long as the process, so
 * the server keeps no list of sessions and a restart ends them all.  The cookie name carries the
 * port, because browsers share cookies between ports of one host.
 * All comparisons of secrets take the same time for every wrong value of the right length.
 * Guessing: an address that gave 10 wrong tokens within a minute gets 429 for the next ones.  A
 * right token is let in at any time: a client that was forgotten keeps nobody out. Pure: time is an
 * argument.  Threads: one at a time per struct auth. */
#ifndef FB_OUTPUT_AUTH_H
#define FB_OUTPUT_AUTH_H
#include "base/buf.h"

#define AUTH_TOKEN_MIN_BYTES 16
#define AUTH_INGEST_MAX 32   /* ingest-only tokens */
#define AUTH_FAILURES_MAX 10 /* per minute: 10 guesses of 128 bits are none */
#define AUTH_SOURCES_MAX 64  /* addresses that gave a wrong one; the oldest goes */
#define AUTH_SOURCE_BYTES 16
#define AUTH_SESSION_US (12 * 3600 * US_PER_S) /* a working day */

/* AUTH_INGEST: a good token that may bring events in, and nothing else. */
enum auth_result { AUTH_OK, AUTH_INGEST, AUTH_MISSING, AUTH_WRONG, AUTH_TOO_MANY };

/* Wrong tokens of one address: IPv6, or IPv4 in it; of IPv6 the first half. */
struct auth_source {
    unsigned char at[AUTH_SOURCE_BYTES];
    uint32_t failures; /* in the minute that began at window_us; 0: free */
    uint64_t window_us;
};

struct auth {
    char token[129];
    char ingest[AUTH_INGEST_MAX][129];
    uint32_t ingest_count;
    char cookie_name[32];
    unsigned char key[32];
    struct auth_source sources[AUTH_SOURCES_MAX];
    char host[72];    /* host part of the configured address */
    bool is_loopback; /* the configured address is one */
};

/* What of a request matters; spans may be empty. */
struct auth_request {
    struct span authorization, cookie, host_name, origin, host, fetch_site;
    const unsigned char *source; /* AUTH_SOURCE_BYTES; NULL: all zeros */
    bool is_write;               /* changes something: needs a same-origin page or no page at all */
};

/* <token> and <address> as in struct admin_setup; false when either is malformed. */
FB_MUST_USE
bool auth_init(struct auth *a, const char *token, const char *address);
/* Ingest-only tokens from the text of their file: one per line; blank lines and lines with # are
 * skipped.  Replaces those before, all or none; false with the bad line's number (1..) in *line. */
FB_MUST_USE
bool auth_set_ingest(struct auth *a, struct span text, uint32_t *line);
/* The token in an Authorization field; empty: none. */
struct span auth_bearer(struct span authorization);
/* Would this request be let in to bring events?  Counts no failure. */
bool auth_may_ingest(const struct auth *a, struct span authorization);
/* The cookie's name needs the port that was really taken; the key comes from random bytes. */
void auth_begin(struct auth *a, uint16_t port, const uint64_t seed[2]);

/* May this Host be answered at all?  IP literals, loopback names and the configured name when the
 * server is bound to loopback; anything otherwise (a rebound name carries no cookie of ours). */
bool auth_host_ok(const struct auth *a, struct span host_name);
/* A browser page of another origin is behind a write: refuse it. */
bool auth_origin_ok(const struct auth_request *r);
enum auth_result auth_check(struct auth *a, const struct auth_request *r, uint64_t now_us);
/* A token given by login form or URL. */
enum auth_result auth_login(struct auth *a, const unsigned char *source, struct span token,
                            uint64_t now_us);
/* Wrong tokens of <source> in the minute of <now_us>. */
uint32_t auth_failures(const struct auth *a, const unsigned char *source, uint64_t now_us);
/* Set-Cookie value of a new session; `; Max-Age=0` form with <expire>. */
void auth_put_cookie(const struct auth *a, struct buf *out, uint64_t now_us, bool expire);
#endif

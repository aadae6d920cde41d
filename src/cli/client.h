/* SPDX-License-Identifier: Apache-2.0 */
/* client: calls to the admin API of a running foldback; blocking, bounded by a timeout.
 *
 * Where it is: --admin ADDRESS with --token-file, or admin.json in the state folder (--state; else
 * ./foldback-state, else /var/lib/foldback).  The token is read from a file only, never from a flag
 * or the environment. Threads: main thread. */
#ifndef FB_CLI_CLIENT_H
#define FB_CLI_CLIENT_H
#include "base/buf.h"
#include "base/error.h"

struct client {
    char address[128], token[160], state[600];
    uint32_t timeout_ms;
};
/* <state>, <admin>, <token_file> may be NULL.  Errors: UNREACHABLE (no foldback runs there),
 * DENIED. */
FB_MUST_USE
enum fb_code client_init(struct client *c, const char *state, const char *admin,
                         const char *token_file, struct fb_err *err);
/* The state folder that would be used, whether something runs or not. */
const char *client_state_dir(const char *state);
/* In a folder that may not be looked into everything seems missing, a running foldback too.
 * Errors: DENIED. */
FB_MUST_USE
enum fb_code client_state_check(const char *dir, struct fb_err *err);

struct client_call {
    const char *method, *path; /* path with query, encoded */
    struct span body;          /* JSON, may be empty */
    const char *if_match;      /* ETag or NULL */
    /* For live answers: each line as it comes, without its end; false stops.  NULL: the body is
     * collected. */
    bool (*on_line)(void *arg, struct span line);
    bool (*on_idle)(void *arg); /* of a live answer: nothing came for 100 ms; may be NULL */
    void *arg;
    const char *patience; /* said on stderr when no answer came for 2 s; NULL: nothing */
    uint32_t timeout_ms;  /* cli_ask: at least */
};
/* 2xx: FB_OK and the body in <out>.  Otherwise the problem's sentence in err.  Errors: UNREACHABLE,
 * DENIED, TIMEOUT, NOT_FOUND, CONFLICT, RANGE, FORMAT. */
FB_MUST_USE
enum fb_code client_call(const struct client *c, const struct client_call *call, struct buf *out,
                         struct fb_err *err);
/* Appends <text> percent-encoded for a path segment or a query value. */
void client_encode(struct buf *out, const char *text);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* pubsub_token: access tokens of Google's OAuth: from a service account's key file (RS256 JWT for
 * a token), or from the metadata server of the machine.
 *
 * The key file is read again for each token (once an hour): a new key needs no reload.  A token is
 * renewed before its end, and at once after token_refuse.  Neither key nor token ever stands in a
 * message.
 * Threads: one struct token belongs to one thread. */
#ifndef FB_STREAM_CONNECTORS_PUBSUB_TOKEN_H
#define FB_STREAM_CONNECTORS_PUBSUB_TOKEN_H
#include "stream/connectors/pubsub_call.h"

struct token {
    const char *key_file; /* "" none: the metadata server */
    const char *metadata; /* "http://metadata.google.internal" */
    char *value;          /* NULL none yet */
    uint64_t renew_us;    /* monotonic: from then on another is fetched */
    uint32_t refused;     /* tokens that the service refused in a row */
};
void token_fini(struct token *t);

/* The token is in <value>.  FB_E_CONFIG (key file), FB_E_DENIED (refused), FB_E_AGAIN. */
FB_MUST_USE
enum fb_code token_get(struct token *t, struct calls *cs, struct fb_err *err);
/* The service refused it: the next token_get fetches another. */
void token_refuse(struct token *t);

/* What a key file says. */
struct token_key {
    char email[256], project[128], key_id[128], token_uri[256];
    char *pem; /* NULL after token_key_fini */
};
/* FB_E_CONFIG names the file, what is wrong with it and where one comes from. */
FB_MUST_USE
enum fb_code token_key_read(const char *path, struct token_key *out, struct fb_err *err);
void token_key_fini(struct token_key *key);
/* The signed assertion: appended to <out>. */
FB_MUST_USE
enum fb_code token_jwt(const struct token_key *key, uint64_t now_s, struct buf *out,
                       struct fb_err *err);
/* An answer of a token server; <life_s> is how long it holds.  False: not readable. */
FB_MUST_USE
bool token_answer(struct span json, char **value, uint32_t *life_s);
#endif

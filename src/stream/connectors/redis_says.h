/* SPDX-License-Identifier: Apache-2.0 */
/* redis_says: what an error answer of Redis means here: code, result, one sentence with the next
 * step.
 *
 * Pure.  Threads: any. */
#ifndef FB_STREAM_CONNECTORS_REDIS_SAYS_H
#define FB_STREAM_CONNECTORS_REDIS_SAYS_H
#include "stream/connectors/connector.h"

enum redis_move {
    REDIS_STAY,  /* the connection is good */
    REDIS_LEAVE, /* close it, try the next address */
    REDIS_MOVED  /* the answer names the node that has the stream */
};

struct redis_meaning {
    const char *starts; /* how the answer begins */
    enum fb_code code;
    enum connector_result result; /* of a record that got it */
    enum redis_move move;
    const char *says; /* the next step */
};

/* Never NULL: the last row is for all others. */
const struct redis_meaning *redis_meaning_of(struct span answer);

/* Fills <err>: "redis HOST: <what it said>: <next step>", without control bytes.  The words of the
 * server are left out behind the first one when <is_secret>: it may repeat what it was sent. */
struct redis_said {
    const char *address;
    struct span answer;
    bool is_secret;
};
enum fb_code redis_fail(const struct redis_said *said, struct fb_err *err);

/* "MOVED 3999 10.0.0.1:6379" -> "10.0.0.1:6379"; false: no address in it. */
FB_MUST_USE
bool redis_moved_to(struct span answer, char *out, size_t size);
#endif

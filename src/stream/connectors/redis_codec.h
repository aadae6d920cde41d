/* SPDX-License-Identifier: Apache-2.0 */
/* redis_codec: RESP2, the bytes that Redis speaks.
 *
 *   redis_put_count, redis_put ... -> bytes of a command
 *   bytes -> redis_codec_feed -> redis_codec_next -> one answer as a tree
 *
 * The reader is hiredis's; the tree is ours, in memory with a maximum: a server that announces a
 * billion elements, nests without end or never ends a text costs at most <answer_bytes_max> twice
 * (the bytes as they came, and the tree).
 * Pure but for memory.  Threads: a struct redis_codec belongs to one thread. */
#ifndef FB_STREAM_CONNECTORS_REDIS_CODEC_H
#define FB_STREAM_CONNECTORS_REDIS_CODEC_H
#include "base/buf.h"
#include "base/error.h"

enum redis_kind { REDIS_NIL, REDIS_NUMBER, REDIS_STATUS, REDIS_BYTES, REDIS_ERROR, REDIS_LIST };

struct redis_answer {
    enum redis_kind kind;
    int64_t number;
    struct span text;              /* of a status, an error, or bytes; terminated */
    const struct redis_answer *at; /* of a list */
    uint32_t count;
};

struct redis_chunk;
struct redisReader;
struct redis_codec {
    struct redisReader *reader;
    struct redis_chunk *chunk; /* memory of the tree, newest first */
    size_t taken, answer_bytes_max;
};

FB_MUST_USE
bool redis_codec_init(struct redis_codec *c, size_t answer_bytes_max); /* false without memory */
void redis_codec_fini(struct redis_codec *c);
/* Forgets all bytes; for a new connection. */
FB_MUST_USE
bool redis_codec_reset(struct redis_codec *c);
/* FB_E_FORMAT: not RESP; FB_E_RANGE: too large.  FB_E_NOMEM. */
FB_MUST_USE
enum fb_code redis_codec_feed(struct redis_codec *c, struct span bytes, struct fb_err *err);
/* *out is borrowed until the next call of this or reset; FB_E_AGAIN: not all of it is there yet. */
FB_MUST_USE
enum fb_code redis_codec_next(struct redis_codec *c, const struct redis_answer **out,
                              struct fb_err *err);
bool redis_codec_is_empty(const struct redis_codec *c); /* no bytes wait */

/* ---- commands ---- */
void redis_put_count(struct buf *out, uint32_t arguments);
void redis_put(struct buf *out, struct span argument);
/* A command of terminated texts, the last one NULL. */
void redis_put_texts(struct buf *out, const char *const *texts);

/* ---- answers ---- */
/* The value behind <name> in a list of names and values; NULL: not there. */
const struct redis_answer *redis_member(const struct redis_answer *list, const char *name);
static inline bool redis_is_text(const struct redis_answer *a)
{
    return a && (a->kind == REDIS_STATUS || a->kind == REDIS_BYTES);
}
#endif

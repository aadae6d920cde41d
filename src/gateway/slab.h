/* SPDX-License-Identifier: Apache-2.0 */
/* slab: memory of one thread in pieces of a few sizes, given back to a free list, last in first
 * out.
 *
 * The steady path never calls malloc: what was freed last is warm in the cache and is used next.  A
 * free list keeps at most keep_max pieces; the rest goes back to the system, so that a burst does
 * not cost for ever. Threads: a slab belongs to one thread.  Errors: NULL without memory; the
 * caller answers 503. */
#ifndef FB_GATEWAY_SLAB_H
#define FB_GATEWAY_SLAB_H
#include "base/span.h"

struct slab {
    void *free; /* first free piece; its first word points to the next one */
    uint32_t piece_bytes, free_count, keep_max;
    uint32_t used_count;
    uint64_t freed_bytes; /* given back to the system since the start */
};
void slab_init(struct slab *s, size_t piece_bytes, uint32_t keep_max);
void slab_fini(struct slab *s);
void *slab_take(struct slab *s); /* not zeroed; NULL without memory */
/* Gives what is free back to the system. */
void slab_shrink(struct slab *s);
void slab_give(struct slab *s, void *piece);

/* Bytes that wait: at[from, to).  One of three sizes; only connections with bytes in them own one.
 */
struct chunk {
    uint32_t from, to, cap;
    uint32_t kind;
    char at[];
};
enum chunk_kind {
    CHUNK_SMALL, /* heads */
    CHUNK_BODY,  /* CHUNK_BODY_BYTES and room for chunk heads */
    CHUNK_LARGE, /* from malloc: heads beyond 16 KiB */
    CHUNK_KINDS
};
#define CHUNK_SMALL_BYTES 2032
#define CHUNK_BODY_BYTES (16 * 1024)
#define CHUNK_SLACK_BYTES 496 /* chunk heads, the last chunk, a deadline field */

struct chunk_store {
    struct slab small, body;
};
void chunk_store_init(struct chunk_store *s);
void chunk_store_fini(struct chunk_store *s);
/* An empty chunk with room for at least <bytes>; NULL without memory. */
struct chunk *chunk_take(struct chunk_store *s, size_t bytes);
void chunk_give(struct chunk_store *s, struct chunk *c); /* NULL is fine */
/* Appends; takes a larger chunk when *c (may be NULL) is too small.  False without memory. */
bool chunk_append(struct chunk_store *s, struct chunk **c, struct span bytes);
static inline struct span chunk_span(const struct chunk *c)
{
    return c ? (struct span){c->at + c->from, c->to - c->from} : (struct span){NULL, 0};
}
static inline uint32_t chunk_room(const struct chunk *c)
{
    return c->cap - c->to;
}
#endif

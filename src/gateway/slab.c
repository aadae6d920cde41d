/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/slab.h"

#include "base/assert.h"
#include "base/sanitize.h"

#include <stdlib.h>

void slab_init(struct slab *s, size_t piece_bytes, uint32_t keep_max)
{
    fb_assert(piece_bytes >= sizeof(void *));
    *s = (struct slab){.piece_bytes = (uint32_t)piece_bytes,
                       .keep_max = FB_IS_SANITIZED ? 0 : keep_max};
}

void slab_fini(struct slab *s)
{
    while (s->free) {
        void *next = *(void **)s->free;
        free(s->free);
        s->free = next;
    }
}

void *slab_take(struct slab *s)
{
    void *piece = s->free;
    if (FB_LIKELY(piece != NULL)) {
        s->free = *(void **)piece;
        s->free_count--;
    } else {
        piece = malloc(s->piece_bytes);
        if (!piece)
            return NULL;
    }
    s->used_count++;
    return piece;
}

void slab_shrink(struct slab *s)
{
    s->freed_bytes += (uint64_t)s->free_count * s->piece_bytes;
    slab_fini(s);
    s->free_count = 0;
}

void slab_give(struct slab *s, void *piece)
{
    fb_assert(s->used_count > 0);
    s->used_count--;
    if (s->free_count >= s->keep_max) {
        s->freed_bytes += s->piece_bytes;
        free(piece);
        return;
    }
    *(void **)piece = s->free;
    s->free = piece;
    s->free_count++;
}

void chunk_store_init(struct chunk_store *s)
{
    /* 2 MiB and 4 MiB at most wait in the lists of a thread. */
    slab_init(&s->small, sizeof(struct chunk) + CHUNK_SMALL_BYTES, 1024);
    slab_init(&s->body, sizeof(struct chunk) + CHUNK_BODY_BYTES + CHUNK_SLACK_BYTES, 256);
}

void chunk_store_fini(struct chunk_store *s)
{
    slab_fini(&s->small);
    slab_fini(&s->body);
}

struct chunk *chunk_take(struct chunk_store *s, size_t bytes)
{
    struct chunk *c;
    enum chunk_kind kind;
    size_t cap;
    if (bytes <= CHUNK_SMALL_BYTES) {
        kind = CHUNK_SMALL;
        cap = CHUNK_SMALL_BYTES;
        c = slab_take(&s->small);
    } else if (bytes <= CHUNK_BODY_BYTES + CHUNK_SLACK_BYTES) {
        kind = CHUNK_BODY;
        cap = CHUNK_BODY_BYTES + CHUNK_SLACK_BYTES;
        c = slab_take(&s->body);
    } else {
        kind = CHUNK_LARGE;
        cap = (bytes + 4095) & ~(size_t)4095;
        c = malloc(sizeof *c + cap);
    }
    if (c)
        *c = (struct chunk){.cap = (uint32_t)cap, .kind = kind};
    return c;
}

void chunk_give(struct chunk_store *s, struct chunk *c)
{
    if (!c)
        return;
    fb_assert(c->kind < CHUNK_KINDS);
    if (c->kind == CHUNK_SMALL)
        slab_give(&s->small, c);
    else if (c->kind == CHUNK_BODY)
        slab_give(&s->body, c);
    else
        free(c);
}

bool chunk_append(struct chunk_store *s, struct chunk **c, struct span bytes)
{
    struct chunk *was = *c;
    struct span kept = chunk_span(was);
    if (was && was->from == was->to)
        was->from = was->to = 0;
    if (!was || chunk_room(was) < bytes.len) {
        /* twice what is there: a head that drips in is not copied for each byte */
        size_t need = kept.len + bytes.len;
        struct chunk *wider = chunk_take(s, was && need > was->cap ? need + kept.len : need);
        if (!wider)
            return false;
        if (kept.len)
            memcpy(wider->at, kept.at, kept.len);
        wider->to = (uint32_t)kept.len;
        chunk_give(s, was);
        *c = was = wider;
    }
    if (bytes.len)
        memcpy(was->at + was->to, bytes.at, bytes.len);
    was->to += (uint32_t)bytes.len;
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf_int.h"

#include <stdlib.h>

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, cap; /* bytes of <at> */
    _Alignas(16) unsigned char at[];
};

/* One chunk holds a file of some ten services; larger files double the chunks. */
#define ARENA_CHUNK_BYTES (16 * KIB)

void *arena_get(struct arena *a, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    struct arena_chunk *c = a->chunks;
    if (!c || c->cap - c->used < bytes) {
        size_t cap = c ? c->cap * 2 : ARENA_CHUNK_BYTES;
        if (cap > MIB)
            cap = MIB;
        if (cap < bytes)
            cap = bytes;
        struct arena_chunk *fresh = calloc(1, sizeof *fresh + cap);
        if (!fresh) {
            a->failed = true;
            return NULL;
        }
        fresh->cap = cap;
        fresh->next = c;
        a->chunks = c = fresh;
    }
    void *at = c->at + c->used;
    c->used += bytes;
    return at;
}

const char *arena_text(struct arena *a, struct span s)
{
    char *copy = arena_get(a, s.len + 1);
    if (!copy)
        return "";
    if (s.len)
        memcpy(copy, s.at, s.len);
    return copy;
}

void arena_fini(struct arena *a)
{
    while (a->chunks) {
        struct arena_chunk *next = a->chunks->next;
        free(a->chunks);
        a->chunks = next;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_mem.h"
#include "base/assert.h"
#include "base/sanitize.h"

#include <stdlib.h>
#include <string.h>

/* A class holds at most this many free pieces: 17 lists are 2.3 MiB at most for a thread. */
#define KEEP_MAX 256

struct piece {
    size_t bytes;   /* as asked for */
    uint32_t class; /* H2_MEM_CLASSES: from malloc */
    uint32_t magic;
    _Alignas(16) char at[];
};
#define MAGIC UINT32_C(0x68326d21)

static struct piece *piece_of(void *at)
{
    struct piece *p = (void *)((char *)at - offsetof(struct piece, at));
    fb_assert(p->magic == MAGIC);
    return p;
}

void *h2_mem_take(struct h2_mem *m, size_t bytes)
{
    size_t whole = sizeof(struct piece) + bytes;
    size_t class = (whole - 1) / H2_MEM_STEP_BYTES;
    struct piece *p;
    if (class < H2_MEM_CLASSES && m->classes[class].free) {
        p = m->classes[class].free;
        memcpy(&m->classes[class].free, p->at, sizeof(void *));
        m->classes[class].count--;
    } else {
        bool is_small = class < H2_MEM_CLASSES && !FB_IS_SANITIZED;
        p = malloc(is_small ? (class + 1) * H2_MEM_STEP_BYTES : whole);
        if (!p)
            return NULL;
        p->class = is_small ? (uint32_t) class : H2_MEM_CLASSES;
        p->magic = MAGIC;
    }
    p->bytes = bytes;
    return p->at;
}

void *h2_mem_take_zeroed(struct h2_mem *m, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size)
        return NULL;
    void *piece = h2_mem_take(m, count * size);
    if (piece)
        memset(piece, 0, count * size);
    return piece;
}

void *h2_mem_resize(struct h2_mem *m, void *piece, size_t bytes)
{
    if (!piece)
        return h2_mem_take(m, bytes);
    struct piece *p = piece_of(piece);
    if (p->class < H2_MEM_CLASSES &&
        sizeof *p + bytes <= (p->class + 1) * (size_t)H2_MEM_STEP_BYTES) {
        p->bytes = bytes;
        return piece;
    }
    void *wider = h2_mem_take(m, bytes);
    if (!wider)
        return NULL;
    memcpy(wider, piece, p->bytes < bytes ? p->bytes : bytes);
    h2_mem_give(m, piece);
    return wider;
}

void h2_mem_give(struct h2_mem *m, void *piece)
{
    if (!piece)
        return;
    struct piece *p = piece_of(piece);
    if (p->class == H2_MEM_CLASSES || m->classes[p->class].count >= KEEP_MAX) {
        p->magic = 0;
        free(p);
        return;
    }
    struct h2_mem_class *c = &m->classes[p->class];
    memcpy(p->at, &c->free, sizeof(void *));
    c->free = p;
    c->count++;
}

void h2_mem_fini(struct h2_mem *m)
{
    for (size_t i = 0; i < H2_MEM_CLASSES; i++) {
        while (m->classes[i].free) {
            struct piece *p = m->classes[i].free;
            memcpy(&m->classes[i].free, p->at, sizeof(void *));
            free(p);
        }
    }
}

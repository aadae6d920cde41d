/* SPDX-License-Identifier: Apache-2.0 */
#include "event/repeats.h"

#include "base/assert.h"
#include "base/siphash.h"

#include <stdlib.h>

#define NONE UINT32_MAX

/* A ring of names, each in the chain of its bucket. */
struct repeats {
    uint64_t key[2];
    uint64_t name[REPEATS_MAX];
    uint32_t next[REPEATS_MAX];
    uint32_t first[REPEATS_MAX]; /* of a bucket */
    uint32_t at, count;          /* where the next one goes, once full over the oldest */
};

static uint32_t bucket_of(uint64_t name)
{
    return (uint32_t)(name % REPEATS_MAX);
}

struct repeats *repeats_new(const uint64_t key[2])
{
    struct repeats *r = malloc(sizeof *r);
    if (!r)
        return NULL;
    r->key[0] = key[0];
    r->key[1] = key[1];
    r->at = r->count = 0;
    memset(r->first, 0xff, sizeof r->first);
    return r;
}

void repeats_free(struct repeats *r)
{
    free(r);
}

uint64_t repeats_name(const struct repeats *r, struct span sender, struct span source,
                      struct span id)
{
    const uint64_t whose[2] = {r->key[0] ^ siphash(r->key, sender.len ? sender : SPAN("")),
                               r->key[1]};
    const uint64_t key[2] = {whose[0] ^ siphash(whose, source), r->key[1]};
    return siphash(key, id);
}

bool repeats_knows(const struct repeats *r, uint64_t name)
{
    uint32_t i = r->first[bucket_of(name)];
    while (i != NONE && r->name[i] != name)
        i = r->next[i];
    return i != NONE;
}

static void forget(struct repeats *r, uint32_t at)
{
    uint32_t *link = &r->first[bucket_of(r->name[at])];
    while (*link != at) {
        fb_assert(*link != NONE);
        link = &r->next[*link];
    }
    *link = r->next[at];
}

void repeats_add(struct repeats *r, uint64_t name)
{
    if (repeats_knows(r, name))
        return;
    if (r->count == REPEATS_MAX)
        forget(r, r->at);
    else
        r->count++;
    r->name[r->at] = name;
    r->next[r->at] = r->first[bucket_of(name)];
    r->first[bucket_of(name)] = r->at;
    r->at = (r->at + 1) % REPEATS_MAX;
}

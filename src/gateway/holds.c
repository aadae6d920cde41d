/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/holds.h"

#include "base/assert.h"
#include "io/thread.h"

#include <stdlib.h>
#include <string.h>

#define WAYS 7
#define SETS_MAX (UINT32_C(1) << 24)
#define COUNT_BITS 20
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)

_Static_assert(HOLDS_COUNT_MAX <= COUNT_MASK, "a count fits beside its key");

struct set {
    _Alignas(FB_CACHE_LINE_BYTES) struct spin lock;
    uint64_t way[WAYS]; /* under the lock */
};
struct holds {
    uint32_t mask;
    struct set *sets;
};

struct holds *holds_new(uint32_t clients)
{
    uint32_t sets = 1;
    while (sets < SETS_MAX && (uint64_t)sets * WAYS < clients)
        sets *= 2;
    struct holds *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->mask = sets - 1;
    h->sets = aligned_alloc(FB_CACHE_LINE_BYTES, sets * sizeof(struct set));
    if (!h->sets) {
        free(h);
        return NULL;
    }
    memset(h->sets, 0, sets * sizeof(struct set));
    return h;
}

void holds_free(struct holds *h)
{
    if (!h)
        return;
    free(h->sets);
    free(h);
}

/* The set is chosen by the low bits, the word keeps the high ones. */
enum holds_answer holds_take(struct holds *h, uint64_t key, uint32_t most, uint32_t *place)
{
    fb_assert(most >= 1);
    fb_assert(most <= HOLDS_COUNT_MAX);
    uint32_t at = (uint32_t)key & h->mask, way = WAYS;
    uint64_t tag = key & ~COUNT_MASK;
    struct set *s = &h->sets[at];
    enum holds_answer answer = HOLDS_UNCOUNTED;
    spin_lock(&s->lock);
    for (uint32_t i = 0; i < WAYS; i++) {
        if (s->way[i] == 0) {
            way = way == WAYS ? i : way;
        } else if ((s->way[i] & ~COUNT_MASK) == tag) {
            way = i;
            break;
        }
    }
    if (way < WAYS && (s->way[way] & COUNT_MASK) >= most) {
        answer = HOLDS_REFUSED;
    } else if (way < WAYS) {
        s->way[way] = tag | ((s->way[way] & COUNT_MASK) + 1);
        *place = at * WAYS + way + 1;
        answer = HOLDS_TAKEN;
    }
    spin_unlock(&s->lock);
    return answer;
}

void holds_give(struct holds *h, uint32_t place)
{
    fb_assert(place > 0);
    uint32_t at = (place - 1) / WAYS, way = (place - 1) % WAYS;
    fb_assert(at <= h->mask);
    struct set *s = &h->sets[at];
    spin_lock(&s->lock);
    fb_assert((s->way[way] & COUNT_MASK) > 0);
    s->way[way]--;
    if ((s->way[way] & COUNT_MASK) == 0)
        s->way[way] = 0;
    spin_unlock(&s->lock);
}

uint64_t holds_sum(struct holds *h)
{
    uint64_t sum = 0;
    for (uint32_t at = 0; at <= h->mask; at++) {
        spin_lock(&h->sets[at].lock);
        for (uint32_t i = 0; i < WAYS; i++)
            sum += h->sets[at].way[i] & COUNT_MASK;
        spin_unlock(&h->sets[at].lock);
    }
    return sum;
}

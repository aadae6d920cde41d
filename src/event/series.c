/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets of eight places: no chains, nothing to move, and a full bucket is told. */
#include "event/series.h"

#include "base/siphash.h"

#include <stdlib.h>
#include <string.h>

#define WAYS 8u
#define BUCKETS (SERIES_MAX / WAYS)

struct total {
    uint64_t id, start_ns, time_ns, seen_s; /* id 0: free */
    double value, count;
};
struct place {
    struct total now, before; /* before: as at the begin of request <request> */
    uint64_t request;
};
struct series {
    uint64_t key[2], born_ns, now_s, request;
    uint64_t lost_ns[BUCKETS]; /* newest point of a series that lost its place there */
    struct place place[BUCKETS][WAYS];
};

struct series *series_new(const uint64_t key[2], uint64_t now_ns)
{
    struct series *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    memcpy(s->key, key, sizeof s->key);
    s->born_ns = now_ns;
    return s;
}

void series_free(struct series *s)
{
    free(s);
}

void series_begin(struct series *s, uint64_t now_s)
{
    s->request++;
    s->now_s = now_s;
}

static uint64_t bucket_of(const struct series *s, uint64_t id)
{
    struct span text = {(const char *)&id, sizeof id};
    return siphash(s->key, text) % BUCKETS;
}

static struct place *place_of(struct series *s, uint64_t id)
{
    struct place *bucket = s->place[bucket_of(s, id)], *free_one = NULL;
    for (uint32_t i = 0; i < WAYS; i++) {
        const struct total *t = &bucket[i].now;
        bool is_silent = fb_sub_floor_u64(s->now_s, t->seen_s) >= SERIES_SILENT_S;
        if (t->id == id)
            return &bucket[i];
        if (t->id == 0 ? !free_one || free_one->now.id : is_silent && !free_one)
            free_one = &bucket[i]; /* one that is empty rather than one that is silent */
    }
    return free_one;
}

static void put(struct series *s, struct place *p, const struct series_point *point)
{
    if (p->request != s->request) {
        p->request = s->request;
        p->before = p->now;
    }
    p->now = (struct total){.id = point->id,
                            .start_ns = point->start_ns,
                            .time_ns = point->time_ns,
                            .seen_s = s->now_s,
                            .value = point->value,
                            .count = point->count};
}

enum series_result series_grow(struct series *s, struct series_point *p)
{
    p->id = p->id ? p->id : 1;
    struct place *place = place_of(s, p->id);
    if (!place)
        return SERIES_FULL;
    struct total last = place->now;
    bool is_new = last.id != p->id;
    bool is_anew = p->start_ns > last.start_ns && last.start_ns;
    bool is_old = p->time_ns && p->time_ns <= last.time_ns && !is_anew;
    if (!is_new && is_old)
        return SERIES_NOTHING;
    put(s, place, p);
    if (is_new && last.id) /* it may come back, and what it told until now was told */
        s->lost_ns[bucket_of(s, p->id)] = fb_max_u64(s->lost_ns[bucket_of(s, p->id)], last.time_ns);
    if (is_new) /* what came before this process may have been told already */
        return p->start_ns > fb_max_u64(s->born_ns, s->lost_ns[bucket_of(s, p->id)])
                   ? SERIES_GREW
                   : SERIES_NOTHING;
    if (is_anew || p->count < last.count || (p->count <= 0 && p->value < last.value))
        return SERIES_GREW;
    p->value -= last.value;
    p->count -= last.count;
    return SERIES_GREW;
}

void series_undo(struct series *s)
{
    for (uint32_t i = 0; i < SERIES_MAX; i++) {
        struct place *p = &s->place[i / WAYS][i % WAYS];
        if (p->request == s->request && p->request)
            p->now = p->before;
    }
    s->request++;
}

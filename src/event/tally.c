/* SPDX-License-Identifier: Apache-2.0 */
#include "event/tally.h"

#include "base/siphash.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SET_BITS 2048u

struct place {
    char name[40];
    enum tally_kind kind;
    bool is_used, is_fresh; /* something came in this interval */
    double value;           /* counter: sum; gauge: last */
    double n, sum, min, max;
    uint64_t bits[SET_BITS / 64];
};
struct tally {
    uint32_t used, longest;
    uint64_t key[2];
    struct place place[TALLY_NAMES_MAX * 2]; /* open addressing, at most half full */
};
#define PLACES (TALLY_NAMES_MAX * 2)

struct tally *tally_new(const uint64_t key[2])
{
    struct tally *t = calloc(1, sizeof *t);
    if (t)
        memcpy(t->key, key, sizeof t->key);
    return t;
}

uint32_t tally_longest(const struct tally *t)
{
    return t->longest;
}

void tally_free(struct tally *t)
{
    free(t);
}

static struct place *place_of(struct tally *t, const char *name)
{
    uint64_t h = siphash(t->key, span_of(name));
    for (uint32_t i = 0; i < PLACES; i++) {
        struct place *p = &t->place[(h + i) % PLACES];
        t->longest = fb_max_u32(t->longest, i + 1);
        if (p->is_used && strcmp(p->name, name) == 0)
            return p;
        if (!p->is_used)
            return p;
    }
    return NULL;
}

static void add_value(const struct tally *t, struct place *p, const struct tally_sample *s)
{
    switch (s->kind) {
    case TALLY_COUNTER:
        p->value += s->value * s->weight;
        break;
    case TALLY_GAUGE:
        p->value = s->is_relative ? p->value + s->value : s->value;
        break;
    case TALLY_TIMER:
        p->min = p->is_fresh ? fmin(p->min, s->value) : s->value;
        p->max = p->is_fresh ? fmax(p->max, s->value) : s->value;
        p->n += s->weight;
        p->sum += s->value * s->weight;
        break;
    case TALLY_SET: {
        uint64_t bit = siphash(t->key, s->member) % SET_BITS;
        p->bits[bit / 64] |= UINT64_C(1) << bit % 64;
        break;
    }
    }
    p->is_fresh = true;
}

bool tally_add(struct tally *t, const struct tally_sample *s)
{
    struct place *p = place_of(t, s->name);
    if (!p || (p->is_used && p->kind != s->kind))
        return false;
    if (!p->is_used) {
        if (t->used == TALLY_NAMES_MAX)
            return false;
        t->used++;
        *p = (struct place){.kind = s->kind, .is_used = true};
        snprintf(p->name, sizeof p->name, "%s", s->name);
    }
    add_value(t, p, s);
    return true;
}

/* Linear counting: how many members made so many bits. */
static double members_of(const struct place *p)
{
    uint32_t set = 0;
    for (uint32_t i = 0; i < SET_BITS / 64; i++)
        set += (uint32_t)__builtin_popcountll(p->bits[i]);
    if (set == SET_BITS)
        set--; /* more than can be told */
    return round(-(double)SET_BITS * log(1 - (double)set / SET_BITS));
}

static double value_of(const struct place *p)
{
    return p->kind == TALLY_TIMER ? (p->n > 0 ? p->sum / p->n : 0)
           : p->kind == TALLY_SET ? members_of(p)
                                  : p->value;
}

void tally_write(const struct tally *t, struct buf *out)
{
    for (uint32_t i = 0; i < PLACES; i++) {
        const struct place *p = &t->place[i];
        if (!p->is_used || !p->is_fresh)
            continue;
        struct ev_custom ev = EV_INIT(CUSTOM, custom, 0);
        memcpy(ev.name, p->name, sizeof ev.name);
        ev.value = value_of(p);
        if (!isfinite(ev.value))
            continue;
        if (p->kind == TALLY_TIMER)
            snprintf(ev.text, sizeof ev.text, "{\"n\":%.9g,\"min\":%.9g,\"max\":%.9g,\"sum\":%.9g}",
                     p->n, p->min, p->max, p->sum);
        buf_put(out, &ev, sizeof ev);
    }
}

/* Gauges keep their value, silent ones as long as they are few. */
static bool is_kept(const struct place *p, bool is_crowded)
{
    return p->is_used && p->kind == TALLY_GAUGE && (p->is_fresh || !is_crowded);
}

/* A fresh table: places of an open addressing must not become holes. */
void tally_reset(struct tally *t)
{
    struct place *gauges = NULL;
    uint32_t count = 0, n = 0;
    bool is_crowded = t->used > TALLY_NAMES_MAX / 2;
    for (uint32_t i = 0; i < PLACES; i++)
        count += is_kept(&t->place[i], is_crowded);
    if (count)
        gauges = calloc(count, sizeof *gauges); /* without memory: relative gauges begin at 0 */
    for (uint32_t i = 0; i < PLACES && gauges; i++)
        if (is_kept(&t->place[i], is_crowded))
            gauges[n++] = t->place[i];
    memset(t, 0, sizeof *t);
    for (uint32_t i = 0; i < n; i++) {
        struct place *p = place_of(t, gauges[i].name);
        *p = gauges[i];
        p->is_fresh = false;
        t->used++;
    }
    free(gauges);
}

uint32_t tally_names(const struct tally *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < PLACES; i++)
        n += t->place[i].is_used && t->place[i].is_fresh;
    return n;
}

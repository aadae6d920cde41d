/* SPDX-License-Identifier: Apache-2.0 */
#include "analytics/curve.h"

#include "base/assert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS (2 * CURVE_KEYS) /* places in the order of last use */
#define CELLS (2 * CURVE_KEYS)
#define SHIFT_MAX 24u
#define FIRST_BIN_BYTES (64.0 * 1024)
#define BINS_PER_OCTAVE 8.0
/* Weight of the newest sample in the mean origin time: half of it is older than 35 samples. */
#define ORIGIN_ALPHA 0.02

struct curve_key {
    uint64_t hash;
    uint32_t slot, bytes;
};

/* What a snapshot holds; <key> only as far as <count>. */
struct curve {
    double weight[CURVE_BINS + 1]; /* the last: never seen before, or beyond all bins */
    double references, origin_us;
    uint64_t samples;
    uint32_t count, next_slot;
    uint16_t route;
    uint8_t shift, is_used;
    uint32_t reserved;
    struct curve_key key[CURVE_KEYS];
};
_Static_assert(offsetof(struct curve, key) % 8 == 0, "no padding");

struct room {
    struct curve c;
    uint64_t tree[SLOTS + 1]; /* Fenwick: bytes by slot */
    uint16_t cell[CELLS];     /* hash -> index + 1 */
    uint16_t by_slot[SLOTS];  /* scratch of renumber */
};

struct curves {
    struct room *room[CURVES_MAX];
};

static void rebuild(struct room *r);

struct curves *curves_new(void)
{
    return calloc(1, sizeof(struct curves));
}

void curves_free(struct curves *c)
{
    for (uint32_t i = 0; c && i < CURVES_MAX; i++)
        free(c->room[i]);
    free(c);
}

static struct room *room_of(const struct curves *c, uint16_t route)
{
    for (uint32_t i = 0; i < CURVES_MAX; i++)
        if (c->room[i] && c->room[i]->c.is_used && c->room[i]->c.route == route)
            return c->room[i];
    return NULL;
}

static struct room *room_new(struct curves *c, uint16_t route)
{
    for (uint32_t i = 0; i < CURVES_MAX; i++) {
        if (c->room[i] && c->room[i]->c.is_used)
            continue;
        if (!c->room[i])
            c->room[i] = malloc(sizeof(struct room));
        if (!c->room[i])
            return NULL;
        memset(c->room[i], 0, sizeof(struct room));
        c->room[i]->c.route = route;
        c->room[i]->c.is_used = 1;
        return c->room[i];
    }
    return NULL;
}

void curves_forget(struct curves *c, uint16_t route)
{
    struct room *r = room_of(c, route);
    if (r)
        memset(r, 0, sizeof *r);
}

/* ---- order of last use ---- */

static void tree_add(struct room *r, uint32_t slot, uint64_t bytes)
{
    for (uint32_t i = slot + 1; i <= SLOTS; i += i & (~i + 1))
        r->tree[i] += bytes; /* wraps for a negative one, and back */
}

/* Bytes of the slots before <slot>. */
static uint64_t tree_sum(const struct room *r, uint32_t slot)
{
    uint64_t sum = 0;
    for (uint32_t i = slot; i > 0; i -= i & (~i + 1))
        sum += r->tree[i];
    return sum;
}

/* All slots are used up: the keys move together, in their order. */
static void renumber(struct room *r)
{
    struct curve *c = &r->c;
    memset(r->by_slot, 0, sizeof r->by_slot);
    for (uint32_t i = 0; i < c->count; i++)
        r->by_slot[c->key[i].slot] = (uint16_t)(i + 1);
    c->next_slot = 0;
    for (uint32_t s = 0; s < SLOTS; s++)
        if (r->by_slot[s])
            c->key[r->by_slot[s] - 1].slot = c->next_slot++;
    rebuild(r);
}

/* ---- keys ---- */

static uint16_t *cell_of(struct room *r, uint64_t hash)
{
    uint32_t at = (uint32_t)(hash >> 32) & (CELLS - 1);
    while (r->cell[at] && r->c.key[r->cell[at] - 1].hash != hash)
        at = (at + 1) & (CELLS - 1);
    return &r->cell[at];
}

/* Index and order again from the keys. */
static void rebuild(struct room *r)
{
    memset(r->cell, 0, sizeof r->cell);
    memset(r->tree, 0, sizeof r->tree);
    for (uint32_t i = 0; i < r->c.count; i++) {
        *cell_of(r, r->c.key[i].hash) = (uint16_t)(i + 1);
        tree_add(r, r->c.key[i].slot, r->c.key[i].bytes);
    }
}

static bool is_sampled(uint64_t hash, uint8_t shift)
{
    return (uint32_t)hash < (UINT64_C(1) << 32) >> shift;
}

static void narrow(struct room *r, uint8_t shift)
{
    struct curve *c = &r->c;
    uint32_t kept = 0;
    c->shift = shift;
    for (uint32_t i = 0; i < c->count; i++)
        if (is_sampled(c->key[i].hash, shift))
            c->key[kept++] = c->key[i];
    c->count = kept;
    rebuild(r);
}

static uint32_t bin_of(double bytes)
{
    if (bytes <= FIRST_BIN_BYTES)
        return 0;
    double bin = ceil(log2(bytes / FIRST_BIN_BYTES) * BINS_PER_OCTAVE);
    return bin < CURVE_BINS ? (uint32_t)bin : CURVE_BINS;
}

static void use(struct room *r, const struct ev_cache_sample *s)
{
    struct curve *c = &r->c;
    double scale = (double)(UINT64_C(1) << c->shift);
    if (c->next_slot == SLOTS)
        renumber(r);
    uint16_t *cell = cell_of(r, s->key);
    struct curve_key *k;
    if (*cell) {
        k = &c->key[*cell - 1];
        uint64_t between = tree_sum(r, SLOTS) - tree_sum(r, k->slot + 1);
        c->weight[bin_of((double)(between + s->bytes) * scale)] += scale;
        tree_add(r, k->slot, 0 - (uint64_t)k->bytes);
    } else {
        c->weight[CURVE_BINS] += scale;
        k = &c->key[c->count++];
        k->hash = s->key;
        *cell = (uint16_t)c->count;
    }
    k->slot = c->next_slot++;
    k->bytes = s->bytes;
    tree_add(r, k->slot, k->bytes);
}

void curves_feed(struct curves *c, const struct ev_cache_sample *s)
{
    struct room *r = room_of(c, s->route);
    if (!r && !(r = room_new(c, s->route)))
        return;
    r->c.samples++;
    r->c.references += s->references;
    if (s->origin_us)
        r->c.origin_us += (r->c.origin_us > 0 ? ORIGIN_ALPHA : 1) * (s->origin_us - r->c.origin_us);
    if (s->shift > r->c.shift && s->shift <= SHIFT_MAX)
        narrow(r, s->shift);
    while (r->c.count >= CURVE_KEYS && r->c.shift < SHIFT_MAX)
        narrow(r, (uint8_t)(r->c.shift + 1));
    if (is_sampled(s->key, r->c.shift) && r->c.count < CURVE_KEYS)
        use(r, s);
}

void curves_fade(struct curves *c, double factor)
{
    for (uint32_t i = 0; i < CURVES_MAX; i++) {
        if (!c->room[i])
            continue;
        c->room[i]->c.references *= factor;
        for (uint32_t b = 0; b <= CURVE_BINS; b++)
            c->room[i]->c.weight[b] *= factor;
    }
}

/* ---- asking ---- */

bool curve_view(const struct curves *c, uint16_t route, struct curve_view *out)
{
    const struct room *r = room_of(c, route);
    if (!r)
        return false;
    *out = (struct curve_view){.requests = r->c.references,
                               .origin_us = r->c.origin_us,
                               .samples = r->c.samples,
                               .keys = r->c.count};
    return true;
}

double curve_hits(const struct curves *c, uint16_t route, double bytes)
{
    const struct room *r = room_of(c, route);
    if (!r || bytes <= 0)
        return 0;
    double sum = 0, all = 0, at = log2(bytes / FIRST_BIN_BYTES) * BINS_PER_OCTAVE;
    for (uint32_t b = 0; b <= CURVE_BINS; b++)
        all += r->c.weight[b];
    for (uint32_t b = 0; b < CURVE_BINS; b++) {
        double part = fb_clamp(at - (double)b + 1, 0, 1); /* bin b ends at 2^(b/8) x 64 KiB */
        if (b == 0 && bytes < FIRST_BIN_BYTES)
            part = bytes / FIRST_BIN_BYTES;
        sum += r->c.weight[b] * part;
    }
    return fb_clamp(sum + (r->c.references - all), 0, r->c.references);
}

/* ---- snapshot ---- */

void curves_save(const struct curves *c, struct buf *out)
{
    for (uint32_t i = 0; i < CURVES_MAX; i++) {
        const struct room *r = c->room[i];
        bool is_used = r && r->c.is_used;
        pack_put_u64(out, is_used);
        if (!is_used)
            continue;
        pack_put(out, &r->c, offsetof(struct curve, key));
        pack_put(out, r->c.key, r->c.count * sizeof r->c.key[0]);
    }
}

static bool load_one(struct room *r, struct unpack *u)
{
    unpack_get(u, &r->c, offsetof(struct curve, key));
    bool is_sane = !u->is_broken && r->c.count <= CURVE_KEYS && r->c.next_slot <= SLOTS &&
                   r->c.shift <= SHIFT_MAX && r->c.is_used == 1;
    if (!is_sane)
        return false;
    unpack_get(u, r->c.key, r->c.count * sizeof r->c.key[0]);
    for (uint32_t i = 0; i < r->c.count && !u->is_broken; i++)
        is_sane &= r->c.key[i].slot < SLOTS;
    if (u->is_broken || !is_sane)
        return false;
    rebuild(r);
    return true;
}

bool curves_load(struct curves *c, struct unpack *u)
{
    bool is_good = true;
    for (uint32_t i = 0; i < CURVES_MAX; i++) {
        free(c->room[i]);
        c->room[i] = NULL;
    }
    for (uint32_t i = 0; i < CURVES_MAX && is_good; i++) {
        if (unpack_get_u64(u) == 0 || u->is_broken)
            continue;
        c->room[i] = calloc(1, sizeof(struct room));
        is_good = c->room[i] && load_one(c->room[i], u);
    }
    for (uint32_t i = 0; i < CURVES_MAX && !is_good; i++)
        if (c->room[i])
            memset(c->room[i], 0, sizeof(struct room));
    return is_good && !u->is_broken;
}

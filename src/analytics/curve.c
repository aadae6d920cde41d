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

/* From so many the hottest are chosen: with fewer the last ones change places all the time. */
#define HOT_CANDIDATES (4 * CURVE_HOT)

/* The gaps between independent requests are exponential: so many quantiles of them. */
#define GAP_PARTS 8u

struct curve_key {
    uint64_t hash;
    uint32_t slot, bytes;
};
struct curve_hot {
    uint64_t hash;
    uint64_t seen_at; /* position of the route when it was told last; 0: not yet */
    double count;     /* faded */
    uint32_t bytes;
    uint32_t is_hot; /* kept apart; else it only waits to be chosen */
};

/* What a snapshot holds; <key> only as far as <count>. */
struct curve {
    double weight[CURVE_BINS + 1];     /* the last: never seen before, or beyond all bins */
    double hot_weight[CURVE_BINS + 1]; /* of keys that are kept apart */
    double references, origin_us;
    uint64_t samples, position;           /* position: requests so far, never faded */
    struct curve_hot hot[HOT_CANDIDATES]; /* count 0: free */
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
static double hot_bytes(const struct curve *c, double gap);
static double met_within(const struct curve *c, const struct curve_hot *h, double gap);

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
        double hot = hot_bytes(c, (double)(c->next_slot - k->slot) * scale);
        c->weight[bin_of((double)(between + s->bytes) * scale + hot)] += scale;
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

/* ---- the hottest, exact ---- */

static struct curve_hot *hot_of(struct curve *c, uint64_t hash)
{
    for (uint32_t i = 0; i < HOT_CANDIDATES; i++)
        if (c->hot[i].count > 0 && c->hot[i].hash == hash)
            return &c->hot[i];
    return NULL;
}

static bool is_hot(struct curve *c, uint64_t hash)
{
    const struct curve_hot *h = hot_of(c, hash);
    return h && h->is_hot;
}

/* Bytes of hot keys that are asked for within <gap> requests. */
static double hot_bytes(const struct curve *c, double gap)
{
    double sum = 0;
    for (uint32_t i = 0; i < HOT_CANDIDATES; i++)
        if (c->hot[i].is_hot)
            sum += c->hot[i].bytes * met_within(c, &c->hot[i], gap);
    return sum;
}

/* How likely it is asked for within <gap> requests. */
static double met_within(const struct curve *c, const struct curve_hot *h, double gap)
{
    return 1 - exp(-gap * h->count / fmax(c->references, h->count));
}

/* Bytes that were used within the last <gap> requests of the route. */
static double used_within(const struct room *r, double gap)
{
    double scale = (double)(UINT64_C(1) << r->c.shift), steps = gap / scale;
    uint32_t whole = (uint32_t)fmin(fmax(ceil(steps), 1), r->c.next_slot);
    if (whole == 0)
        return 0;
    uint64_t bytes = tree_sum(r, SLOTS) - tree_sum(r, r->c.next_slot - whole);
    return (double)bytes * scale * fmin(steps / whole, 1);
}

/* SpaceSaving (Metwally, Agrawal, El Abbadi): a new key takes the place and the count of the least,
 * never of one that is kept apart. */
static struct curve_hot *hot_room(struct curve *c)
{
    struct curve_hot *least = NULL;
    for (uint32_t i = 0; i < HOT_CANDIDATES; i++)
        if (!c->hot[i].is_hot && (!least || c->hot[i].count < least->count))
            least = &c->hot[i];
    fb_assert(least != NULL);
    return least;
}

/* <told> requests for <h>, each so many after the one before. */
static void use_gap(struct room *r, const struct curve_hot *h, double gap, double told)
{
    struct curve *c = &r->c;
    double own = h->bytes * met_within(c, h, gap);
    double others = fmax(hot_bytes(c, gap) - own, 0);
    c->hot_weight[bin_of(h->bytes + used_within(r, gap) + others)] += told;
}

static void use_hot(struct room *r, const struct ev_cache_sample *s)
{
    struct curve *c = &r->c;
    struct curve_hot *h = hot_of(c, s->key);
    double told = (double)s->hot_references;
    if (!h) {
        h = hot_room(c);
        *h = (struct curve_hot){.hash = s->key, .count = h->count};
    }
    h->count += told;
    h->bytes = s->bytes;
    if (h->is_hot && h->seen_at) {
        double mean = (double)(c->position - h->seen_at) / told;
        for (uint32_t q = 0; q < GAP_PARTS; q++)
            use_gap(r, h, -log(1 - (q + 0.5) / GAP_PARTS) * mean, told / GAP_PARTS);
    }
    h->seen_at = c->position;
}

/* The hottest candidates are kept apart from now on, and leave the sample. */
static void choose_hot(struct room *r)
{
    struct curve *c = &r->c;
    bool is_chosen[HOT_CANDIDATES] = {false}, is_changed = false;
    for (uint32_t n = 0; n < CURVE_HOT; n++) {
        uint32_t best = HOT_CANDIDATES;
        for (uint32_t i = 0; i < HOT_CANDIDATES; i++)
            if (!is_chosen[i] && c->hot[i].count >= 1 &&
                (best == HOT_CANDIDATES || c->hot[i].count > c->hot[best].count))
                best = i;
        if (best == HOT_CANDIDATES)
            break;
        is_chosen[best] = true;
    }
    for (uint32_t i = 0; i < HOT_CANDIDATES; i++) {
        is_changed |= c->hot[i].is_hot != is_chosen[i];
        c->hot[i].is_hot = is_chosen[i];
    }
    if (!is_changed)
        return;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->count; i++)
        if (!is_hot(c, c->key[i].hash))
            c->key[kept++] = c->key[i];
    c->count = kept;
    rebuild(r);
}

void curves_feed(struct curves *c, const struct ev_cache_sample *s)
{
    struct room *r = room_of(c, s->route);
    if (!r && !(r = room_new(c, s->route)))
        return;
    r->c.references += s->references;
    r->c.position += s->references;
    if (s->hot_references) {
        use_hot(r, s);
        return;
    }
    r->c.samples++;
    if (s->origin_us)
        r->c.origin_us += (r->c.origin_us > 0 ? ORIGIN_ALPHA : 1) * (s->origin_us - r->c.origin_us);
    if (s->shift > r->c.shift && s->shift <= SHIFT_MAX)
        narrow(r, s->shift);
    while (r->c.count >= CURVE_KEYS && r->c.shift < SHIFT_MAX)
        narrow(r, (uint8_t)(r->c.shift + 1));
    if (is_sampled(s->key, r->c.shift) && r->c.count < CURVE_KEYS && !is_hot(&r->c, s->key))
        use(r, s);
}

void curves_fade(struct curves *c, double factor)
{
    for (uint32_t i = 0; i < CURVES_MAX; i++) {
        if (!c->room[i])
            continue;
        c->room[i]->c.references *= factor;
        for (uint32_t b = 0; b <= CURVE_BINS; b++) {
            c->room[i]->c.weight[b] *= factor;
            c->room[i]->c.hot_weight[b] *= factor;
        }
        for (uint32_t k = 0; k < HOT_CANDIDATES; k++)
            c->room[i]->c.hot[k].count *= factor;
        choose_hot(c->room[i]);
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

/* Of the requests in <weight>, those that a cache of <bytes> would have answered. */
static double answered(const double *weight, double bytes, double *all)
{
    double sum = 0, at = log2(bytes / FIRST_BIN_BYTES) * BINS_PER_OCTAVE;
    *all = weight[CURVE_BINS];
    for (uint32_t b = 0; b < CURVE_BINS; b++) {
        double part = fb_clamp(at - (double)b + 1, 0, 1); /* bin b ends at 2^(b/8) x 64 KiB */
        if (b == 0 && bytes < FIRST_BIN_BYTES)
            part = bytes / FIRST_BIN_BYTES;
        sum += weight[b] * part;
        *all += weight[b];
    }
    return sum;
}

/* The hottest count as they are.  What the sample has too much or too little of is then spread over
 * it; with nothing kept apart it is the very hot keys', which a small cache answers. */
double curve_hits(const struct curves *c, uint16_t route, double bytes)
{
    const struct room *r = room_of(c, route);
    if (!r || bytes <= 0)
        return 0;
    double all, hot_all, sum = answered(r->c.weight, bytes, &all);
    double hot = answered(r->c.hot_weight, bytes, &hot_all);
    double rest = fmax(r->c.references - hot_all, 0);
    if (hot_all > 0)
        sum = all > 0 ? hot + sum * rest / all : hot;
    else
        sum += r->c.references - all;
    return fb_clamp(sum, 0, r->c.references);
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

/* SPDX-License-Identifier: Apache-2.0 */
#include "analytics/custom.h"

#include "base/assert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RING (CUSTOM_SECONDS + 1)

struct customs {
    uint64_t now_s, start_s; /* the open second; the first one that was seen whole */
    uint64_t refused;
    uint32_t count, reserved;
    struct custom_name name[CUSTOM_NAMES_MAX];
};

struct customs *customs_new(void)
{
    return calloc(1, sizeof(struct customs));
}

void customs_free(struct customs *c)
{
    free(c);
}

/* Seconds that begin now: their places in the rings are empty. */
static void open_second(struct customs *c, uint64_t now_s)
{
    if (now_s == c->now_s)
        return;
    bool is_anew = c->now_s == 0 || now_s < c->now_s || now_s - c->now_s >= RING;
    uint64_t from_s = is_anew ? now_s + 1 - RING : c->now_s + 1;
    for (uint64_t s = from_s; s != now_s + 1; s++)
        for (uint32_t i = 0; i < c->count; i++) {
            c->name[i].count[s % RING] = 0;
            c->name[i].sum[s % RING] = 0;
        }
    if (c->now_s == 0 || now_s < c->now_s) {
        c->start_s = now_s;
        for (uint32_t i = 0; i < c->count; i++)
            c->name[i].last_s = fb_min_u64(c->name[i].last_s, now_s);
    }
    c->now_s = now_s;
}

const struct custom_name *customs_find(const struct customs *c, const char *name)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (strncmp(c->name[i].name, name, sizeof c->name[i].name) == 0)
            return &c->name[i];
    return NULL;
}

bool custom_is_deploy(const char name[40], char whose[40])
{
    static const char word[] = "deploy";
    size_t len = ev_name_len(name), tail = sizeof word - 1;
    if (len < tail || memcmp(name + len - tail, word, tail) != 0 ||
        (len > tail && name[len - tail - 1] != '.'))
        return false;
    size_t rest = len > tail ? len - tail - 1 : 0;
    memset(whose, 0, 40);
    memcpy(whose, name, rest);
    return true;
}

uint64_t customs_deploy_age_s(const struct customs *c)
{
    uint64_t age_s = UINT64_MAX;
    char whose[40];
    for (uint32_t i = 0; i < c->count; i++)
        if (c->name[i].total > 0 && custom_is_deploy(c->name[i].name, whose))
            age_s = fb_min_u64(age_s, fb_sub_floor_u64(c->now_s, c->name[i].last_s));
    return age_s;
}

/* A place for a new name; NULL: all are in use. */
static struct custom_name *take_place(struct customs *c)
{
    if (c->count < CUSTOM_NAMES_MAX)
        return &c->name[c->count++];
    struct custom_name *oldest = &c->name[0];
    for (uint32_t i = 1; i < c->count; i++)
        if (c->name[i].last_s < oldest->last_s)
            oldest = &c->name[i];
    return c->now_s - oldest->last_s >= CUSTOM_SILENT_S ? oldest : NULL;
}

static void feed_custom(struct customs *c, const struct ev_custom *ev)
{
    size_t len = fb_min_u64(ev_name_len(ev->name), sizeof ev->name - 1);
    char name[sizeof ev->name] = "";
    memcpy(name, ev->name, len);
    if (len == 0 || !isfinite(ev->value))
        return;
    struct custom_name *n = (struct custom_name *)(uintptr_t)customs_find(c, name);
    if (!n) {
        n = take_place(c);
        if (!n) {
            c->refused++;
            return;
        }
        *n = (struct custom_name){.last = 0};
        memcpy(n->name, name, sizeof n->name);
    }
    uint32_t at = (uint32_t)(c->now_s % RING);
    n->last = ev->value;
    n->last_s = c->now_s;
    n->total++;
    n->total_sum += ev->value;
    n->sum[at] += ev->value;
    n->count[at] += n->count[at] < UINT32_MAX;
}

void customs_feed(struct customs *c, const struct ev_head *ev)
{
    if (ev->type == EV_CUSTOM)
        feed_custom(c, (const struct ev_custom *)ev);
    else if (ev->type == EV_TICK)
        open_second(c, ev->time_us / US_PER_S);
}

uint32_t customs_count(const struct customs *c)
{
    return c->count;
}

const struct custom_name *customs_at(const struct customs *c, uint32_t i)
{
    fb_assert(i < c->count);
    return &c->name[i];
}

struct custom_sum customs_second(const struct customs *c, const struct custom_name *n, uint32_t ago)
{
    fb_assert(ago >= 1);
    fb_assert(ago <= CUSTOM_SECONDS);
    if (ago > c->now_s - c->start_s)
        return (struct custom_sum){0, 0, 0};
    uint64_t at = (c->now_s - ago) % RING;
    return (struct custom_sum){n->count[at], n->sum[at], 1};
}

struct custom_sum customs_sum(const struct customs *c, const struct custom_name *n,
                              uint32_t seconds)
{
    struct custom_sum all = {0, 0, 0};
    for (uint32_t ago = 1; ago <= seconds; ago++) {
        struct custom_sum one = customs_second(c, n, ago);
        all.count += one.count;
        all.sum += one.sum;
        all.seconds += one.seconds;
    }
    return all;
}

uint64_t customs_now_s(const struct customs *c)
{
    return c->now_s;
}

uint64_t customs_refused(const struct customs *c)
{
    return c->refused;
}

/* ---- snapshot ---- */
void customs_save(const struct customs *c, struct buf *out)
{
    pack_put_u64(out, sizeof c->name[0]);
    pack_put_u64(out, c->count);
    pack_put_u64(out, c->now_s);
    pack_put_u64(out, c->start_s);
    pack_put_u64(out, c->refused);
    if (c->count)
        pack_put(out, c->name, c->count * sizeof c->name[0]);
}

static bool is_sane(const struct customs *c)
{
    bool is_good = c->start_s <= c->now_s;
    for (uint32_t i = 0; i < c->count && is_good; i++) {
        const struct custom_name *n = &c->name[i];
        is_good = memchr(n->name, 0, sizeof n->name) != NULL && n->last_s <= c->now_s;
    }
    return is_good;
}

bool customs_load(struct customs *c, struct unpack *u)
{
    *c = (struct customs){.count = 0};
    uint64_t bytes = unpack_get_u64(u), count = unpack_get_u64(u);
    c->now_s = unpack_get_u64(u);
    c->start_s = unpack_get_u64(u);
    c->refused = unpack_get_u64(u);
    if (!u->is_broken && bytes == sizeof c->name[0] && count <= CUSTOM_NAMES_MAX) {
        c->count = (uint32_t)count;
        if (count)
            unpack_get(u, c->name, count * sizeof c->name[0]);
        if (!u->is_broken && is_sane(c))
            return true;
    }
    *c = (struct customs){.count = 0};
    u->is_broken = true;
    return false;
}

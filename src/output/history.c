/* SPDX-License-Identifier: Apache-2.0 */
#include "output/history.h"

#include "base/assert.h"

#include <math.h>
#include <stdlib.h>

static struct history_series *series_of(struct history *h, struct fact_scope scope);
static void take_point(struct history_series *s, const struct facts *facts, uint32_t slot);

/* Three buckets per octave-and-a-half from 0.5 ms to 30 s: about 1.6 x each, fine enough to see two
 * modes that differ by 2 x, coarse enough for 24 rows on a phone. */
static const double bounds_us[HISTORY_BUCKETS] = {
    500,    800,     1250,    2000,    3150,    5000,    8000,     12500,
    20000,  31500,   50000,   80000,   125000,  200000,  315000,   500000,
    800000, 1250000, 2000000, 3150000, 5000000, 8000000, 12500000, 30000000};

const double *history_bounds_us(void)
{
    return bounds_us;
}

const char *history_column_name(unsigned column)
{
    static const char *const names[] = {
#define X(name, fact) #name,
        HISTORY_COLUMNS(X)
#undef X
    };
    fb_assert(column < HISTORY_COLUMN_COUNT);
    return names[column];
}

void history_init(struct history *h)
{
    *h = (struct history){0};
}

void history_fini(struct history *h)
{
    for (size_t i = 0; i < HISTORY_SCOPES_MAX; i++) {
        free(h->series[i].point);
        free(h->series[i].heat);
    }
    *h = (struct history){0};
}

bool history_tick(struct history *h, const struct facts *facts, uint64_t wall_us)
{
    /* 20 ms of grace: ticks come each 100 ms and a little late or early. */
    if (h->count > 0 && wall_us >= h->taken_us && wall_us - h->taken_us < US_PER_S - 20000)
        return false;
    uint32_t slot = (uint32_t)(h->count % HISTORY_POINTS_MAX);
    h->taken_us = wall_us;
    h->wall_s[slot] = wall_us / US_PER_S;
    struct fact_scope scopes[HISTORY_SCOPES_MAX];
    size_t count = facts_scopes(facts, scopes, HISTORY_SCOPES_MAX);
    fb_assert(count <= HISTORY_SCOPES_MAX);
    series_of(h, (struct fact_scope){EV_KIND_NONE, 0});
    for (size_t i = 0; i < count; i++)
        series_of(h, scopes[i]);
    for (size_t i = 0; i < HISTORY_SCOPES_MAX; i++)
        if (h->series[i].point)
            take_point(&h->series[i], facts, slot);
    h->count++;
    return true;
}

static void take_point(struct history_series *s, const struct facts *facts, uint32_t slot)
{
    static const enum fact_id columns[] = {
#define X(name, fact) FACT_##fact,
        HISTORY_COLUMNS(X)
#undef X
    };
    for (size_t c = 0; c < HISTORY_COLUMN_COUNT; c++) {
        struct fact f = facts_get(facts, s->scope, columns[c], FACT_1S);
        s->point[slot][c] = f.state == FACT_OK ? (float)f.value : NAN;
    }
    uint32_t counts[HISTORY_BUCKETS] = {0};
    facts_heat(facts, s->scope, bounds_us, counts, HISTORY_BUCKETS);
    for (size_t b = 0; b < HISTORY_BUCKETS; b++)
        s->heat[slot][b] = (uint16_t)fb_min_u32(counts[b], UINT16_MAX);
}

static bool scope_eq(struct fact_scope a, struct fact_scope b)
{
    return a.kind == b.kind && a.number == b.number;
}

/* The slot of a scope, a new one with an empty past when there is room; NULL otherwise. */
static struct history_series *series_of(struct history *h, struct fact_scope scope)
{
    struct history_series *unused = NULL;
    for (size_t i = 0; i < HISTORY_SCOPES_MAX; i++) {
        struct history_series *s = &h->series[i];
        if (s->point && scope_eq(s->scope, scope))
            return s;
        if (!s->point && !unused)
            unused = s;
    }
    if (!unused)
        return NULL;
    float(*point)[HISTORY_COLUMN_COUNT] = malloc(HISTORY_POINTS_MAX * sizeof *point);
    uint16_t(*heat)[HISTORY_BUCKETS] = calloc(HISTORY_POINTS_MAX, sizeof *heat);
    if (!point || !heat) {
        free(point);
        free(heat);
        return NULL;
    }
    for (size_t i = 0; i < HISTORY_POINTS_MAX; i++)
        for (size_t c = 0; c < HISTORY_COLUMN_COUNT; c++)
            point[i][c] = NAN;
    *unused = (struct history_series){.scope = scope, .point = point, .heat = heat};
    return unused;
}

void history_forget(struct history *h, struct fact_scope scope)
{
    for (size_t i = 0; i < HISTORY_SCOPES_MAX; i++)
        if (h->series[i].point && scope_eq(h->series[i].scope, scope)) {
            free(h->series[i].point);
            free(h->series[i].heat);
            h->series[i] = (struct history_series){0};
        }
}

const struct history_series *history_find(const struct history *h, struct fact_scope scope)
{
    for (size_t i = 0; i < HISTORY_SCOPES_MAX; i++)
        if (h->series[i].point && scope_eq(h->series[i].scope, scope))
            return &h->series[i];
    return NULL;
}

bool history_slot(const struct history *h, uint64_t age, uint32_t *slot)
{
    if (age >= fb_min_u64(h->count, HISTORY_POINTS_MAX))
        return false;
    *slot = (uint32_t)((h->count - 1 - age) % HISTORY_POINTS_MAX);
    return true;
}

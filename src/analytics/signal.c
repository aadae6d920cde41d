/* SPDX-License-Identifier: Apache-2.0 */
#include "analytics/signal.h"

#include "base/assert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Quantiles of 0.001 to a million: the sketch knows 1 to 10^9. */
#define QUANTILE_SCALE 1000.0
#define HALF_S 60
#define LEVEL_SAMPLES_MIN 50
/* Scatter over blocks, so that what is correlated over a few seconds (users who do two things)
 * counts as scatter; 5 s as the slowest common source (a scrape). */
#define BLOCK_S 5
#define BLOCKS_MIN 12
#define LONG_BLOCK_S 30
#define LONG_BLOCKS_MIN 6
/* What scatters less than 5 % a block has not been watched long enough to say so. */
#define SPREAD_FLOOR 0.05
#define DRIFT 0.01
/* The harm that is looked for first: about a fifth.  Half or twice of it costs a fifth of time. */
#define EFFECT 0.2

bool signal_conf_is_same(const struct signal_conf *a, const struct signal_conf *b)
{
    return memcmp(a, b, offsetof(struct signal_conf, old_version)) == 0;
}

struct signals *signals_new(void)
{
    return calloc(1, sizeof(struct signals));
}

void signals_free(struct signals *s)
{
    free(s);
}

bool signal_is_quantile(const struct signal *g)
{
    return g->conf.value >= SIGNAL_P50;
}

static double quantile_of(const struct signal *g)
{
    static const double q[] = {0.5, 0.75, 0.9, 0.99};
    fb_assert(signal_is_quantile(g));
    fb_assert(g->conf.value < SIGNAL_VALUE_COUNT);
    return q[g->conf.value - SIGNAL_P50];
}

const char *signal_value_name(uint8_t value)
{
    static const char *const names[] = {"rate", "sum", "mean", "last", "p50", "p75", "p90", "p99"};
    return value < FB_COUNT(names) ? names[value] : "?";
}

const char *signal_state_name(enum signal_state state)
{
    static const char *const names[] = {"ok", "insufficient_data", "watched", "unusual", "harmed"};
    return (size_t)state < FB_COUNT(names) ? names[state] : "?";
}

const char *signal_better_name(uint8_t better)
{
    static const char *const names[] = {"none", "higher", "lower"};
    return better < FB_COUNT(names) ? names[better] : "?";
}

const char *signal_unit(const struct signal *g)
{
    return g->conf.value == SIGNAL_RATE || g->conf.value == SIGNAL_SUM ? "/s" : "";
}

static bool is_per_request(const struct signal *g)
{
    return (g->conf.value == SIGNAL_RATE || g->conf.value == SIGNAL_SUM) && g->conf.service[0];
}

/* ---- configuration ---- */

static void count_services(struct signals *s)
{
    s->counting = 0;
    memset(s->is_counted, 0, sizeof s->is_counted);
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        const struct signal *g = &s->place[i];
        if (!g->conf.name[0] || !is_per_request(g) || g->service >= sizeof s->is_counted)
            continue;
        s->is_counted[g->service] = 1;
        s->counting++;
    }
}

static struct signal *place_of(struct signals *s, const struct signal_conf *conf)
{
    struct signal *empty = NULL;
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        struct signal *g = &s->place[i];
        if (signal_conf_is_same(&g->conf, conf))
            return g;
        if (!empty && !g->conf.name[0])
            empty = g;
    }
    return empty;
}

void signals_configure(struct signals *s, const struct signal_conf *conf, size_t count)
{
    fb_assert(count <= SIGNALS_MAX);
    s->used = 0;
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        bool stays = false;
        for (size_t k = 0; k < count && !stays; k++)
            stays = signal_conf_is_same(&s->place[i].conf, &conf[k]);
        if (!stays) {
            memset(&s->place[i], 0, sizeof s->place[i]);
            s->place[i].service = EV_NONE;
            s->answered[i] = 0;
        }
    }
    for (size_t k = 0; k < count; k++) {
        struct signal *g = place_of(s, &conf[k]);
        fb_assert(g != NULL);
        if (!g->conf.name[0]) {
            g->conf = conf[k];
            g->level = NAN;
            g->start_s = s->now_s + 1;
        }
        if (memcmp(g->conf.old_version, conf[k].old_version, sizeof g->conf.old_version) != 0)
            g->sides = (struct signal_sides){.step_s = 0}; /* of others, or nobody asks any more */
        memcpy(g->conf.old_version, conf[k].old_version, sizeof g->conf.old_version);
        s->used++;
    }
    count_services(s);
    signals_forget_versions(s);
}

void signals_service(struct signals *s, const char *name, uint16_t number, bool is_gone)
{
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        struct signal *g = &s->place[i];
        if (!g->conf.name[0] || !name[0] || strcmp(g->conf.service, name) != 0)
            continue;
        if (g->service == (is_gone ? EV_NONE : number))
            continue;
        g->service = is_gone ? EV_NONE : number;
        g->start_s = s->now_s + 1;
        memset(g->second, 0, sizeof g->second);
    }
    count_services(s);
}

void signals_hold(struct signals *s, uint32_t i, bool is_held)
{
    fb_assert(i < SIGNALS_MAX);
    s->place[i].is_held = is_held;
}

/* ---- feed ---- */

void signals_count_request(struct signals *s, const struct ev_request *r)
{
    if (r->service >= sizeof s->is_counted || !s->is_counted[r->service] ||
        ev_reason_is_shed(r->reason) || ev_reason_is_mirror(r->reason))
        return;
    uint8_t side = r->version < sizeof s->side ? s->side[r->version] : 0;
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        if (s->place[i].service != r->service)
            continue;
        s->answered[i]++;
        if (!side)
            continue;
        s->place[i].side[side - 1].answered++;
        s->place[i].side[side - 1].chosen += (r->traits & EV_TRAIT_BIT(SPLIT_NAMED)) != 0;
    }
}

/* A name may say a version behind it: `orders.placed@canary`. */
static bool is_of(const struct signal *g, const struct ev_custom *ev)
{
    size_t len = ev_name_len(ev->name);
    return g->conf.name[0] && strlen(g->conf.event) == len &&
           memcmp(g->conf.event, ev->name, len) == 0;
}

static void feed_side(struct signal *g, struct signal_fill *fill, double value)
{
    fill->n++;
    fill->sum += value;
    fill->squares += value * value;
    fill->last = value;
    fill->above += value > g->level;
}

static void feed_custom(struct signals *s, const struct ev_custom *ev)
{
    if (!isfinite(ev->value))
        return;
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        struct signal *g = &s->place[i];
        if (!is_of(g, ev))
            continue;
        g->last = ev->value;
        g->last_s = s->now_s;
        g->total++;
        g->fill_n += g->fill_n < UINT32_MAX;
        g->fill_sum += ev->value;
        int side = signals_side_of(s, g, ev);
        if (side >= 0)
            feed_side(g, &g->side[side], ev->value);
        if (!signal_is_quantile(g))
            continue;
        g->fill_above += ev->value > g->level; /* never above NAN */
        double scaled = fb_clamp(ev->value * QUANTILE_SCALE, 1, (double)SKETCH_MAX_US);
        g->count[0][sketch_bucket((uint64_t)scaled)]++;
        g->n[0]++;
    }
}

static double quantile_now(const struct signal *g)
{
    struct sketch all = {.n = g->n[0] + (uint64_t)g->n[1]};
    for (uint32_t b = 0; b < SKETCH_BUCKETS; b++)
        all.count[b] = g->count[0][b] + g->count[1][b];
    if (all.n < LEVEL_SAMPLES_MIN)
        return NAN;
    return sketch_quantile_us(&all, quantile_of(g)) / QUANTILE_SCALE;
}

struct signal_second signal_second_of(const struct signal *g, const struct signal_fill *fill)
{
    struct signal_second sec = {0, 0};
    switch (g->conf.value) {
    case SIGNAL_RATE:
    case SIGNAL_SUM:
        sec.x = g->conf.value == SIGNAL_RATE ? fill->n : fill->sum;
        sec.r = is_per_request(g) ? fill->answered : 1;
        break;
    case SIGNAL_MEAN:
        sec.x = fill->sum;
        sec.r = fill->n;
        break;
    case SIGNAL_LAST:
        sec.x = fill->n > 0 ? fill->last : 0;
        sec.r = fill->n > 0;
        break;
    default:
        sec.x = fill->above;
        sec.r = isnan(g->level) ? 0 : fill->n;
        break;
    }
    return sec;
}

static void close_second(struct signals *s, uint32_t i, bool is_whole)
{
    struct signal *g = &s->place[i];
    struct signal_second *sec = &g->second[s->now_s % SIGNAL_SECONDS];
    *sec = (struct signal_second){0, 0};
    is_whole = is_whole && s->now_s >= g->start_s;
    if (is_whole)
        *sec = signal_second_of(g, &(struct signal_fill){.n = g->fill_n,
                                                         .sum = g->fill_sum,
                                                         .above = g->fill_above,
                                                         .last = g->last,
                                                         .answered = s->answered[i]});
    signal_sides_close(g, s->now_s, is_whole);
    g->fill_n = 0;
    g->fill_sum = g->fill_above = 0;
    s->answered[i] = 0;
    if (!signal_is_quantile(g) || s->now_s - g->half_s < HALF_S)
        return;
    if (!g->is_held || isnan(g->level))
        g->level = quantile_now(g);
    memcpy(g->count[1], g->count[0], sizeof g->count[0]);
    memset(g->count[0], 0, sizeof g->count[0]);
    g->n[1] = g->n[0];
    g->n[0] = 0;
    g->half_s = s->now_s;
}

/* A clock that began again, or a silence longer than what is kept: nothing of before compares. */
static void begin_anew(struct signals *s, uint64_t now_s)
{
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        struct signal *g = &s->place[i];
        memset(g->second, 0, sizeof g->second);
        g->fill_n = 0;
        g->fill_sum = g->fill_above = 0;
        memset(g->side, 0, sizeof g->side);
        g->sides = (struct signal_sides){.step_s = 0};
        g->start_s = now_s + 1;
        g->half_s = now_s;
        g->last_s = fb_min_u64(g->last_s, now_s);
        s->answered[i] = 0;
    }
    s->now_s = now_s;
}

static void open_second(struct signals *s, uint64_t now_s)
{
    if (now_s == s->now_s)
        return;
    if (s->now_s == 0 || now_s < s->now_s || now_s - s->now_s >= SIGNAL_SECONDS) {
        begin_anew(s, now_s);
        return;
    }
    /* events of a time without ticks belong to no second that can be named */
    bool is_whole = now_s - s->now_s == 1;
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        if (!s->place[i].conf.name[0])
            continue;
        close_second(s, i, is_whole);
        for (uint64_t t = s->now_s + 1; t < now_s; t++)
            s->place[i].second[t % SIGNAL_SECONDS] = (struct signal_second){0, 0};
    }
    s->now_s = now_s;
}

void signals_feed(struct signals *s, const struct ev_head *ev)
{
    if (s->used == 0 && ev->type != EV_TICK)
        return;
    if (ev->type == EV_CUSTOM)
        feed_custom(s, (const struct ev_custom *)ev);
    else if (ev->type == EV_TICK)
        open_second(s, ev->time_us / US_PER_S);
}

/* ---- ask ---- */

const struct signal *signals_at(const struct signals *s, uint32_t i)
{
    return i < SIGNALS_MAX && s->place[i].conf.name[0] ? &s->place[i] : NULL;
}

const struct signal *signals_find(const struct signals *s, const char *name)
{
    for (uint32_t i = 0; i < SIGNALS_MAX; i++)
        if (s->place[i].conf.name[0] && strcmp(s->place[i].conf.name, name) == 0)
            return &s->place[i];
    return NULL;
}

uint64_t signals_now_s(const struct signals *s)
{
    return s->now_s;
}

/* What the ring still holds of [from_s, to_s). */
static void bound(const struct signals *s, const struct signal *g, uint64_t *from_s, uint64_t *to_s)
{
    uint64_t oldest_s = s->now_s >= SIGNAL_SECONDS ? s->now_s - SIGNAL_SECONDS + 1 : 0;
    *from_s = fb_max_u64(fb_max_u64(*from_s, oldest_s), g->start_s);
    *to_s = fb_min_u64(*to_s, s->now_s);
}

static double scatter(const struct signal *g, uint64_t from_s, uint64_t to_s, uint32_t blocks_min);

static struct signal_sum plain_sum(const struct signal *g, uint64_t from_s, uint64_t to_s)
{
    struct signal_sum sum = {0, 0, NAN, 0, 0};
    for (uint64_t t = from_s; t < to_s; t++) {
        const struct signal_second *sec = &g->second[t % SIGNAL_SECONDS];
        if (sec->r <= 0)
            continue;
        sum.x += sec->x;
        sum.r += sec->r;
        sum.seconds++;
    }
    return sum;
}

struct signal_sum signal_sum(const struct signals *s, const struct signal *g, uint64_t from_s,
                             uint64_t to_s)
{
    bound(s, g, &from_s, &to_s);
    struct signal_sum sum = plain_sum(g, from_s, to_s);
    sum.spread = scatter(g, from_s, to_s, BLOCKS_MIN / 2);
    return sum;
}

void signal_sum_more(const struct signals *s, const struct signal *g, uint64_t from_s,
                     uint64_t to_s, struct signal_sum *sum)
{
    bound(s, g, &from_s, &to_s);
    struct signal_sum more = plain_sum(g, from_s, to_s);
    sum->x += more.x;
    sum->r += more.r;
    sum->seconds += more.seconds;
}

double signal_shown(const struct signals *s, const struct signal *g, uint32_t seconds)
{
    if (signal_is_quantile(g))
        return quantile_now(g);
    if (g->conf.value == SIGNAL_LAST)
        return g->total ? g->last : NAN;
    uint64_t from_s = fb_sub_floor_u64(s->now_s, seconds), to_s = s->now_s;
    bound(s, g, &from_s, &to_s);
    struct signal_sum sum = plain_sum(g, from_s, to_s);
    if (g->conf.value == SIGNAL_MEAN)
        return sum.r > 0 ? sum.x / sum.r : NAN;
    /* per second, whatever r is: seconds without a request had no order */
    return to_s > from_s ? sum.x / (double)(to_s - from_s) : NAN;
}

/* Residuals of blocks of <block_s> in [from_s, to_s) against their own ratio, per unit of r. */
static double scatter_of(const struct signal *g, uint64_t from_s, uint64_t to_s, uint32_t block_s,
                         uint32_t blocks_min)
{
    double squares = 0, r = 0;
    uint32_t blocks = 0;
    struct signal_sum all = plain_sum(g, from_s, to_s);
    if (all.r <= 0)
        return NAN;
    for (uint64_t t = to_s; t >= from_s + block_s; t -= block_s) {
        struct signal_sum one = plain_sum(g, t - block_s, t);
        double off = one.x - all.x / all.r * one.r;
        squares += off * off;
        r += one.r;
        blocks += one.r > 0;
    }
    if (blocks < blocks_min || r <= 0)
        return NAN;
    /* an estimate of few blocks is itself uncertain: 12 of them count for a quarter more */
    return squares / r * (1 + 3.0 / blocks);
}

/* The larger of both: a ratio that wanders over half a minute scatters more in long blocks. */
static double scatter(const struct signal *g, uint64_t from_s, uint64_t to_s, uint32_t blocks_min)
{
    double quick = scatter_of(g, from_s, to_s, BLOCK_S, blocks_min);
    double slow = scatter_of(g, from_s, to_s, LONG_BLOCK_S, LONG_BLOCKS_MIN);
    return isnan(quick) || isnan(slow) ? quick : fmax(quick, slow);
}

bool signal_base(const struct signals *s, const struct signal *g, uint64_t from_s, uint64_t to_s,
                 struct signal_base *out)
{
    bound(s, g, &from_s, &to_s);
    *out = (struct signal_base){NAN, NAN, 0, 0, 0};
    if (to_s < from_s + (uint64_t)BLOCK_S * BLOCKS_MIN)
        return false;
    struct signal_sum all = plain_sum(g, from_s, to_s);
    if (all.seconds < BLOCKS_MIN || all.r <= 0)
        return false;
    double ratio = all.x / all.r;
    double spread = scatter(g, from_s, to_s, BLOCKS_MIN);
    if (isnan(spread))
        return false;
    double block_r = all.r / all.seconds * BLOCK_S;
    double least = SPREAD_FLOOR * SPREAD_FLOOR * ratio * ratio * block_r;
    if (g->conf.value == SIGNAL_RATE)
        least = fmax(least, ratio); /* counts scatter by chance at least (Poisson) */
    if (signal_is_quantile(g))
        least = fmax(least, ratio * (1 - fmin(ratio, 1)));
    *out = (struct signal_base){ratio, fmax(spread, least), all.r, all.seconds, 0};
    return true;
}

/* Normal distribution function. */
static double phi(double z)
{
    return 0.5 * erfc(-z / sqrt(2));
}

/* Half-normal mixture over the harmful side: a martingale while nothing changed, so that looking
 * each second does not add up to a false alarm. */
double signal_log_evidence(double harm, double var, double scale)
{
    double effect = EFFECT * scale, prior = effect * effect;
    double shrunk = harm * effect / sqrt(var * (var + prior));
    return 0.5 * log(var / (var + prior)) + 0.5 * shrunk * shrunk + log(2 * phi(shrunk));
}

struct signal_seen signal_compare(const struct signal *g, const struct signal_base *base,
                                  const struct signal_sum *sum)
{
    struct signal_seen seen = {0, 0, 0};
    if (sum->r <= 0 || base->r <= 0)
        return seen;
    double now = sum->x / sum->r, off = now - base->ratio;
    /* what was always zero has no scale of its own: then how it scatters now says how sure it is */
    double scale = base->ratio != 0 ? fabs(base->ratio) : fabs(now);
    if (scale <= 0 || (base->ratio == 0 && isnan(sum->spread)))
        return seen;
    double spread = fmax(base->spread, isnan(sum->spread) ? 0 : sum->spread);
    double var = spread * (1 / sum->r + 1 / base->r) + DRIFT * DRIFT * scale * scale;
    seen.change = off / scale;
    seen.z = off / sqrt(var);
    bool is_high_good = g->conf.better == SIGNAL_HIGHER;
    double harm = is_high_good ? -off : off;
    if (g->conf.better != SIGNAL_NONE && harm > 0)
        seen.log_e = fmax(0, signal_log_evidence(harm, var, scale));
    return seen;
}

/* ---- snapshot ---- */

void signals_save(const struct signals *s, struct buf *out)
{
    pack_put_u64(out, sizeof *s);
    pack_put(out, s, sizeof *s);
}

static bool is_terminated(const char *text, size_t bytes)
{
    return memchr(text, 0, bytes) != NULL;
}

static bool is_sane(const struct signal *g)
{
    return is_terminated(g->conf.name, sizeof g->conf.name) &&
           is_terminated(g->conf.event, sizeof g->conf.event) &&
           is_terminated(g->conf.service, sizeof g->conf.service) &&
           is_terminated(g->conf.old_version, sizeof g->conf.old_version) &&
           g->conf.value < SIGNAL_VALUE_COUNT && g->conf.better <= SIGNAL_LOWER;
}

bool signals_load(struct signals *s, struct unpack *u)
{
    bool is_good = unpack_get_u64(u) == sizeof *s;
    if (is_good)
        unpack_get(u, s, sizeof *s);
    is_good = is_good && !u->is_broken && s->used <= SIGNALS_MAX;
    for (uint32_t i = 0; i < SIGNALS_MAX && is_good; i++)
        is_good = is_sane(&s->place[i]) && s->place[i].half_s <= s->now_s;
    for (uint32_t i = 0; i < SIGNAL_VERSIONS_MAX && is_good; i++)
        is_good = is_terminated(s->version[i].name, sizeof s->version[i].name);
    for (size_t i = 0; i < sizeof s->side && is_good; i++)
        is_good = s->side[i] <= SIGNAL_SIDES;
    if (!is_good) {
        memset(s, 0, sizeof *s);
        u->is_broken = true;
    }
    return is_good;
}

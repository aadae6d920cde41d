/* SPDX-License-Identifier: Apache-2.0 */
/* What the new version does to a signal, compared with the old one at the same time.
 *
 * Block b of 5 s has x events (or what the signal sums) of r requests on each side.  Without a
 * difference the new side would have r_new / r of what both have; what it has less or more is
 *   off_b = x_new - r_new / r * x   and stands for   weight_b = r_new * r_old / r   requests,
 * so off / weight, summed, is the difference of the two ratios (Mantel and Haenszel's estimate over
 * strata of time).  Its variance comes from the blocks themselves, so that users who do several
 * things in a row count as scatter. */
#include "analytics/signal.h"

#include "base/assert.h"

#include <math.h>
#include <string.h>

#define BLOCK_S 5
/* Counts have a variance of their own, so half a minute says enough; other values need a minute
 * until their scatter is known. */
#define COUNT_BLOCKS_MIN 6
#define BLOCKS_MIN 12
/* As for what a signal was before: what scatters less has not been watched long enough. */
#define SPREAD_FLOOR 0.05
/* Two groups of people are never quite alike, however many came: twice the drift of one signal.
 */
#define UNLIKE 0.02
/* Events that name no version, against what the new side should have: were they all its own, it
 * would have sold a tenth more. */
#define UNNAMED_MAX 0.1
#define NAMED_MIN 10
/* Those who ask for a version by its name are no sample of all: testers, who do not buy. */
#define CHOSEN_MAX 0.1
/* Of the new side, before it is looked at: the sum of fewer values is no normal one yet. */
#define EXPECTED_MIN 25
/* A step counts when caches are warm and its events have come.  Those of an application come late,
 * through a queue or once a minute: until then the new side would look as if it did nothing.  As
 * long again as half of them took, and no longer than a minute: a version that sells nothing must
 * not be waited for. */
#define SETTLE_S 10
#define LATE_S 60
#define PROBE_MIN 30

/* ---- who is who ---- */

static size_t name_of(const struct signal *g, struct span label, char out[], size_t room)
{
    size_t head = strlen(g->conf.service);
    if (!head || label.len == 0 || head + 1 + label.len >= room)
        return 0;
    memcpy(out, g->conf.service, head);
    out[head] = ' ';
    memcpy(out + head + 1, label.at, label.len);
    out[head + 1 + label.len] = '\0';
    return head + 1 + label.len;
}

static const struct signal_version *find(const struct signals *s, const struct signal *g,
                                         struct span label)
{
    char name[SIGNAL_VERSION_NAME_BYTES];
    if (!name_of(g, label, name, sizeof name))
        return NULL;
    for (uint32_t i = 0; i < SIGNAL_VERSIONS_MAX; i++)
        if (strcmp(s->version[i].name, name) == 0)
            return &s->version[i];
    return NULL;
}

/* Numbers of versions belong to one service each, so all its signals share the table. */
void signals_find_sides(struct signals *s)
{
    memset(s->side, 0, sizeof s->side);
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        const struct signal *g = &s->place[i];
        const struct signal_version *old = find(s, g, span_of(g->conf.old_version));
        size_t head = strlen(g->conf.service);
        for (uint32_t k = 0; old && k < SIGNAL_VERSIONS_MAX; k++) {
            const struct signal_version *v = &s->version[k];
            if (strncmp(v->name, g->conf.service, head) == 0 && v->name[head] == ' ' &&
                v->number < sizeof s->side)
                s->side[v->number] = v == old ? SIGNAL_OLD + 1 : SIGNAL_NEW + 1;
        }
    }
}

/* Other services may have any number of versions: they take no place. */
static bool is_asked_for(const struct signals *s, const char *name)
{
    bool is_asked = false;
    for (uint32_t i = 0; i < SIGNALS_MAX && !is_asked; i++) {
        const struct signal_conf *conf = &s->place[i].conf;
        size_t head = strlen(conf->service);
        is_asked = conf->name[0] && conf->old_version[0] &&
                   strncmp(name, conf->service, head) == 0 && name[head] == ' ';
    }
    return is_asked;
}

void signals_version(struct signals *s, const char *name, uint16_t number, bool is_gone)
{
    struct signal_version *at = NULL;
    for (uint32_t i = 0; i < SIGNAL_VERSIONS_MAX; i++) {
        struct signal_version *v = &s->version[i];
        if (!is_gone && v->name[0] && v->number == number && strcmp(v->name, name) == 0)
            return; /* it keeps its place: each configuration says all of them again */
        if (v->name[0] && v->number == number)
            memset(v, 0, sizeof *v); /* a number that now means something else */
        if (!at && !v->name[0])
            at = v;
    }
    if (at && !is_gone && strlen(name) < sizeof at->name && is_asked_for(s, name)) {
        memcpy(at->name, name, strlen(name));
        at->number = number;
    }
    signals_find_sides(s);
}

void signals_forget_versions(struct signals *s)
{
    for (uint32_t i = 0; i < SIGNAL_VERSIONS_MAX; i++)
        if (s->version[i].name[0] && !is_asked_for(s, s->version[i].name))
            memset(&s->version[i], 0, sizeof s->version[i]);
    signals_find_sides(s);
}

bool signal_knows_old(const struct signals *s, const struct signal *g)
{
    return find(s, g, span_of(g->conf.old_version)) != NULL;
}

int signals_side_of(const struct signals *s, const struct signal *g, const struct ev_custom *ev)
{
    size_t len = ev_name_len(ev->name), all = strnlen(ev->name, sizeof ev->name);
    if (!g->conf.old_version[0] || len == all)
        return -1;
    const struct signal_version *v = find(s, g, (struct span){ev->name + len + 1, all - len - 1});
    uint8_t side = v && v->number < sizeof s->side ? s->side[v->number] : 0;
    return (int)side - 1;
}

/* ---- names ---- */

/* The text of the member `version` of an object of JSON as ingest writes it, "" when there is none:
 * not one of an object inside, and none with an escape. */
static struct span version_in(struct span text)
{
    static const struct span key = {"\"version\":\"", 11};
    uint32_t depth = 0;
    for (size_t i = 0; i < text.len; i++) {
        struct span rest = {text.at + i, text.len - i};
        if (text.at[i] == '{' || text.at[i] == '[')
            depth++;
        if ((text.at[i] == '}' || text.at[i] == ']') && depth-- == 0)
            break;
        if (text.at[i] != '"')
            continue;
        bool is_key = depth == 1 && i > 0 && (text.at[i - 1] == '{' || text.at[i - 1] == ',');
        if (is_key && span_starts(rest, key)) {
            const char *from = rest.at + key.len;
            const char *end = memchr(from, '"', rest.len - key.len);
            return (struct span){from, end ? (size_t)(end - from) : 0};
        }
        for (i++; i < text.len && text.at[i] != '"'; i++)
            i += text.at[i] == '\\';
    }
    return SPAN("");
}

void signals_label(const struct signals *s, struct ev_custom *ev)
{
    size_t len = strnlen(ev->name, sizeof ev->name);
    if (s->used == 0 || ev->text[0] != '{' || memchr(ev->name, '@', len))
        return;
    struct span label = version_in((struct span){ev->text, strnlen(ev->text, sizeof ev->text)});
    if (label.len == 0 || len + 1 + label.len >= sizeof ev->name)
        return;
    for (uint32_t i = 0; i < SIGNALS_MAX; i++) {
        const struct signal *g = &s->place[i];
        if (!g->conf.name[0] || !g->conf.old_version[0] || strlen(g->conf.event) != len ||
            memcmp(g->conf.event, ev->name, len) != 0 || !find(s, g, label))
            continue;
        ev->name[len] = '@';
        memcpy(ev->name + len + 1, label.at, label.len);
        return;
    }
}

/* ---- count ---- */

/* Compared per request, so that what comes late is missed. */
static bool is_count(const struct signal *g)
{
    return g->conf.value == SIGNAL_RATE || g->conf.value == SIGNAL_SUM;
}

void signals_sides(struct signals *s, uint32_t i, uint64_t step_s, double from_pct, double to_pct)
{
    fb_assert(i < SIGNALS_MAX);
    struct signal *g = &s->place[i];
    double half = (from_pct + to_pct) / 200, step = (to_pct - from_pct) / 100;
    g->sides = (struct signal_sides){.step_s = step_s, .half = half};
    if (step_s == 0)
        return;
    if (step <= 0 || !is_count(g))
        g->sides.from_s = step_s + SETTLE_S;
    /* Before a first step there are none of the new side: two say that it has begun.  Later the two
     * shares must be told apart: half of the step is three standard errors. */
    g->sides.probe_n = fmax(PROBE_MIN, from_pct <= 0 ? 2 / fmax(half, 1e-4)
                                                     : 36 * half * (1 - half) / (step * step));
}

/* Have the events of the step come? */
static void wait_for_events(struct signal *g, uint64_t second_s)
{
    struct signal_sides *b = &g->sides;
    for (int k = 0; k < SIGNAL_SIDES; k++)
        b->probe[k] += g->side[k].n;
    double all = b->probe[SIGNAL_OLD] + b->probe[SIGNAL_NEW];
    uint64_t took_s = fb_sub_floor_u64(second_s, b->step_s);
    bool is_enough = all >= b->probe_n;
    if (is_enough && b->probe[SIGNAL_NEW] >= b->half * all)
        b->from_s = b->step_s + fb_max_u64(SETTLE_S, fb_min_u64(2 * took_s, LATE_S));
    else if (took_s >= LATE_S)
        b->from_s = second_s + 1;
    if (is_enough)
        memset(b->probe, 0, sizeof b->probe);
}

static void close_block(const struct signal *g, struct signal_sides *b)
{
    double r_old = b->block_r[SIGNAL_OLD], r_new = b->block_r[SIGNAL_NEW], r = r_old + r_new;
    double x = b->block_x[SIGNAL_OLD] + b->block_x[SIGNAL_NEW];
    if (r_old > 0 && r_new > 0) {
        double weight = r_new * r_old / r;
        double off = b->block_x[SIGNAL_NEW] - r_new / r * x, p = x / r;
        b->off += off;
        b->weight += weight;
        b->off_off += off * off;
        b->off_weight += off * weight;
        b->weight_weight += weight * weight;
        if (g->conf.value == SIGNAL_RATE)
            b->chance += weight * p; /* Poisson */
        else if (g->conf.value == SIGNAL_SUM)
            b->chance += weight * b->block_squares / r; /* compound Poisson */
        else if (signal_is_quantile(g))
            b->chance += weight * p * (1 - fmin(p, 1));
        b->blocks++;
    }
    b->block_s = 0;
    b->block_squares = 0;
    memset(b->block_x, 0, sizeof b->block_x);
    memset(b->block_r, 0, sizeof b->block_r);
}

static void count_second(struct signal *g)
{
    struct signal_sides *b = &g->sides;
    for (int k = 0; k < SIGNAL_SIDES; k++) {
        const struct signal_fill *fill = &g->side[k];
        struct signal_second sec = signal_second_of(g, fill);
        b->x[k] += sec.x;
        b->r[k] += sec.r;
        b->n[k] += fill->n;
        b->squares[k] += fill->squares;
        b->block_x[k] += sec.x;
        b->block_r[k] += sec.r;
        b->block_squares += fill->squares;
    }
    b->chosen += g->side[SIGNAL_NEW].chosen;
    b->events += g->fill_n;
    if (++b->block_s == BLOCK_S)
        close_block(g, b);
}

void signal_sides_close(struct signal *g, uint64_t second_s, bool is_whole)
{
    const struct signal_sides *b = &g->sides;
    if (b->step_s > 0 && is_whole && b->from_s > 0 && second_s >= b->from_s)
        count_second(g);
    else if (b->step_s > 0 && b->from_s == 0)
        wait_for_events(g, second_s);
    memset(g->side, 0, sizeof g->side);
}

/* ---- ask ---- */

/* Of the events that name a version, those that the new side has when it is as good as the old. */
static double expected(const struct signal *g)
{
    const struct signal_sides *b = &g->sides;
    if (!is_count(g))
        return b->n[SIGNAL_NEW];
    return (b->n[SIGNAL_OLD] + b->n[SIGNAL_NEW]) * b->r[SIGNAL_NEW] /
           (b->r[SIGNAL_OLD] + b->r[SIGNAL_NEW]);
}

const char *signal_sides_lack(const struct signal *g)
{
    const struct signal_sides *b = &g->sides;
    double named = b->n[SIGNAL_OLD] + b->n[SIGNAL_NEW], unnamed = b->events - named;
    double r = b->r[SIGNAL_OLD] + b->r[SIGNAL_NEW];
    if (b->step_s == 0)
        return "no split rose, or the routes of its service have different shares";
    if (b->from_s == 0)
        return "the events of the step have not come yet";
    if (unnamed > UNNAMED_MAX * b->events * (r > 0 ? b->r[SIGNAL_NEW] / r : 0) ||
        (unnamed > 0 && b->n[SIGNAL_NEW] == 0))
        return "too many events name no version";
    if (b->blocks == 0 || named < NAMED_MIN)
        return "too little came of both versions";
    if (is_count(g) && b->chosen > CHOSEN_MAX * b->r[SIGNAL_NEW])
        return "too many requests ask for the version by its name";
    return NULL;
}

bool signal_has_sides(const struct signal *g)
{
    return signal_sides_lack(g) == NULL;
}

bool signal_sides_are_known(const struct signal *g)
{
    const struct signal_sides *b = &g->sides;
    uint32_t least = g->conf.value == SIGNAL_RATE ? COUNT_BLOCKS_MIN : BLOCKS_MIN;
    return b->blocks >= least && signal_has_sides(g) &&
           (g->conf.value == SIGNAL_LAST || expected(g) >= EXPECTED_MIN);
}

/* The least variance of the difference, times the weight squared. */
static double chance_of(const struct signal *g)
{
    const struct signal_sides *b = &g->sides;
    if (g->conf.value != SIGNAL_MEAN)
        return b->chance;
    double within = 0, n = b->r[SIGNAL_OLD] + b->r[SIGNAL_NEW];
    for (int k = 0; k < SIGNAL_SIDES; k++)
        within += fmax(0, b->squares[k] - b->x[k] * b->x[k] / b->r[k]);
    return b->weight * within / fmax(1, n - SIGNAL_SIDES);
}

/* Events that name no version are those of the side that they help: one in nine of the new side's
 * would else be a harm of 11 %, of which ten minutes of 50 orders a second are sure. */
static double doubt_of(const struct signal *g)
{
    const struct signal_sides *b = &g->sides;
    double named = b->n[SIGNAL_OLD] + b->n[SIGNAL_NEW], r = b->r[SIGNAL_OLD] + b->r[SIGNAL_NEW];
    if (!is_count(g))
        return 0;
    double each = (b->x[SIGNAL_OLD] + b->x[SIGNAL_NEW]) / named;
    double all = (b->events - named) * each;
    return g->conf.better == SIGNAL_HIGHER ? all * b->r[SIGNAL_OLD] / r
                                           : -all * b->r[SIGNAL_NEW] / r;
}

struct signal_seen signal_compare_sides(const struct signal *g)
{
    const struct signal_sides *b = &g->sides;
    struct signal_seen seen = {0, 0, 0};
    if (!signal_sides_are_known(g))
        return seen;
    double old = b->x[SIGNAL_OLD] / b->r[SIGNAL_OLD], off = b->off / b->weight;
    double sure = (b->off + doubt_of(g)) / b->weight;
    double scale = old != 0 ? fabs(old) : fabs(off);
    if (scale <= 0)
        return seen;
    double squares = b->off_off - 2 * off * b->off_weight + off * off * b->weight_weight;
    double floor = 2 * SPREAD_FLOOR * SPREAD_FLOOR * scale * scale * b->weight_weight;
    double spread = fmax(fmax(squares * (1 + 3.0 / b->blocks), chance_of(g)), floor);
    double var = spread / (b->weight * b->weight) + UNLIKE * UNLIKE * scale * scale;
    double harm = g->conf.better == SIGNAL_HIGHER ? -sure : sure;
    seen.change = sure / scale;
    seen.z = sure / sqrt(var);
    if (g->conf.better != SIGNAL_NONE && harm > 0)
        seen.log_e = fmax(0, signal_log_evidence(harm, var, scale));
    return seen;
}

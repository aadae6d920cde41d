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
/* Fewer events than this that name no version: a version that does not say its name would look as
 * if it did nothing. */
#define UNNAMED_MAX 0.1
#define NAMED_MIN 10

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

void signals_version(struct signals *s, const char *name, uint16_t number, bool is_gone)
{
    struct signal_version *at = NULL;
    for (uint32_t i = 0; i < SIGNAL_VERSIONS_MAX; i++) {
        struct signal_version *v = &s->version[i];
        if (v->name[0] && v->number == number)
            memset(v, 0, sizeof *v); /* a number that now means something else */
        if (!at && !v->name[0])
            at = v;
    }
    if (at && !is_gone && strlen(name) < sizeof at->name) {
        memcpy(at->name, name, strlen(name));
        at->number = number;
    }
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

void signals_sides(struct signals *s, uint32_t i, uint64_t from_s)
{
    fb_assert(i < SIGNALS_MAX);
    s->place[i].sides = (struct signal_sides){.from_s = from_s};
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
        else if (signal_is_quantile(g))
            b->chance += weight * p * (1 - fmin(p, 1));
        b->blocks++;
    }
    b->block_s = 0;
    memset(b->block_x, 0, sizeof b->block_x);
    memset(b->block_r, 0, sizeof b->block_r);
}

void signal_sides_close(struct signal *g, bool is_whole)
{
    struct signal_sides *b = &g->sides;
    if (is_whole) {
        for (int k = 0; k < SIGNAL_SIDES; k++) {
            struct signal_second sec = signal_second_of(g, &g->side[k]);
            b->x[k] += sec.x;
            b->r[k] += sec.r;
            b->block_x[k] += sec.x;
            b->block_r[k] += sec.r;
            b->named += g->side[k].n;
        }
        b->events += g->fill_n;
        if (++b->block_s == BLOCK_S)
            close_block(g, b);
    }
    memset(g->side, 0, sizeof g->side);
}

/* ---- ask ---- */

bool signal_has_sides(const struct signal *g)
{
    const struct signal_sides *b = &g->sides;
    return b->named >= NAMED_MIN && b->events - b->named <= UNNAMED_MAX * b->events;
}

struct signal_seen signal_compare_sides(const struct signal *g)
{
    const struct signal_sides *b = &g->sides;
    struct signal_seen seen = {0, 0, 0};
    uint32_t least = g->conf.value == SIGNAL_RATE ? COUNT_BLOCKS_MIN : BLOCKS_MIN;
    if (b->blocks < least || !signal_has_sides(g))
        return seen;
    double old = b->x[SIGNAL_OLD] / b->r[SIGNAL_OLD], off = b->off / b->weight;
    double scale = old != 0 ? fabs(old) : fabs(off);
    if (scale <= 0)
        return seen;
    double squares = b->off_off - 2 * off * b->off_weight + off * off * b->weight_weight;
    double floor = 2 * SPREAD_FLOOR * SPREAD_FLOOR * scale * scale * b->weight_weight;
    double spread = fmax(fmax(squares * (1 + 3.0 / b->blocks), b->chance), floor);
    double var = spread / (b->weight * b->weight) + UNLIKE * UNLIKE * scale * scale;
    double harm = g->conf.better == SIGNAL_HIGHER ? -off : off;
    seen.change = off / scale;
    seen.z = off / sqrt(var);
    if (g->conf.better != SIGNAL_NONE && harm > 0)
        seen.log_e = fmax(0, signal_log_evidence(harm, var, scale));
    return seen;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A series of a rule is known by a hash of the rule, the name and the labels in any order; two of
 * one hash in 4,096 come once in 10^12 pages. */
#include "event/scrape.h"

#include "base/assert.h"
#include "base/siphash.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define BOUNDS_MAX 64                  /* buckets of a histogram, over all its series */
#define PLACES (2 * SCRAPE_SERIES_MAX) /* those of before and those of this page */
#define INDEX_SIZE (2 * PLACES)
#define QUANTILE 0.99

enum shape { SHAPE_LEVEL, SHAPE_COUNTER, SHAPE_PAIR, SHAPE_BUCKET };
struct series {
    uint64_t key;
    uint16_t rule;
    uint8_t shape;
    bool is_seen, has_count, has_sum, has_before;
    double bound;       /* of a bucket */
    double now, before; /* of a pair: the count */
    double sum, sum_before;
};
struct bucket {
    double bound, came;
};
/* What one rule comes to. */
struct total {
    uint32_t levels, rates, pairs, buckets;
    double level, least, most, rate, count, sum;
    bool is_crowded; /* too many bounds: no quantile */
    struct bucket bucket[BOUNDS_MAX];
};

struct scrape {
    uint64_t secret[2];
    char *text;
    struct scrape_rule rule[SCRAPE_RULES_MAX];
    uint32_t rules, found[SCRAPE_RULES_MAX], counting[SCRAPE_RULES_MAX];
    struct series *series;
    uint32_t count, cap, seen;
    uint16_t index[INDEX_SIZE]; /* 0: free, else number + 1 */
    bool is_bad;
    uint64_t last_us, resets; /* last_us 0: no page yet */
    struct total total;
};

static bool matches(const struct scrape_rule *rule, const struct prom_sample *m);
static void take_for(struct scrape *s, uint32_t rule, const struct prom_sample *m);
static struct series *series_of(struct scrape *s, const struct series *like);
static void sum_up(struct scrape *s, uint32_t rule, double seconds);
static void tell(struct scrape *s, uint32_t rule, double seconds, scrape_fact *each, void *arg);
static void forget_gone(struct scrape *s);

/* ---- rules ---- */
struct scrape *scrape_new(struct span rules, const uint64_t key[2], struct fb_err *err)
{
    struct scrape *s = calloc(1, sizeof *s);
    if (s)
        s->text = malloc(rules.len + 1);
    if (!s || !s->text) {
        free(s);
        fb_fail(err, FB_E_NOMEM, "no memory for the rules of a scrape");
        return NULL;
    }
    memcpy(s->secret, key, sizeof s->secret);
    if (rules.len)
        memcpy(s->text, rules.at, rules.len);
    for (struct span rest = {s->text, rules.len}; rest.len > 0;) {
        struct span line = span_cut(rest, '\n', &rest);
        if (s->rules == SCRAPE_RULES_MAX)
            fb_fail(err, FB_E_CONFIG, "at most %d rules", SCRAPE_RULES_MAX);
        else if (scrape_rule_parse(line, &s->rule[s->rules], err) == FB_OK) {
            s->rules++;
            continue;
        }
        scrape_free(s);
        return NULL;
    }
    return s;
}

void scrape_free(struct scrape *s)
{
    if (!s)
        return;
    free(s->text);
    free(s->series);
    free(s);
}

uint32_t scrape_rules(const struct scrape *s)
{
    return s->rules;
}

uint32_t scrape_found(const struct scrape *s, uint32_t rule, struct span *text)
{
    fb_assert(rule < s->rules);
    *text = s->rule[rule].name;
    return s->found[rule];
}

uint64_t scrape_resets(const struct scrape *s)
{
    return s->resets;
}

bool scrape_is_good(const struct scrape *s)
{
    return !s->is_bad;
}

/* ---- a page ---- */
void scrape_begin(struct scrape *s)
{
    s->is_bad = false;
    s->seen = 0;
    memset(s->counting, 0, sizeof s->counting);
    for (uint32_t i = 0; i < s->count; i++)
        s->series[i].is_seen = s->series[i].has_count = s->series[i].has_sum = false;
}

void scrape_take(struct scrape *s, const struct prom_sample *sample)
{
    for (uint32_t i = 0; i < s->rules && !s->is_bad; i++)
        if (matches(&s->rule[i], sample))
            take_for(s, i, sample);
}

static bool is_counter_name(const struct prom_sample *m, struct span name)
{
    return m->type == PROM_COUNTER && m->name.len == name.len + 6 && span_starts(m->name, name) &&
           memcmp(m->name.at + name.len, "_total", 6) == 0;
}

static struct span value_of(const struct prom_sample *m, struct span label)
{
    for (uint32_t i = 0; i < m->label_count; i++)
        if (span_eq(m->label[i].name, label))
            return m->label[i].value;
    return SPAN("");
}

static bool matches(const struct scrape_rule *rule, const struct prom_sample *m)
{
    if (!span_eq(rule->name, m->name) && !is_counter_name(m, rule->name) &&
        !(m->part != PROM_VALUE && span_eq(rule->name, m->family)))
        return false;
    for (uint32_t i = 0; i < rule->match_count; i++) {
        const struct scrape_match *w = &rule->match[i];
        struct span value = value_of(m, w->label);
        bool is_equal = w->is_prefix ? span_starts(value, w->value) : span_eq(value, w->value);
        if (is_equal == w->is_not)
            return false;
    }
    return true;
}

static bool is_asked(const struct scrape_rule *rule, struct span label)
{
    for (uint32_t i = 0; i < rule->match_count; i++)
        if (span_eq(rule->match[i].label, label))
            return true;
    return false;
}

static uint64_t hash_of(const struct scrape *s, struct span text, uint64_t salt)
{
    uint64_t key[2] = {s->secret[0], s->secret[1] ^ salt};
    return siphash(key, text);
}

/* Labels count in any order. */
static uint64_t key_of(const struct scrape *s, const struct prom_sample *m, struct span name,
                       uint32_t rule)
{
    uint64_t h = hash_of(s, name, rule + 1);
    for (uint32_t i = 0; i < m->label_count; i++)
        h += hash_of(s, m->label[i].value, hash_of(s, m->label[i].name, 0));
    return h;
}

static bool bound_of(const struct prom_sample *m, double *bound)
{
    char copy[40], *end;
    struct span le = value_of(m, SPAN("le"));
    if (le.len == 0 || le.len >= sizeof copy)
        return false;
    memcpy(copy, le.at, le.len);
    copy[le.len] = '\0';
    *bound = strtod(copy, &end);
    return *end == '\0' && !isnan(*bound);
}

static bool is_counter(const struct scrape_rule *rule, const struct prom_sample *m)
{
    if (rule->how == SCRAPE_AS_IS)
        return false;
    return rule->how == SCRAPE_RATE || m->type == PROM_COUNTER || m->part != PROM_VALUE ||
           (m->type == PROM_UNTYPED && scrape_rule_is_plain(rule));
}

static void take_for(struct scrape *s, uint32_t rule, const struct prom_sample *m)
{
    const struct scrape_rule *r = &s->rule[rule];
    struct series like = {.rule = (uint16_t)rule, .shape = SHAPE_LEVEL};
    bool is_whole = m->part != PROM_VALUE && !span_eq(r->name, m->name);
    if (isnan(m->value) || (isinf(m->value) && is_counter(r, m)))
        return;
    /* The quantiles of a summary are taken when the rule asks for one of them. */
    if (m->type == PROM_SUMMARY && m->part == PROM_VALUE && !is_asked(r, SPAN("quantile")))
        return;
    if (is_whole && m->part == PROM_BUCKET) {
        like.shape = SHAPE_BUCKET;
        if (!bound_of(m, &like.bound))
            return;
    } else if (is_whole) {
        like.shape = SHAPE_PAIR;
    } else if (is_counter(r, m)) {
        like.shape = SHAPE_COUNTER;
    }
    like.key = key_of(s, m, like.shape == SHAPE_PAIR ? m->family : m->name, rule);
    struct series *at = series_of(s, &like);
    if (!at || (at->is_seen && like.shape != SHAPE_PAIR))
        return; /* no room; or the same one twice: the first counts */
    s->seen += !at->is_seen;
    s->is_bad = s->seen > SCRAPE_SERIES_MAX;
    s->counting[rule] += !at->is_seen && like.shape != SHAPE_BUCKET;
    at->is_seen = true;
    if (like.shape == SHAPE_PAIR && m->part == PROM_SUM) {
        at->sum = m->value;
        at->has_sum = true;
    } else {
        at->now = m->value;
        at->has_count = true;
    }
}

static struct series *series_of(struct scrape *s, const struct series *like)
{
    uint32_t i = (uint32_t)(like->key % INDEX_SIZE);
    for (; s->index[i]; i = (i + 1) % INDEX_SIZE) {
        struct series *at = &s->series[s->index[i] - 1];
        if (at->key == like->key && at->rule == like->rule && at->shape == like->shape)
            return at;
    }
    s->is_bad = s->count == PLACES;
    if (!s->is_bad && s->count == s->cap) {
        uint32_t cap = s->cap ? 2 * s->cap : 32;
        struct series *more = realloc(s->series, cap * sizeof *more);
        s->is_bad = !more;
        s->series = more ? more : s->series;
        s->cap = more ? cap : s->cap;
    }
    if (s->is_bad)
        return NULL;
    s->series[s->count] = *like;
    s->index[i] = (uint16_t)(++s->count);
    return &s->series[s->count - 1];
}

/* What came in this page is as if it had not come; new series have no value before. */
void scrape_abort(struct scrape *s)
{
    for (uint32_t i = 0; i < s->count; i++)
        s->series[i].is_seen = s->series[i].has_before;
    forget_gone(s);
}

void scrape_commit(struct scrape *s, uint64_t at_us, scrape_fact *each, void *arg)
{
    fb_assert(!s->is_bad);
    fb_assert(at_us > 0);
    double seconds = s->last_us && at_us > s->last_us ? (double)(at_us - s->last_us) / 1e6 : 0;
    for (uint32_t i = 0; i < s->rules; i++) {
        sum_up(s, i, seconds);
        tell(s, i, seconds, each, arg);
        s->found[i] = s->counting[i];
    }
    for (uint32_t i = 0; i < s->count; i++) {
        struct series *at = &s->series[i];
        at->is_seen = at->is_seen && (at->shape != SHAPE_PAIR || (at->has_sum && at->has_count));
        at->before = at->now;
        at->sum_before = at->sum;
        at->has_before = true;
    }
    s->last_us = at_us;
    forget_gone(s);
}

/* Series that are no longer there make room. */
static void forget_gone(struct scrape *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->series[i].is_seen)
            s->series[n++] = s->series[i];
    if (n == s->count)
        return;
    s->count = n;
    memset(s->index, 0, sizeof s->index);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = (uint32_t)(s->series[k].key % INDEX_SIZE);
        while (s->index[i])
            i = (i + 1) % INDEX_SIZE;
        s->index[i] = (uint16_t)(k + 1);
    }
}

/* ---- numbers ---- */
static void add_bucket(struct total *t, double bound, double came)
{
    uint32_t i = 0;
    while (i < t->buckets && t->bucket[i].bound < bound)
        i++;
    if (i == t->buckets || t->bucket[i].bound > bound) {
        t->is_crowded |= t->buckets == BOUNDS_MAX;
        if (t->is_crowded)
            return;
        memmove(&t->bucket[i + 1], &t->bucket[i], (t->buckets - i) * sizeof t->bucket[0]);
        t->bucket[i] = (struct bucket){bound, 0};
        t->buckets++;
    }
    t->bucket[i].came += came;
}

static void add_series(struct scrape *s, const struct series *at)
{
    struct total *t = &s->total;
    bool is_reset = at->has_before && at->now < at->before;
    double came = is_reset ? at->now : at->now - at->before;
    if (at->shape == SHAPE_LEVEL) {
        t->least = t->levels ? fmin(t->least, at->now) : at->now;
        t->most = t->levels ? fmax(t->most, at->now) : at->now;
        t->level += at->now;
        t->levels++;
        return;
    }
    if (!at->has_before || (at->shape == SHAPE_PAIR && !(at->has_count && at->has_sum)))
        return;
    s->resets += is_reset && at->shape != SHAPE_BUCKET;
    if (at->shape == SHAPE_BUCKET) {
        add_bucket(t, at->bound, came);
        return;
    }
    if (at->shape == SHAPE_PAIR) {
        t->count += came;
        t->sum += is_reset ? at->sum : at->sum - at->sum_before;
        t->pairs++;
        return;
    }
    t->least = t->rates ? fmin(t->least, came) : came;
    t->most = t->rates ? fmax(t->most, came) : came;
    t->rate += came;
    t->rates++;
}

static void sum_up(struct scrape *s, uint32_t rule, double seconds)
{
    s->total = (struct total){0};
    for (uint32_t i = 0; i < s->count; i++) {
        const struct series *at = &s->series[i];
        if (at->rule == rule && at->is_seen && (at->shape == SHAPE_LEVEL || seconds > 0))
            add_series(s, at);
    }
}

/* Linear within a bucket, as histogram_quantile of Prometheus. */
static bool quantile_of(const struct total *t, double *value)
{
    double whole = t->buckets ? t->bucket[t->buckets - 1].came : 0, below = 0, from = 0;
    if (t->is_crowded || t->buckets < 2 || !isinf(t->bucket[t->buckets - 1].bound) || !(whole > 0))
        return false;
    for (uint32_t i = 0; i < t->buckets; i++) {
        const struct bucket *b = &t->bucket[i];
        if (b->came < QUANTILE * whole) {
            below = fmax(below, b->came);
            from = b->bound;
            continue;
        }
        if (i == t->buckets - 1)
            *value = t->bucket[i - 1].bound;
        else if (i == 0 && b->bound <= 0)
            *value = b->bound;
        else
            *value = from + (b->bound - from) * (QUANTILE * whole - below) / (b->came - below);
        return true;
    }
    return false;
}

struct telling {
    const struct scrape_rule *rule;
    scrape_fact *each;
    void *arg;
};

static void say(const struct telling *t, const char *end, double value)
{
    char name[SCRAPE_FACT_BYTES_MAX + SCRAPE_END_BYTES + 1];
    if (!isfinite(value))
        return;
    snprintf(name, sizeof name, "%.*s%s", (int)fb_min_u64(t->rule->fact.len, SCRAPE_FACT_BYTES_MAX),
             t->rule->fact.at, end);
    t->each(t->arg, name, value);
}

static double chosen(const struct total *t, enum scrape_how how, double sum, uint32_t count)
{
    return how == SCRAPE_MAX    ? t->most
           : how == SCRAPE_MIN  ? t->least
           : how == SCRAPE_MEAN ? sum / count
                                : sum;
}

static void tell(struct scrape *s, uint32_t rule, double seconds, scrape_fact *each, void *arg)
{
    const struct total *t = &s->total;
    struct telling to = {&s->rule[rule], each, arg};
    enum scrape_how how = s->rule[rule].how;
    double value;
    if (t->levels)
        say(&to, "", chosen(t, how, t->level, t->levels));
    else if (t->rates)
        say(&to, "", chosen(t, how, t->rate, t->rates) / seconds);
    if (!t->pairs)
        return;
    say(&to, ".rate", t->count / seconds);
    if (t->count > 0)
        say(&to, ".mean", t->sum / t->count);
    if (quantile_of(t, &value))
        say(&to, ".p99", value);
}

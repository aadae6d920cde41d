/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes to values.  Each reader says itself what is wrong: key, legal range, what stood there, next
 * step. */
#include "conf/conf_int.h"

#include "base/assert.h"

#include <stdio.h>

static const struct conf_key_row keys[KEY_COUNT] = {
#define KEY(lev, nam, shap, ...)                                                                   \
    [KEY_##lev##_##nam] = {.name = #nam, .level = LEVEL_##lev, .shape = SHAPE_##shap, __VA_ARGS__},
#include "conf/keys.def"
#undef KEY
};
static const struct conf_level_row levels[LEVEL_COUNT] = {
#define LEVEL(name, place, says) [LEVEL_##name] = {.where = place, .what = says},
#include "conf/keys.def"
#undef LEVEL
};

const struct conf_key_row *conf_key_row(enum conf_key key)
{
    return &keys[key];
}

const struct conf_level_row *conf_level_row(enum conf_level level)
{
    return &levels[level];
}

static const char *kind_name(const struct node *n)
{
    if (n->is_empty)
        return "nothing";
    return n->kind == NODE_LIST ? "a list" : n->kind == NODE_MAP ? "a map" : "a single value";
}

bool read_is(struct reader *rd, const struct node *n, enum node_kind kind, const char *example)
{
    char path[NODE_PATH_BYTES];
    static const char *const wanted[] = {"one value", "a list", "a map"};
    if (n->kind == kind && !n->is_empty)
        return true;
    node_path(n, path);
    problem(rd, n, "%s must be %s, got %s; for example %s", *path ? path : "the file", wanted[kind],
            kind_name(n), example);
    return false;
}

bool read_scalar(struct reader *rd, const struct node *n, struct span *text)
{
    char path[NODE_PATH_BYTES];
    if (n->kind == NODE_SCALAR && !n->is_empty) {
        *text = n->text;
        return true;
    }
    if (n->is_empty)
        problem(rd, n, "%s has no value: write one, or remove the key", node_path(n, path));
    else
        problem(rd, n, "%s must be one value, got %s", node_path(n, path), kind_name(n));
    return false;
}

bool read_str(struct reader *rd, const struct node *n, const char **text)
{
    struct span s;
    if (!read_scalar(rd, n, &s))
        return false;
    *text = arena_text(rd->keep, s);
    return true;
}

static void number_problem(struct reader *rd, const struct node *n, enum conf_type type,
                           enum value_fault fault)
{
    char path[NODE_PATH_BYTES];
    const char *hint = value_unit_hint(type);
    node_path(n, path);
    switch (fault) {
    case VALUE_NO_UNIT:
        problem(rd, n, "%s needs a unit, got \"%.*s\"; write for example %s", path, SHOWN(n->text),
                hint);
        return;
    case VALUE_TOO_FINE:
        problem(rd, n, "%s has finer steps than its unit allows, got \"%.*s\"; %s", path,
                SHOWN(n->text),
                type == CONF_TYPE_pct   ? "whole percents"
                : type == CONF_TYPE_dur ? "whole milliseconds at least"
                                        : "whole bytes at least");
        return;
    case VALUE_DECIMAL_UNIT:
        problem(
            rd, n,
            "%s has an ambiguous unit, got \"%.*s\"; sizes are binary here: write for example %s",
            path, SHOWN(n->text), hint);
        return;
    case VALUE_OK:
    case VALUE_BAD:
    case VALUE_TOO_LARGE:
        problem(rd, n, "%s is not understood: \"%.*s\"; write for example %s", path, SHOWN(n->text),
                hint);
        return;
    }
}

static void range_problem(struct reader *rd, const struct node *n, enum conf_type type,
                          struct conf_range may)
{
    char path[NODE_PATH_BYTES];
    struct buf range;
    buf_init(&range, 128);
    value_print(type, may.min, &range);
    buf_puts(&range, "..");
    value_print(type, may.max, &range);
    problem(rd, n, "%s must be %s, got %.*s", node_path(n, path), buf_str(&range), SHOWN(n->text));
    buf_fini(&range);
}

bool read_number(struct reader *rd, const struct node *n, enum conf_type type,
                 struct conf_range range, uint64_t *value)
{
    struct span s;
    uint64_t got = 0;
    if (!read_scalar(rd, n, &s))
        return false;
    enum value_fault fault = value_of_type(type, s, &got);
    if (fault == VALUE_TOO_LARGE || (fault == VALUE_OK && (got < range.min || got > range.max))) {
        range_problem(rd, n, type, range);
        return false;
    }
    if (fault == VALUE_TOO_FINE && type == CONF_TYPE_dur && range.min > 0 &&
        value_dur_us(s, &got) == VALUE_OK &&
        got < range.min *
                  1000) { /* 500us where 10ms is the least: the range says more than the step */
        range_problem(rd, n, type, range);
        return false;
    }
    if (fault != VALUE_OK) {
        number_problem(rd, n, type, fault);
        return false;
    }
    *value = got;
    return true;
}

bool read_key_number(struct reader *rd, const struct node *n, enum conf_key key, uint64_t *value)
{
    const struct conf_key_row *row = &keys[key];
    return read_number(rd, n,
                       row->shape == SHAPE_DUR     ? CONF_TYPE_dur
                       : row->shape == SHAPE_BYTES ? CONF_TYPE_bytes
                                                   : CONF_TYPE_u32,
                       (struct conf_range){row->min, row->max}, value);
}

bool read_bool(struct reader *rd, const struct node *n, bool *value)
{
    char path[NODE_PATH_BYTES];
    struct span s;
    if (!read_scalar(rd, n, &s))
        return false;
    if (value_bool(s, value) == VALUE_OK)
        return true;
    problem(rd, n, "%s must be true or false, got \"%.*s\"", node_path(n, path), SHOWN(s));
    return false;
}

bool read_switch(struct reader *rd, const struct node *n, const char *example, bool *value)
{
    char path[NODE_PATH_BYTES];
    struct span s;
    if (!read_scalar(rd, n, &s))
        return false;
    if (value_bool(s, value) == VALUE_OK)
        return true;
    problem(rd, n, "%s must be on, off or a map, got \"%.*s\"; for example %s", node_path(n, path),
            SHOWN(s), example);
    return false;
}

bool read_word(struct reader *rd, const struct node *n, const char *words, int *index)
{
    char path[NODE_PATH_BYTES], list[240] = "";
    struct span s;
    if (!read_scalar(rd, n, &s))
        return false;
    int found = value_word(s, words);
    if (found >= 0) {
        *index = found;
        return true;
    }
    struct near near = {.word = s};
    char word[12][24];
    size_t count = 0, len = 0;
    for (struct span rest = span_of(words); rest.len && count < FB_COUNT(word); count++) {
        fb_assert(len < sizeof list);
        struct span one = span_cut(rest, '|', &rest);
        snprintf(word[count], sizeof word[count], "%.*s", SPAN_ARG(one));
        near_try(&near, word[count]);
        len += (size_t)snprintf(list + len, sizeof list - len, "%s%s",
                                count == 0 ? ""
                                : rest.len ? ", "
                                           : " or ",
                                word[count]);
    }
    node_path(n, path);
    if (near.best)
        problem(rd, n, "%s must be %s, got \"%.*s\"; did you mean `%s`?", path, list, SHOWN(s),
                near.best);
    else
        problem(rd, n, "%s must be %s, got \"%.*s\"", path, list, SHOWN(s));
    return false;
}

bool read_words(struct reader *rd, const struct node *n, const char *words, uint64_t *bits)
{
    int index;
    *bits = 0;
    if (n->kind != NODE_LIST) {
        bool is_good = read_word(rd, n, words, &index);
        *bits = is_good ? UINT64_C(1) << index : 0;
        return is_good;
    }
    for (const struct node *p = n->first; p; p = p->next) {
        if (!read_word(rd, p, words, &index))
            return false;
        *bits |= UINT64_C(1) << index;
    }
    return true;
}

/* Keys of brokers and files have names that fit everywhere: nobody who errs elsewhere means them.
 */
static bool is_common(enum conf_level level)
{
    return level < LEVEL_CONNECTOR;
}

/* Where a key that is unknown here is at home: "under services.NAME"; false when nowhere. */
static bool home_of(struct span name, enum conf_level not_here, char *out, size_t out_bytes)
{
    size_t count;
    const struct conf_param_row *rows = conf_param_rows(&count);
    for (int k = 0; k < KEY_COUNT; k++) {
        if (keys[k].level == not_here || !span_eq(name, span_of(keys[k].name)) ||
            (is_common(not_here) && !is_common(keys[k].level)))
            continue;
        snprintf(out, out_bytes, "%s %s", keys[k].level == LEVEL_TOP ? "at" : "under",
                 levels[keys[k].level].where);
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        bool is_top = strcmp(rows[i].section, "top") == 0;
        if (is_top && not_here == LEVEL_TOP)
            continue;
        if (!is_top && span_eq(name, span_of(rows[i].section)) && not_here != LEVEL_TOP) {
            snprintf(out, out_bytes, "at the top level");
            return true;
        }
        if (span_eq(name, span_of(rows[i].name))) {
            snprintf(out, out_bytes, is_top ? "at the top level" : "under %s", rows[i].section);
            return true;
        }
    }
    return false;
}

static void unknown_key(struct reader *rd, const struct node *key, enum conf_level level)
{
    char home[64];
    struct near near = {.word = key->text};
    for (int k = 0; k < KEY_COUNT; k++)
        if (keys[k].level == level && !keys[k].is_planned)
            near_try(&near, keys[k].name);
    if (level == LEVEL_TOP) {
        size_t count;
        const struct conf_param_row *rows = conf_param_rows(&count);
        for (size_t i = 0; i < count; i++)
            near_try(&near, strcmp(rows[i].section, "top") == 0 ? rows[i].name : rows[i].section);
    }
    const char *where = levels[level].where;
    const char *advice = foreign_advice(key->text, level);
    if (span_eq(key->text, SPAN("<<")))
        problem(rd, key, "merge keys (<<) are not used here: write the values where they belong");
    else if (advice)
        problem(rd, key, "unknown key `%.*s` %s %s; %s", SHOWN(key->text),
                level == LEVEL_TOP ? "at" : "under", where, advice);
    else if (home_of(key->text, level, home, sizeof home))
        problem(rd, key, "`%.*s` belongs %s, not %s %s", SHOWN(key->text), home,
                level == LEVEL_TOP ? "at" : "under", where);
    else if (near.best)
        problem(rd, key, "unknown key `%.*s` %s %s; did you mean `%s`?", SHOWN(key->text),
                level == LEVEL_TOP ? "at" : "under", where, near.best);
    else
        problem(rd, key, "unknown key `%.*s` %s %s; `foldback reference config` lists all keys",
                SHOWN(key->text), level == LEVEL_TOP ? "at" : "under", where);
}

bool read_prefixes(struct reader *rd, const struct node *n, const struct conf_prefix **out,
                   size_t *count)
{
    char path[NODE_PATH_BYTES];
    if (!read_is(rd, n, NODE_LIST, "[10.0.0.0/8, \"fd00::/8\"]"))
        return false;
    if (n->count == 0 || n->count > CONF_PREFIXES_MAX) {
        problem(rd, n, "%s must have 1..%d prefixes, got %u", node_path(n, path), CONF_PREFIXES_MAX,
                n->count);
        return false;
    }
    struct conf_prefix *at = arena_get(rd->keep, n->count * sizeof *at);
    if (!at)
        return false;
    size_t errors = rd->report->error_count;
    for (const struct node *k = n->first; k; k = k->next) {
        struct span s;
        if (read_scalar(rd, k, &s) && !conf_prefix_read(s, &at[(*count)++]))
            problem(rd, k,
                    "%s must be an address, or a network such as 10.0.0.0/8 with no bit set "
                    "behind its length, got \"%.*s\"",
                    node_path(k, path), SHOWN(s));
    }
    *out = at;
    return rd->report->error_count == errors;
}

int read_key(struct reader *rd, const struct node *child, enum conf_level level)
{
    for (int k = 0; k < KEY_COUNT; k++) {
        if (keys[k].level != level || !span_eq(child->key->text, span_of(keys[k].name)))
            continue;
        if (!keys[k].is_planned)
            return k;
        problem(rd, child->key, "`%s` is not in this version yet: remove it", keys[k].name);
        return -1;
    }
    unknown_key(rd, child->key, level);
    return -1;
}

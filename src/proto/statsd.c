/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/statsd.h"

#include <math.h>
#include <stdlib.h>

#define NUMBER_BYTES_MAX 40

/* Decimal, finite; no hexadecimal, no names of infinity. */
static bool number_of(struct span s, double *value)
{
    char text[NUMBER_BYTES_MAX + 1], *end;
    if (s.len == 0 || s.len > NUMBER_BYTES_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        bool is_part =
            (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E';
        if (!is_part)
            return false;
        text[i] = c;
    }
    text[s.len] = '\0';
    *value = strtod(text, &end);
    return *end == '\0' && end != text && isfinite(*value);
}

bool statsd_next(struct span *values, double *value)
{
    if (values->len == 0)
        return false;
    struct span one = span_cut(*values, ':', values);
    return number_of(one, value);
}

static bool are_numbers(struct span values)
{
    double value;
    if (values.len == 0 || values.at[values.len - 1] == ':')
        return false;
    while (values.len)
        if (!statsd_next(&values, &value))
            return false;
    return true;
}

static bool kind_of(struct span type, enum statsd_kind *kind)
{
    static const struct {
        const char *type;
        enum statsd_kind kind;
    } types[] = {{"c", STATSD_COUNTER}, {"m", STATSD_COUNTER}, {"g", STATSD_GAUGE},
                 {"ms", STATSD_TIMER},  {"h", STATSD_TIMER},   {"d", STATSD_TIMER},
                 {"s", STATSD_SET}};
    for (size_t i = 0; i < FB_COUNT(types); i++)
        if (span_eq(type, span_of(types[i].type))) {
            *kind = types[i].kind;
            return true;
        }
    return false;
}

/* What follows the type: |@0.5 |#a:b,c |c:container |T1656581400 |card:low; unknown ones are passed
 * over. */
static enum statsd_fault read_rest(struct span rest, struct statsd_line *out)
{
    while (rest.len) {
        struct span part = span_cut(rest, '|', &rest);
        if (part.len == 0)
            continue;
        struct span value = {part.at + 1, part.len - 1};
        if (part.at[0] == '#')
            out->tags = value;
        else if (part.at[0] == '@' &&
                 (!number_of(value, &out->rate) || !(out->rate > 0) || out->rate > 1))
            return STATSD_BAD_VALUE;
    }
    return STATSD_OK;
}

/* Digits before <end>; what follows it is <rest>. */
static bool cut_count(struct span *rest, char end, size_t *count)
{
    uint64_t n = 0;
    struct span after, digits = span_cut(*rest, end, &after);
    if (digits.len == rest->len || digits.len > 6 || !span_to_u64(digits, &n))
        return false;
    *rest = after;
    *count = (size_t)n;
    return true;
}

/* {title bytes,text bytes}:title|text|... */
static enum statsd_fault read_event(struct span rest, struct statsd_line *out)
{
    size_t title = 0, text = 0;
    if (!cut_count(&rest, ',', &title) || !cut_count(&rest, '}', &text) || title == 0)
        return STATSD_BAD_SYNTAX;
    size_t need = 1 + title + 1 + text;
    if (rest.len < need || rest.at[0] != ':' || rest.at[1 + title] != '|' ||
        (rest.len > need && rest.at[need] != '|'))
        return STATSD_BAD_SYNTAX;
    out->kind = STATSD_EVENT;
    out->name = (struct span){rest.at + 1, title};
    out->values = (struct span){rest.at + 1 + title + 1, text};
    struct statsd_line ignored = *out; /* @ is no rate of an event */
    rest = (struct span){rest.at + need, rest.len - need};
    (void)read_rest(rest, &ignored);
    out->tags = ignored.tags;
    return STATSD_OK;
}

/* |name|status|...|m:text */
static enum statsd_fault read_check(struct span rest, struct statsd_line *out)
{
    out->kind = STATSD_CHECK;
    out->name = span_cut(rest, '|', &rest);
    struct span status = span_cut(rest, '|', &rest);
    if (out->name.len == 0)
        return STATSD_BAD_NAME;
    if (status.len != 1 || status.at[0] < '0' || status.at[0] > '3')
        return STATSD_BAD_VALUE;
    out->status = status.at[0] - '0';
    while (rest.len) {
        if (span_starts(rest, SPAN("m:"))) {
            out->values =
                (struct span){rest.at + 2, rest.len - 2}; /* the last one: it may hold | */
            break;
        }
        struct span part = span_cut(rest, '|', &rest);
        if (part.len && part.at[0] == '#')
            out->tags = (struct span){part.at + 1, part.len - 1};
    }
    return STATSD_OK;
}

enum statsd_fault statsd_parse(struct span line, struct statsd_line *out)
{
    *out = (struct statsd_line){.rate = 1, .name = {"", 0}, .values = {"", 0}, .tags = {"", 0}};
    if (span_starts(line, SPAN("_e{")))
        return read_event((struct span){line.at + 3, line.len - 3}, out);
    if (span_starts(line, SPAN("_sc|")))
        return read_check((struct span){line.at + 4, line.len - 4}, out);
    struct span rest;
    out->name = span_cut(line, ':', &rest);
    if (out->name.len == 0)
        return STATSD_BAD_NAME;
    if (out->name.len == line.len)
        return STATSD_BAD_SYNTAX;
    out->values = span_cut(rest, '|', &rest);
    if (out->values.len == 0)
        return STATSD_BAD_VALUE;
    if (!kind_of(span_cut(rest, '|', &rest), &out->kind))
        return STATSD_BAD_TYPE;
    if (out->kind != STATSD_SET && !are_numbers(out->values))
        return STATSD_BAD_VALUE;
    out->is_relative =
        out->kind == STATSD_GAUGE && (out->values.at[0] == '+' || out->values.at[0] == '-');
    return read_rest(rest, out);
}
